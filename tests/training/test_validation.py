"""Validation, early stopping, and the best checkpoint: kept, found again, published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.config.schema import LoraSettings, RecipeConfig
from harness.models.adapter import Adapter
from harness.training.checkpoints import load_best, save_best, save_checkpoint
from harness.training.memory_plan import MemoryPlan
from harness.training.mfu import flop_per_token, matmul_rate
from harness.training.step_log import StepLog
from harness.training.validation import Best, validate
from tests.support.tiny import FAMILIES, base_of
from tests.support.training import sample, tiny_recipe, trained

HELD = [sample(f"v{i}", *shape, seed=90 + i) for i, shape in enumerate([(15, 5), (22, 4), (9, 3)])]
WATCHED: dict[str, Any] = {
    "eval_steps": 1,
    "load_best_model_at_end": True,
    "early_stopping_patience": 3,
    "num_train_epochs": 8.0,
    "learning_rate": 3e-2,
    "lr_scheduler_type": "constant",
}


def fit(
    folder: Path,
    on_step: Callable[[StepLog], None] = lambda entry: None,
    answer: Callable[[int], float | None] | None = None,
    **changes: Any,
) -> tuple[list[StepLog], dict[str, torch.Tensor], dict[str, Any], float]:
    """Train with a validation part; the log, the weights, the facts and the final loss on it."""
    base = base_of("llama")
    settings = tiny_recipe(**{**WATCHED, **changes})
    adapter = Adapter.attach(base, settings.lora, seed=0)
    entries: list[StepLog] = []

    def log(entry: StepLog) -> None:
        entries.append(entry)
        on_step(entry)

    facts = trained(base, adapter, settings, folder, log, validation=HELD, answer=answer)
    weights = {name: value.clone() for name, value in adapter.state().items()}
    return entries, weights, facts, validate(base, HELD, MemoryPlan(64)).loss


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[list[StepLog], dict[str, torch.Tensor], dict[str, Any], float]:
    """A training that was left in peace."""
    return fit(tmp_path_factory.mktemp("whole"))


def test_it_stops_early_and_publishes_the_best(whole: Any) -> None:
    entries, _, facts, loss = whole
    held = [entry.validation for entry in entries]
    best = min(range(len(held)), key=lambda i: held[i])
    assert facts["stopped_early"]
    assert len(entries) == facts["steps"] == best + 1 + 3 < entries[0].total
    assert facts["best_step"] == facts["published_step"] == best + 1
    assert facts["best_validation"] == held[best] == pytest.approx(loss, rel=1e-5)
    assert loss < held[-1]


@pytest.mark.parametrize("after", [1, 3, -1])
def test_a_killed_training_decides_the_same(whole: Any, tmp_path: Path, after: int) -> None:
    entries, weights, facts, _ = whole
    # Killed in the step after a checkpoint, with the best of then, or one of now, on the disk.
    stop = after if after > 0 else len(entries) - 1

    def kill(entry: StepLog) -> None:
        if entry.step == stop + 1:
            raise KeyError

    with pytest.raises(KeyError):
        fit(tmp_path, kill, save_steps=1)
    rest, resumed, again, _ = fit(tmp_path, save_steps=1)
    assert [(e.step, e.loss, e.validation) for e in rest] == [
        (e.step, e.loss, e.validation) for e in entries[stop:]
    ]
    assert {k: v for k, v in again.items() if k != "plan"} == {
        k: v for k, v in facts.items() if k != "plan"
    }
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)


def test_a_best_one_that_is_gone_starts_the_training_anew(whole: Any, tmp_path: Path) -> None:
    last = len(whole[0])

    def kill(entry: StepLog) -> None:
        if entry.step == last:
            raise KeyError

    with pytest.raises(KeyError):
        fit(tmp_path, kill, save_steps=1)
    for path in tmp_path.glob("best-*.pt"):
        path.write_bytes(path.read_bytes()[:-9])
    rest, resumed, *_ = fit(tmp_path, save_steps=1)
    assert len(rest) == last
    assert all(torch.equal(resumed[name], weights) for name, weights in whole[1].items())


def test_the_best_outlives_the_limit_on_checkpoints(tmp_path: Path) -> None:
    save_best(tmp_path, 1, {"x": torch.tensor(1)})
    for step in range(1, 6):
        save_checkpoint(tmp_path, step, {"x": torch.tensor(step)}, limit=2)
    assert load_best(tmp_path, 1) == {"x": torch.tensor(1)}
    save_best(tmp_path, 6, {"x": torch.tensor(6)})  # the checkpoints may still go back to 1
    assert load_best(tmp_path, 1) is not None
    for step in (6, 7):
        save_checkpoint(tmp_path, step, {"x": torch.tensor(step)}, limit=2)
    assert load_best(tmp_path, 1) is None
    assert load_best(tmp_path, 6) is not None


def test_no_patience_is_no_early_stop_and_nan_is_never_the_best() -> None:
    best = Best()
    assert not best.update(1, float("nan"))
    assert best.update(2, 1.0)
    assert not best.update(3, 1.0)
    assert best.exhausted(1)
    assert not best.exhausted(0)
    assert Best(**best.state_dict()) == best


def test_validation_counts_first_choices_over_all_rows() -> None:
    base = base_of("llama")
    found = validate(base, HELD, MemoryPlan(24))
    hits = count = 0
    nll = 0.0
    for each in HELD:
        with torch.inference_mode():
            logp = base.model(input_ids=torch.tensor([each.ids])).logits[0].log_softmax(-1)
        for at in range(each.prompt_tokens, len(each.ids)):
            hits += int(logp[at - 1].argmax()) == each.ids[at]
            nll -= float(logp[at - 1, each.ids[at]])
            count += 1
    assert found.accuracy == hits / count
    assert found.loss == pytest.approx(nll / count, rel=1e-5)


def test_answers_are_asked_for_at_each_validation(tmp_path: Path) -> None:
    asked: list[int] = []
    entries, *_ = fit(
        tmp_path,
        answer=lambda step: asked.append(step) or 0.25,  # type: ignore[func-returns-value]
        eval_steps=2,
        num_train_epochs=1.5,
    )
    assert asked == [2, 3]
    assert [entry.validation_rougeL for entry in entries] == [None, 0.25, 0.25]
    assert "rougeL 0.250" in (entries[-1].validation_line() or "")


def test_a_line_says_all_that_is_measured(whole: Any) -> None:
    line = whole[0][0].line()
    for word in ("step 1/16", "loss", "rate", "grad", "tok/s", "% MFU", "GiB", "left"):
        assert word in line
    row = whole[0][0].to_json()
    assert {"tokens_per_second", "mfu", "memory_gib", "seconds_left"} <= set(row)


def test_choosing_by_validation_needs_eval_steps() -> None:
    for wrong in ({"early_stopping_patience": 2}, {"load_best_model_at_end": True}):
        with pytest.raises(ValueError, match="need eval_steps"):
            RecipeConfig(name="x", **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_work_of_a_token_counts_linears_and_head_once(family: str) -> None:
    base = base_of(family)
    matrices = sum(m.weight.numel() for m in base.model.modules() if type(m) is torch.nn.Linear)
    assert flop_per_token(base) == 4 * matrices
    Adapter.attach(base, LoraSettings(r=4), seed=0)
    assert flop_per_token(base) == 4 * matrices
    assert matmul_rate(torch.device("cpu"), torch.float32) > 1e8
