"""The peer of `bench job`, a process of its own: TRL's SFTTrainer, transformers' `generate`,
rouge-score. `python -m harness.benchmarks.peer_job FOLDER` reads spec.json and writes made.json."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

BATCH = 32
"""Prompts that are answered, or references that are scored, at a time: fast on two cores too."""


def main(folder: Path) -> None:
    """Train, answer, score; see `harness.benchmarks.job`."""
    spec = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(spec["weights"], padding_side="left")
    dtype = getattr(torch, spec["dtype"])
    model = AutoModelForCausalLM.from_pretrained(spec["weights"], dtype=dtype)
    model = model.to("cpu" if spec["cpu"] else "cuda")
    began = time.perf_counter()
    model = _trained(model, tokenizer, spec, folder)
    made: dict[str, Any] = {"train_seconds": time.perf_counter() - began}
    model.eval()
    answers_seconds = losses_seconds = 0.0
    for system in ("base", "tuned"):
        began = time.perf_counter()
        with torch.inference_mode(), _as(model, system):
            texts = _answers(model, tokenizer, spec)
            answers_seconds += time.perf_counter() - began
            began = time.perf_counter()
            made["cross_entropy"] = _loss(model, tokenizer, spec["test"])
            losses_seconds += time.perf_counter() - began
        made |= _scores(texts, [row["completion"] for row in spec["test"]])
    made |= {"answers_seconds": answers_seconds, "losses_seconds": losses_seconds}
    (folder / "made.json").write_text(json.dumps(made), encoding="utf-8")


def _trained(model: Any, tokenizer: Any, spec: dict[str, Any], folder: Path) -> Any:
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(folder / "trl"),
            per_device_train_batch_size=spec["batch"],
            gradient_accumulation_steps=1,
            max_steps=spec["steps"],
            learning_rate=spec["learning_rate"],
            lr_scheduler_type=spec["schedule"],
            warmup_steps=spec["warmup"],
            bf16=spec["dtype"] == "bfloat16",
            use_cpu=spec["cpu"],
            gradient_checkpointing=False,
            max_length=spec["max_length"],
            report_to="none",
            save_strategy="no",
        ),
        train_dataset=Dataset.from_list(spec["train"]),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            task_type="CAUSAL_LM",
            r=spec["r"],
            lora_alpha=spec["alpha"],
            target_modules="all-linear",
        ),
    )
    trainer.train()
    return trainer.model


def _as(model: Any, system: str) -> Any:
    from contextlib import nullcontext

    return model.disable_adapter() if system == "base" else nullcontext()


def _batches(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for at in range(0, len(rows), BATCH):
        yield rows[at : at + BATCH]


def _answers(model: Any, tokenizer: Any, spec: dict[str, Any]) -> list[str]:
    texts: list[str] = []
    for rows in _batches(spec["test"]):
        given = tokenizer([row["prompt"] for row in rows], return_tensors="pt", padding=True)
        given = given.to(model.device)
        made = model.generate(**given, max_new_tokens=spec["max_new_tokens"], do_sample=False)
        new = made[:, given["input_ids"].shape[1] :]
        texts += tokenizer.batch_decode(new, skip_special_tokens=True)
    return texts


def _loss(model: Any, tokenizer: Any, rows: Sequence[dict[str, str]]) -> float:
    """Nats a token of the references, as SFTTrainer sees them."""
    import torch

    total, count = 0.0, 0
    for some in _batches(rows):
        ids, labels = [], []
        for row in some:
            prompt = tokenizer(row["prompt"])["input_ids"]
            end = [tokenizer.eos_token_id]
            rest = tokenizer(row["completion"], add_special_tokens=False)["input_ids"] + end
            ids.append(prompt + rest)
            labels.append([-100] * len(prompt) + rest)
        width = max(map(len, ids))
        pad = tokenizer.pad_token_id or 0
        batch = {
            "input_ids": torch.tensor([i + [pad] * (width - len(i)) for i in ids]),
            "attention_mask": torch.tensor([[1] * len(i) + [0] * (width - len(i)) for i in ids]),
            "labels": torch.tensor([one + [-100] * (width - len(one)) for one in labels]),
        }
        tokens = int((batch["labels"] != -100).sum())
        batch = {name: value.to(model.device) for name, value in batch.items()}
        total += float(model(**batch).loss) * tokens
        count += tokens
    return total / count


def _scores(texts: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"])
    found = [scorer.score(r, t)["rougeL"].fmeasure for r, t in zip(references, texts, strict=True)]
    exact = sum(r == t for r, t in zip(references, texts, strict=True))
    return {"rougeL": sum(found) / len(found), "exact_match": exact / len(texts)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
