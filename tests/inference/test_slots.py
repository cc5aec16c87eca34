"""The engine over slots: equal to transformers' `generate`, and the same in any company."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.config.schema import LoraSettings
from harness.errors import UsageError
from harness.inference.engine import Engine
from harness.inference.fused import FusedRunner
from harness.inference.general import GeneralRunner
from harness.inference.local import decoder_of, engine_of
from harness.inference.request import Completion, Request, Sampling
from harness.models.adapter import Adapter
from tests.support.decoders import base_of, randomised
from tests.support.kinds import kind, load, saved
from tests.support.tiny import FAMILIES

GREEDY = Sampling(16, stop_token_ids=frozenset([0]))
SYSTEMS = ("base", "tuned")


def prompts(count: int, longest: int = 40) -> list[tuple[int, ...]]:
    draw = random.Random(0)
    lengths = [1, 2, longest, *(draw.randrange(1, longest) for _ in range(count - 3))]
    return [tuple(draw.randrange(2, 258) for _ in range(length)) for length in lengths]


def made(base: Any, adapter: Adapter | None, slots: int | None, general: bool = False) -> Engine:
    systems = {"base": None} if adapter is None else {"base": None, "tuned": adapter}
    decoder = None if general else decoder_of(base, *filter(None, [adapter]))
    return engine_of(base, systems, print, decoder, slots)


def answered(engine: Engine, requests: Sequence[Request]) -> dict[str, Completion]:
    for request in requests:
        engine.submit(request)
    found = {}
    while not engine.idle:
        found |= {one.id: replace(one, seconds=0.0) for one in engine.step().finished}
    return found


def both(asked: Sequence[tuple[int, ...]], sampling: Sampling = GREEDY) -> list[Request]:
    """Each prompt for both systems, mixed."""
    return [
        Request(f"{system} {i}", ids, sampling, system)
        for i, ids in enumerate(asked)
        for system in SYSTEMS
    ]


def generated(
    base: Any, adapter: Adapter, asked: Sequence[tuple[int, ...]], count: int = 16
) -> dict[str, tuple[int, ...]]:
    """Greedy answers by transformers, one at a time, up to id 0."""
    found = {}
    for system in SYSTEMS:
        adapter.switch(on=system == "tuned")
        for i, ids in enumerate(asked):
            out = base.model.generate(
                torch.tensor([ids]), max_new_tokens=count, do_sample=False, pad_token_id=0
            )[0, len(ids) :].tolist()
            found[f"{system} {i}"] = tuple(out[: out.index(0)] if 0 in out else out)
    adapter.switch(on=True)
    return found


@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_mixed_systems_at_any_number_of_slots_are_generates(family: str, general: bool) -> None:
    base = base_of(family)
    adapter = randomised(base, LoraSettings(r=4))
    asked = prompts(9)
    wanted = generated(base, adapter, asked)
    for slots in (1, 2, 3, 5, 9, 17):
        engine = made(base, adapter, slots, general)
        kind = GeneralRunner if general else FusedRunner
        assert isinstance(engine.runner, kind)
        found = answered(engine, both(asked))
        assert {key: one.token_ids for key, one in found.items()} == wanted
        assert engine.slots <= max(slots, 1)
        assert all(
            one.finish_reason == "stop" or len(one.token_ids) == 16 for one in found.values()
        )


@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_several_adapters_of_one_base_answer_in_one_batch(
    family: str, general: bool, tmp_path: Path
) -> None:
    other = base_of(family)
    # Of another rank, on fewer linears, and a third one that scales otherwise.
    narrow = "query_key_value" if family == "falcon" else "q_proj"
    settings = (LoraSettings(r=6, target_modules=[narrow]), LoraSettings(r=2, use_rslora=True))
    for at, each in enumerate(settings):
        saved_adapter = randomised(other, each, seed=at + 7)
        for parameter in saved_adapter.parameters():
            parameter.data.mul_(5)
        saved_adapter.save(tmp_path / f"{at}")
        saved_adapter.detach()
    base = base_of(family)
    first = randomised(base, LoraSettings(r=4))
    adapters = {"base": None, "tuned": first}
    adapters |= {f"{at}": first.beside(tmp_path / f"{at}") for at in range(2)}
    for adapter in filter(None, adapters.values()):
        adapter.check_live([5, 6, 7])
    asked = prompts(6)
    wanted = {}
    for name, adapter in adapters.items():
        (adapter or first).switch(on=adapter is not None)
        for i, ids in enumerate(asked):
            out = base.model.generate(
                torch.tensor([ids]), max_new_tokens=16, do_sample=False, pad_token_id=0
            )[0, len(ids) :].tolist()
            wanted[f"{name} {i}"] = tuple(out[: out.index(0)] if 0 in out else out)
    every = {tuple(wanted[f"{name} {i}"] for i in range(6)) for name in adapters}
    assert len(every) == len(adapters)
    decoder = None if general else decoder_of(base, *filter(None, adapters.values()))
    assert general or decoder is not None
    engine = engine_of(base, adapters, print, decoder, 7)
    engine.share(tuple(asked[0][:1]))
    requests = [
        Request(f"{name} {i}", ids, GREEDY, name)
        for i, ids in enumerate(asked)
        for name in adapters
    ]
    found = answered(engine, requests)
    assert {key: one.token_ids for key, one in found.items()} == wanted
    first.detach()
    assert not any("lora" in name for name, _ in base.model.named_modules())


@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_answers_bits_depend_on_its_request_alone(
    family: str, dtype: torch.dtype, general: bool
) -> None:
    base = base_of(family)
    base.model.to(dtype)
    base.dtype = dtype
    adapter = randomised(base, LoraSettings(r=4))
    asked = prompts(20, longest=150)  # beyond one extent of attention
    plain = replace(GREEDY, logprobs=True)
    drawn = Sampling(16, 1.0, 0.95, 50, 0.001, 1.1, 5, frozenset([0]), (), True)
    requests = both(asked, plain)[::2] + both(asked, drawn)[1::2]
    engine = made(base, adapter, 24, general)
    engine.reserve(requests)
    whole = answered(engine, requests)
    assert len({one.token_ids for one in whole.values()}) > len(asked)
    for request in requests[:3] + requests[-3:]:
        alone = answered(made(base, adapter, None, general), [request])
        assert alone == {request.id: whole[request.id]}
    order = requests[:]
    random.Random(3).shuffle(order)
    assert answered(made(base, adapter, 7, general), order) == whole


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prefix_is_read_once_for_each_system(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = base_of(family)
    adapter = randomised(base, LoraSettings(r=4))
    lead = tuple(range(20, 50))
    asked = [lead + ids for ids in prompts(6)] + [lead, lead[:9], prompts(4)[3]]
    read: list[int] = []
    real = FusedRunner._prefill

    def counted(runner: FusedRunner, state: Any, parts: Any) -> None:
        read.extend(end - first for *_, first, end in parts)
        real(runner, state, parts)

    monkeypatch.setattr(FusedRunner, "_prefill", counted)
    engine = made(base, adapter, 5)
    engine.share(lead)
    found = answered(engine, both(asked))
    assert {k: one.token_ids for k, one in found.items()} == generated(base, adapter, asked)
    assert read.count(len(lead)) == 2
    others = sum(len(ids) - 1 for ids in asked) - 6 * len(lead)
    assert sum(read) == 2 * (others + len(lead))
    alone = answered(made_with(base, adapter, lead), both(asked)[3:4])
    assert alone.items() <= found.items()


def made_with(base: Any, adapter: Adapter, lead: tuple[int, ...]) -> Engine:
    engine = made(base, adapter, None)
    engine.share(lead)
    return engine


def test_a_random_model_says_more_than_one_thing() -> None:
    """What the tests above compare is not all the same."""
    base = base_of("llama")
    adapter = randomised(base, LoraSettings(r=4))
    found = answered(made(base, adapter, 16), both(prompts(9)))
    assert len({one.token_ids for one in found.values()}) > 12


def test_a_step_follows_the_adapter_as_it_stands_when_slots_are_reserved() -> None:
    base = base_of("llama")
    adapter = randomised(base, LoraSettings(r=4))
    asked = prompts(6)
    decoder = decoder_of(base, adapter)
    for _ in range(2):
        engine = engine_of(base, {"base": None, "tuned": adapter}, print, decoder, 8)
        found = answered(engine, both(asked))
        assert {k: one.token_ids for k, one in found.items()} == generated(base, adapter, asked)
        with torch.no_grad():
            for parameter in adapter.parameters():
                parameter.mul_(1.4)


def test_a_base_without_an_adapter_answers() -> None:
    base = base_of("gemma3")
    engine = made(base, None, None)
    assert isinstance(engine.runner, FusedRunner)
    request = Request("x", (5, 6, 7), GREEDY, "base")
    (one,) = answered(engine, [request]).values()
    ids = torch.tensor([[5, 6, 7]])
    out = base.model.generate(ids, max_new_tokens=16, do_sample=False, pad_token_id=0)[0, 3:]
    wanted = out.tolist()
    assert one.token_ids == tuple(wanted[: wanted.index(0)] if 0 in wanted else wanted)


def test_an_answer_ends_with_a_text_and_keeps_it() -> None:
    base = base_of("llama")
    adapter = randomised(base, LoraSettings(r=4))
    asked = prompts(6)
    whole = answered(made(base, adapter, 4), both(asked))
    key, one = next((k, c) for k, c in whole.items() if len(c.token_ids) > 8)
    texts = [base.tokenizer.decode(one.token_ids[:n]) for n in range(len(one.token_ids) + 1)]
    stop = texts[6][-2:] if len(texts[6]) > 1 else texts[6]
    end = next(n for n, text in enumerate(texts) if stop in text)
    ended = answered(made(base, adapter, 4), both(asked, replace(GREEDY, stop=("zzzz", stop))))
    assert ended[key].token_ids == one.token_ids[:end]
    assert ended[key].finish_reason == "stop"


def test_logprobs_are_those_of_the_model() -> None:
    base = base_of("falcon")
    adapter = randomised(base, LoraSettings(r=4))
    request = Request("tuned", (9, 8, 7), Sampling(8, logprobs=True), "tuned")
    (one,) = answered(made(base, adapter, None), [request]).values()
    ids = torch.tensor([[9, 8, 7, *one.token_ids]])
    with torch.no_grad():
        logp = torch.log_softmax(base.model(input_ids=ids).logits[0], -1)
    wanted = [float(logp[2 + n, token]) for n, token in enumerate(one.token_ids)]
    assert one.logprobs == pytest.approx(wanted, abs=1e-5)
    (plain,) = answered(made(base, adapter, None), [replace(request, sampling=GREEDY)]).values()
    assert plain.logprobs == ()


def test_slots_are_made_longer_when_a_longer_request_comes() -> None:
    base = base_of("llama")
    adapter = randomised(base, LoraSettings(r=4))
    short, long = prompts(3)[1], tuple(range(2, 250)) * 2
    engine = made(base, adapter, 4)
    first = answered(engine, [Request("a", short, GREEDY, "tuned")])
    length = engine.runner.length
    found = answered(
        engine, [Request("b", long, GREEDY, "tuned"), Request("a", short, GREEDY, "tuned")]
    )
    assert engine.runner.length > length
    assert found["a"] == first["a"]
    engine.submit(Request("c", short, GREEDY, "tuned"))
    engine.step()
    with pytest.raises(UsageError, match="when it is idle"):
        engine.reserve([Request("d", long * 2, GREEDY, "tuned")] * 9)
    engine.clear()
    assert engine.idle


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_rotations_that_follow_the_length_are_left_to_transformers(kind: str) -> None:
    base = base_of("llama")
    base.model.config.rope_parameters = {"rope_type": kind, "rope_theta": 1e4, "factor": 2.0}
    assert isinstance(made(base, None, None).runner, GeneralRunner)


@pytest.mark.parametrize("name", ["convolution", "linear attention"])
def test_states_along_a_row_have_slots_too(name: str, tmp_path: Path) -> None:
    base = load(saved(kind(name), tmp_path))
    asked = prompts(7)
    engine = engine_of(base, {"base": None}, print, decoder_of(base), 3)
    found = answered(engine, [Request(f"{i}", ids, GREEDY, "base") for i, ids in enumerate(asked)])
    for i, ids in enumerate(asked):
        out = base.model.generate(
            torch.tensor([ids]), max_new_tokens=16, do_sample=False, pad_token_id=0
        )[0, len(ids) :].tolist()
        assert found[f"{i}"].token_ids == tuple(out[: out.index(0)] if 0 in out else out)
