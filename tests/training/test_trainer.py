"""The loop: accumulation, resumption, faults, and that it learns."""

from __future__ import annotations

import copy
import itertools
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.config.schema import LoraSettings
from harness.data.tokens import TokenSample
from harness.errors import DivergedError, Interrupted, RunError, UsageError
from harness.models.adapter import Adapter
from harness.training import loop, trainable_decoder, trainer
from harness.training.accumulate import accumulate
from harness.training.checkpoints import newest_checkpoint, save_checkpoint
from harness.training.memory_plan import MemoryPlan, PlanConstraints
from harness.training.schedule import examples_of_step, learning_rate, total_steps
from harness.training.step_log import StepLog
from harness.training.trainable_decoder import TrainableDecoder
from harness.training.trainer import Trainer
from tests.support.tiny import FAMILIES, base_of
from tests.support.training import SAMPLES, tiny_recipe, trained


def fit(
    folder: Path,
    samples: list[TokenSample] | None = None,
    on_step: Callable[[StepLog], None] = lambda entry: None,
    **changes: Any,
) -> tuple[list[StepLog], dict[str, torch.Tensor]]:
    """Train a fresh adapter on a fresh tiny llama; what was logged and the adapter's weights."""
    base = base_of("llama")
    settings = tiny_recipe(**changes)
    adapter = Adapter.attach(base, settings.lora, seed=0)
    entries: list[StepLog] = []

    def log(entry: StepLog) -> None:
        entries.append(entry)
        on_step(entry)

    trained(base, adapter, settings, folder, log, samples=samples or SAMPLES)
    return entries, adapter.state()


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_an_accumulated_step_equal_those_of_one_batch(family: str) -> None:
    base = base_of(family)
    adapter = Adapter.attach(base, LoraSettings(r=4), seed=0)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(std=0.1)
    scaler = torch.amp.GradScaler("cpu", enabled=False)

    def gradients(capacity: int) -> list[torch.Tensor]:
        for parameter in adapter.parameters():
            parameter.grad = None
        accumulate(base, SAMPLES, MemoryPlan(capacity), scaler)
        return [p.grad.clone() for p in adapter.parameters() if p.grad is not None]

    # The second witness: one padded batch through transformers' own loss.
    width = max(len(s.ids) for s in SAMPLES)
    ids = torch.tensor([list(s.ids) + [0] * (width - len(s.ids)) for s in SAMPLES])
    mask = torch.tensor([[1] * len(s.ids) + [0] * (width - len(s.ids)) for s in SAMPLES])
    labels = torch.full_like(ids, -100)
    for row, s in enumerate(SAMPLES):
        first = max(s.prompt_tokens, 1)
        labels[row, first : len(s.ids)] = torch.tensor(s.ids[first:])
    for parameter in adapter.parameters():
        parameter.grad = None
    base.model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss.backward()
    wanted = [p.grad.clone() for p in adapter.parameters() if p.grad is not None]

    assert len(wanted) == len(adapter.parameters())
    for capacity in (16, 64, 10_000):
        found = gradients(capacity)
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_the_logged_loss_is_the_mean_over_scored_tokens(tmp_path: Path) -> None:
    entries, _ = fit(tmp_path, max_steps=1, gradient_accumulation_steps=4, lora=LoraSettings(r=2))
    base = base_of("llama")
    ids = [torch.tensor([s.ids]) for s in SAMPLES]
    nll, count = 0.0, 0
    for s, each in zip(SAMPLES, ids, strict=True):
        with torch.inference_mode():
            logp = torch.log_softmax(base.model(input_ids=each).logits[0], -1)
        for at in range(max(s.prompt_tokens, 1), len(s.ids)):
            nll -= float(logp[at - 1, s.ids[at]])
            count += 1
    assert entries[0].scored == count
    assert entries[0].loss == pytest.approx(nll / count, rel=1e-5)


def test_resuming_anywhere_gives_the_same_curve_and_weights(tmp_path: Path) -> None:
    whole, weights = fit(tmp_path / "whole")
    assert [entry.step for entry in whole] == [1, 2, 3, 4, 5, 6]  # two steps an epoch
    for stop in (1, 3, 5):
        folder = tmp_path / str(stop)

        class Kill(Exception):
            pass

        def kill(entry: StepLog, at: int = stop) -> None:
            if entry.step == at + 1:
                raise Kill

        with pytest.raises(Kill):
            fit(folder, on_step=kill, save_steps=1)
        found = newest_checkpoint(folder)
        assert found is not None
        assert found[0] == stop
        rest, resumed = fit(folder, save_steps=1)
        assert [(e.step, e.loss, e.grad_norm) for e in rest] == [
            (e.step, e.loss, e.grad_norm) for e in whole[stop:]
        ]
        assert all(torch.equal(resumed[name], weights[name]) for name in weights)


def test_an_8_bit_optimizer_resumes_too(tmp_path: Path) -> None:
    # Small tensors stay in 32 bits in bitsandbytes; rank 64 gives matrices over its threshold.
    lora = LoraSettings(r=64)
    whole, weights = fit(tmp_path / "whole", optim="adamw_8bit", lora=lora)

    def kill(entry: StepLog) -> None:
        if entry.step == 4:
            raise KeyError

    with pytest.raises(KeyError):
        fit(tmp_path / "cut", on_step=kill, optim="adamw_8bit", lora=lora, save_steps=1)
    rest, resumed = fit(tmp_path / "cut", optim="adamw_8bit", lora=lora)
    assert [e.loss for e in rest] == [e.loss for e in whole[3:]]
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_trainer_goes_on_from_the_state_of_another(family: str) -> None:
    def trainer_of() -> Trainer:
        base, recipe = base_of(family), tiny_recipe()
        adapter = Adapter.attach(base, recipe.lora, seed=0)
        return Trainer(base, adapter, SAMPLES, [], recipe, 0, lambda line: None)

    def steps(made: Trainer, first: int, last: int) -> list[tuple[float, float]]:
        return [made.wait_for(made.train_step(SAMPLES[i : i + 4]))[:2] for i in range(first, last)]

    one, other = trainer_of(), trainer_of()
    one.prepare()
    steps(one, 0, 2)
    state = copy.deepcopy(one.state_dict())
    other.load_state_dict(state)
    other.prepare()
    assert steps(one, 2, 4) == steps(other, 2, 4)
    assert one.step == other.step == 4
    weights = other.adapter.state()
    assert all(torch.equal(value, weights[name]) for name, value in one.adapter.state().items())


def test_a_signal_leaves_a_checkpoint_of_the_step_that_ended(tmp_path: Path) -> None:
    import os
    import signal

    from harness.host import signals

    def interrupt(entry: StepLog) -> None:
        if entry.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted), signals.handling():
        fit(tmp_path, on_step=interrupt)
    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert found[0] == 2


def test_a_signal_at_the_last_step_loses_nothing(tmp_path: Path) -> None:
    import os
    import signal

    from harness.host import signals

    def interrupt(entry: StepLog) -> None:
        if entry.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    _, weights = fit(tmp_path / "whole")
    with pytest.raises(Interrupted), signals.handling():
        fit(tmp_path / "cut", on_step=interrupt)
    rest, resumed = fit(tmp_path / "cut")
    assert rest == []
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)


def test_a_device_kept_ahead_takes_the_same_steps_and_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import signal

    from harness.host import signals

    whole, weights = fit(tmp_path / "whole")
    monkeypatch.setitem(loop.LOOKAHEAD, "cpu", 1)
    real = trainer.accumulate
    begun: list[int] = []
    known: list[tuple[int, int]] = []

    def counted(*given: Any) -> torch.Tensor:
        begun.append(len(begun) + 1)
        return real(*given)

    monkeypatch.setattr(trainer, "accumulate", counted)
    ahead, same = fit(
        tmp_path / "ahead", on_step=lambda e: known.append((e.step, len(begun))), save_steps=3
    )
    # Before each look one more step is begun, but not past a checkpoint or the end.
    assert known == [(1, 2), (2, 3), (3, 3), (4, 5), (5, 6), (6, 6)]
    assert [(e.step, e.loss, e.grad_norm) for e in ahead] == [
        (e.step, e.loss, e.grad_norm) for e in whole
    ]
    assert all(torch.equal(same[name], weights[name]) for name in weights)

    logged: list[int] = []

    def interrupt(entry: StepLog) -> None:
        logged.append(entry.step)
        if entry.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted), signals.handling():
        fit(tmp_path / "cut", on_step=interrupt)
    found = newest_checkpoint(tmp_path / "cut")
    assert found is not None
    assert found[0] == 3  # which had begun
    assert logged == [1, 2, 3]
    rest, resumed = fit(tmp_path / "cut")
    assert [e.step for e in rest] == [4, 5, 6]
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)

    steps: list[int] = []
    with pytest.raises(DivergedError, match="at step 2 "):
        fit(
            tmp_path / "nan", on_step=lambda e: steps.append(e.step), save_steps=1,
            learning_rate=1e30, max_grad_norm=1e30,
        )  # fmt: skip
    assert steps == [1]
    found = newest_checkpoint(tmp_path / "nan")
    assert found is not None
    assert found[0] == 1


def test_an_overflowed_gradient_norm_is_journaled_as_null() -> None:
    entry = StepLog(1, 2, 0.5, 1.0, 1e-3, float("inf"), 10, 5, 0.1)
    assert entry.to_json()["grad_norm"] is None
    assert "grad inf" in entry.line()


def test_checkpoints_are_limited_and_a_damaged_one_is_passed_over(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, {"x": torch.tensor(step)}, limit=2)
    assert sorted(f.name for f in tmp_path.glob("*.pt")) == ["step-00000002.pt", "step-00000003.pt"]
    newest = tmp_path / "step-00000003.pt"
    newest.write_bytes(newest.read_bytes()[:-9])
    said: list[str] = []
    found = newest_checkpoint(tmp_path, said.append)
    assert found is not None
    assert found[0] == 2
    assert said == ["checkpoint step-00000003.pt is damaged; training goes on from step 2"]
    (tmp_path / "step-00000002.json").write_text("[]")
    (tmp_path / "step-00000003.json").unlink()  # as a kill between the two files leaves it
    said.clear()
    assert newest_checkpoint(tmp_path, said.append) is None
    assert said == [
        "checkpoint step-00000003.pt is unfinished; training begins anew",
        "checkpoint step-00000002.pt is damaged; training begins anew",
    ]


def test_a_checkpoint_carries_what_it_is_given(tmp_path: Path) -> None:
    base, settings = base_of("llama"), tiny_recipe(save_steps=2)
    log: list[dict[str, Any]] = []
    got: list[tuple[int, dict[str, Any]]] = []

    def step(entry: StepLog) -> None:
        log.append({"step": entry.step, "loss": entry.loss, "note": None})
        if entry.step == 5:
            raise KeyError

    def go_on(at: int, carried: dict[str, Any]) -> None:
        got.append((at, carried))

    for _ in range(2):
        adapter = Adapter.attach(base, settings.lora, seed=0)
        with pytest.raises(KeyError):
            trained(
                base, adapter, settings, tmp_path, step, resumed=go_on, carry=lambda: {"log": log}
            )
        adapter.detach()
    assert got[0] == (0, {})
    assert got[1] == (4, {"log": log[:4]})


def test_nan_stops_the_training_as_diverged(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match="lower the learning rate"):
        fit(tmp_path, learning_rate=1e30, max_grad_norm=1e30, num_train_epochs=20.0)


def test_out_of_memory_shrinks_the_plan_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = fit(tmp_path / "whole", lora=LoraSettings(r=4))
    real, failures = trainer.accumulate, itertools.count()

    def short(base: Any, batch: Any, plan: MemoryPlan, scaler: Any) -> torch.Tensor:
        if next(failures) < 4:
            raise torch.OutOfMemoryError
        return real(base, batch, plan, scaler)

    monkeypatch.setattr(trainer, "accumulate", short)
    said: list[str] = []
    base = base_of("llama")
    settings = tiny_recipe(lora=LoraSettings(r=4))
    adapter = Adapter.attach(base, settings.lora, seed=0)
    entries: list[StepLog] = []
    facts = trained(base, adapter, settings, tmp_path, entries.append, say=said.append)
    short_of = [line for line in said if "out of memory" in line]
    assert len(short_of) == 4
    assert "2 of 2 layers" in short_of[1]
    assert facts["plan"]["checkpointed"] == 2
    assert facts["plan"]["row_tokens"] == 256
    assert [e.loss for e in entries] == pytest.approx([e.loss for e in whole], rel=1e-4)

    monkeypatch.setattr(
        trainer, "accumulate", lambda *a: (_ for _ in ()).throw(torch.OutOfMemoryError)
    )
    with pytest.raises(RunError, match="runs out of memory"):
        fit(tmp_path / "never")


def test_memory_that_runs_out_within_a_step_is_free_before_the_next_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, head = TrainableDecoder.__init__, trainable_decoder.fused_cross_entropy
    made: list[weakref.ref[TrainableDecoder]] = []
    heads = itertools.count(1)

    def initialised(self: TrainableDecoder, *given: Any) -> None:
        assert not any(old() for old in made)
        made.append(weakref.ref(self))
        begin(self, *given)

    def short(*given: Any) -> Any:
        if next(heads) == failing:
            raise torch.OutOfMemoryError
        return head(*given)

    monkeypatch.setattr(TrainableDecoder, "__init__", initialised)
    monkeypatch.setattr(trainable_decoder, "fused_cross_entropy", short)

    def steps(folder: str) -> list[tuple[float, float]]:
        made.clear()
        base, settings, said = base_of("llama"), tiny_recipe(), []
        adapter = Adapter.attach(base, settings.lora, seed=0)
        entries: list[StepLog] = []
        trained(
            base, adapter, settings, tmp_path / folder, entries.append, say=said.append,
            fixed=PlanConstraints(row_tokens=48),
        )  # fmt: skip
        assert sum("out of memory" in line for line in said) == (failing > 0)
        return [(e.loss, e.grad_norm) for e in entries]

    failing = 0
    whole = steps("whole")
    rows = next(heads) - 1
    assert rows > len(whole)  # a step has several
    heads, failing = itertools.count(1), rows - 1
    short_of = steps("short")
    assert len(made) == 2
    assert short_of == [pytest.approx(each, rel=1e-5) for each in whole]


def test_a_resumed_training_keeps_its_rows(tmp_path: Path) -> None:
    base, settings = base_of("llama"), tiny_recipe(save_steps=1, max_steps=2)
    said: list[str] = []
    for steps, fixed in ((2, PlanConstraints(row_tokens=48)), (3, PlanConstraints())):
        adapter = Adapter.attach(base, settings.lora, seed=0)
        settings = settings.model_copy(update={"max_steps": steps})
        trained(base, adapter, settings, tmp_path, say=said.append, fixed=fixed)
        adapter.detach()
    assert any("goes on from step 1 of 3" in line for line in said)
    assert [line.split(",")[0] for line in said if "plan" in line] == [
        "plan: rows of 48 tokens"
    ] * 2


def test_checkpoints_of_abandoned_steps_do_not_outlive_new_ones(tmp_path: Path) -> None:
    tmp_path.joinpath("step-00000060.pt").write_bytes(b"damaged")
    (tmp_path / "step-00000070.pt" / "within").mkdir(parents=True)
    tmp_path.joinpath("step-00000060.json").write_text("{}")
    fit(tmp_path, save_steps=2, save_total_limit=1)
    assert sorted(f.name for f in tmp_path.glob("*.pt")) == ["step-00000004.pt"]


def test_overflows_that_never_end_are_a_divergence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, settings = base_of("llama"), tiny_recipe(num_train_epochs=40.0)
    base.model.half()
    base.dtype = torch.float16
    adapter = Adapter.attach(base, settings.lora, seed=0)
    until = 5

    def overflowing(base: Any, batch: Any, plan: MemoryPlan, scaler: Any) -> torch.Tensor:
        scaler.scale(torch.tensor(1.0))
        for parameter in adapter.parameters():
            big = len(entries) < until
            parameter.grad = torch.full_like(parameter, torch.inf if big else 1e-3)
        return torch.tensor(1.0)

    monkeypatch.setattr(trainer, "accumulate", overflowing)
    entries: list[StepLog] = []

    def run(folder: str) -> None:
        trained(base, adapter, settings, tmp_path / folder, entries.append)

    before = {name: value.clone() for name, value in adapter.state().items()}
    until = 1000
    with pytest.raises(DivergedError, match=f"at step {trainer.OVERFLOWS + 1} "):
        run("never")
    assert all(torch.equal(adapter.state()[name], before[name]) for name in before)
    entries.clear()
    until = 5
    run("five")
    assert [entry.to_json()["grad_norm"] is None for entry in entries[:6]] == [True] * 5 + [False]
    assert len(entries) == 80


def test_steps_epochs_and_order() -> None:
    settings = tiny_recipe(num_train_epochs=2.5)
    lengths = [7] * 10
    assert total_steps(settings, lengths) == 8  # three steps an epoch
    assert total_steps(tiny_recipe(max_steps=4), lengths) == 4
    for epoch in (0, 1):
        seen = [i for s in range(3) for i in examples_of_step(settings, lengths, 7, 3 * epoch + s)]
        assert sorted(seen) == list(range(10))
    assert examples_of_step(settings, lengths, 7, 0) != examples_of_step(settings, lengths, 8, 0)


def test_learning_rate_warms_up_and_ends_near_zero() -> None:
    for kind in ("cosine", "linear", "constant"):
        settings = tiny_recipe(lr_scheduler_type=kind, warmup_ratio=0.1)
        rates = [learning_rate(settings, step, 100) for step in range(100)]
        assert rates[:10] == pytest.approx([1e-2 * (i + 1) / 11 for i in range(10)])
        assert max(rates) == rates[10] == 1e-2
        assert rates[10:] == sorted(rates[10:], reverse=True)
        assert rates[-1] == 1e-2 if kind == "constant" else rates[-1] < 3e-4
    cosine = tiny_recipe(lr_scheduler_type="cosine", warmup_ratio=0.0)
    assert learning_rate(cosine, 50, 100) == pytest.approx(5e-3)


def test_target_modules_that_do_not_exist_are_named() -> None:
    with pytest.raises(UsageError, match=r"query_key_value.*its linear layers are down_proj"):
        Adapter.attach(base_of("llama"), LoraSettings(target_modules=["query_key_value"]), 0)
