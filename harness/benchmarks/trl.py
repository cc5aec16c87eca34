"""The peer: TRL's SFTTrainer on the same base, the same rows, the same adapter."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from harness.config.schema import LoraSettings
from harness.data.tokens import TokenSample
from harness.errors import MissingError
from harness.host.temporary import temporary_folder
from harness.models.adapter import Adapter
from harness.models.load import Base
from harness.models.quiet import quiet
from harness.training.memory_plan import checkpoint_layers

LENGTH = 1024
"""Tokens of a packed row, and of an example at most: SFTTrainer's own default."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How SFTTrainer is used. packing: "wrapped" cuts documents where a row is full, and each sees
    those before it in its row; "bfd" keeps them whole, with block-diagonal attention in models
    that heed positions. batch: rows of a forward pass; times accumulation they make a step."""

    packing: str = ""
    checkpointing: bool = True
    batch: int = 8
    accumulation: int = 4


def require() -> None:
    """Raise MissingError where TRL is not installed."""
    import importlib.util

    if importlib.util.find_spec("trl") is None:
        raise MissingError('bench train --against trl needs the package trl; pip install "trl".')


def run(
    base: Base, samples: Sequence[TokenSample], lora: LoraSettings, how: Settings, warm: int
) -> dict[str, Any]:
    """Train one epoch over `samples`, and measure the whole steps after the first `warm`.

    Returns real tokens a second by the wall, from one moment at which the device has done all that
    it was given to another; of those steps the share of positions that hold a token; and the last
    loss. Raises torch.OutOfMemoryError where it does not fit, ValueError where no step is left.
    """
    with quiet():
        import datasets
        from transformers import PrinterCallback, TrainerCallback
        from trl import SFTConfig, SFTTrainer

    cuda = base.device.type == "cuda"
    datasets.disable_progress_bars()

    class Watch(TrainerCallback):  # type: ignore[misc]
        times: dict[int, float] = {}  # noqa: RUF012 (made anew with the class)

        def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
            if state.global_step in (warm, last()):
                if cuda:
                    torch.cuda.synchronize()
                self.times[state.global_step] = time.perf_counter()

    def last() -> int:
        """The last whole step: what is left over after it is less work than a step."""
        return len(trainer.train_dataset) // (how.batch * how.accumulation)

    adapter = Adapter.attach(base, lora, 0)
    columns: dict[str, list[Any]] = {"input_ids": [list(s.ids) for s in samples]}
    if not how.packing:
        columns["completion_mask"] = [
            [int(i >= s.prompt_tokens) for i in range(len(s.ids))] for s in samples
        ]
    trainer: Any = None
    try:
        with temporary_folder("harness-bench-") as folder, quiet():
            trainer = SFTTrainer(
                model=adapter._peft,
                args=SFTConfig(
                    output_dir=str(folder),
                    per_device_train_batch_size=how.batch,
                    gradient_accumulation_steps=how.accumulation,
                    num_train_epochs=1,
                    learning_rate=1e-4,
                    bf16=base.dtype == torch.bfloat16,
                    use_cpu=not cuda,
                    gradient_checkpointing=how.checkpointing,
                    max_length=LENGTH,
                    packing=bool(how.packing),
                    packing_strategy=how.packing or "bfd",
                    report_to="none",
                    logging_steps=1,
                    save_strategy="no",
                    disable_tqdm=True,
                ),
                train_dataset=datasets.Dataset.from_dict(columns),
                processing_class=base.tokenizer,
            )
            inner, real, whole = trainer.data_collator, [], []

            def collate(rows: Any) -> Any:
                batch = inner(rows)
                mask = batch.get("attention_mask")
                ids = batch["input_ids"]
                real.append(int(ids.numel() if mask is None else mask.sum()))
                whole.append(ids.numel())
                return batch

            trainer.data_collator = collate
            trainer.remove_callback(PrinterCallback)
            trainer.add_callback(Watch())
            if last() <= warm:
                raise ValueError(
                    f"{len(samples)} rows make {last()} steps, and {warm} do not count"
                )
            trainer.train()
        counted = slice(warm * how.accumulation, last() * how.accumulation)
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return {
            "tokens_per_second": sum(real[counted]) / (Watch.times[last()] - Watch.times[warm]),
            "steps": last() - warm,
            "packing_efficiency": sum(real[counted]) / sum(whole[counted]),
            "loss": losses[-1],
        }
    finally:
        trainer = None
        adapter.detach()
        checkpoint_layers(base, False)
        gc.collect()
        if cuda:
            torch.cuda.empty_cache()
