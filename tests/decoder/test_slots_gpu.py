"""On a CUDA device only: attention over slots against plain torch, and the engine on the card."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from harness.config.schema import LoraSettings
from harness.decoder import slots
from harness.decoder.slots import DecodeAttention, Piece, PrefillAttention, tiles_of
from harness.inference.engine import Engine
from harness.inference.local import decoder_of, engine_of
from harness.inference.request import Request, Sampling
from tests.support.decoders import randomised
from tests.support.tiny import base_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

HEADS = [(8, 8, 64), (4, 4, 128), (8, 2, 128), (71, 1, 64), (4, 1, 256)]
LENGTH = 200


def tables(places: Any, size: int) -> Any:
    angle = places[:, None] * torch.linspace(1, 0.01, size // 2, device="cuda")[None]
    return angle.cos(), angle.sin()


def both(attention: Any, given: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The results of the kernels and of plain torch, each on caches of its own."""
    outs = []
    for plain in (False, True):
        q, k, v, keys, values = (each.clone() for each in given)
        out = torch.zeros_like(q)
        with monkeypatch.context() as patch:
            if plain:
                patch.setattr(slots, "_kernels", lambda x: None)
            attention(keys, values, plain).attend(q, k, v, out)
        outs.append((out, keys, values))
    return outs


@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize(("heads", "groups", "size"), HEADS)
def test_decode_is_plain_attention(
    heads: int, groups: int, size: int, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    kind = {"device": "cuda", "dtype": torch.bfloat16}
    places = torch.tensor([0, 1, 31, 32, 63, 64, 65, 127, 150, 199], device="cuda")
    rows = len(places)
    given = [
        torch.randn(rows, n, size, **kind)
        for n in (heads, groups, groups)  # type: ignore[arg-type]
    ] + [torch.randn(rows, groups, LENGTH + 1, size, **kind) for _ in range(2)]  # type: ignore[arg-type]
    cos, sin = tables(places, size)

    def attention(keys: Any, values: Any, plain: bool) -> DecodeAttention:
        return DecodeAttention(cos, sin, keys, values, places, window, LENGTH)

    for ours, plain in zip(*both(attention, given, monkeypatch), strict=True):
        assert (ours.float() - plain.float()).norm() / plain.float().norm() < 8e-3


@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize(("heads", "groups", "size"), HEADS)
def test_prefill_is_plain_attention(
    heads: int, groups: int, size: int, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    kind = {"device": "cuda", "dtype": torch.bfloat16}
    pieces = [Piece(0, 70, 2, 0), Piece(70, 71, 0, 0), Piece(71, 170, 1, 90)]
    slot = torch.tensor([p.slot for p in pieces for _ in range(p.begin, p.end)], device="cuda")
    place = torch.tensor(
        [p.first + at for p in pieces for at in range(p.end - p.begin)], device="cuda"
    )
    given = [
        torch.randn(len(slot), n, size, **kind)
        for n in (heads, groups, groups)  # type: ignore[arg-type]
    ] + [torch.randn(3, groups, LENGTH + 1, size, **kind) for _ in range(2)]  # type: ignore[arg-type]
    cos, sin = tables(place, size)
    tiles = tiles_of(pieces, 12).cuda()

    def attention(keys: Any, values: Any, plain: bool) -> PrefillAttention:
        table = None if plain else tiles
        return PrefillAttention(cos, sin, keys, values, slot, place, window, pieces, table)

    for ours, plain in zip(*both(attention, given, monkeypatch), strict=True):
        assert (ours.float() - plain.float()).norm() / plain.float().norm() < 8e-3


def answered(engine: Engine, requests: list[Request]) -> dict[str, tuple[int, ...]]:
    for request in requests:
        engine.submit(request)
    found = {}
    while not engine.idle:
        found |= {one.id: one.token_ids for one in engine.step().finished}
    return found


@pytest.mark.parametrize("family", ["llama", "falcon", "gemma3"])
def test_answers_are_the_same_in_any_company(family: str) -> None:
    base = base_of(family, hidden=256)
    if family == "gemma3":
        pytest.skip("the tiny gemma's heads are of no size that the kernels are made for")
    base.model.to("cuda", torch.bfloat16)
    base.device, base.dtype = torch.device("cuda", 0), torch.bfloat16
    adapter = randomised(base, LoraSettings(r=8))
    draw = random.Random(0)
    greedy = Sampling(24, stop_token_ids=frozenset([0]))
    warm = Sampling(24, 1.0, 0.9, 20, 0.01, 1.2, 3, frozenset([0]), (), True)
    requests = [
        Request(
            f"{i}",
            tuple(draw.randrange(2, 258) for _ in range(draw.choice([1, 7, 40, 300, 600]))),
            (greedy, warm)[i % 3 == 0],
            ("base", "tuned")[i % 2],
        )
        for i in range(48)
    ]
    systems = {"base": None, "tuned": adapter}
    decoder = decoder_of(base, adapter)

    def fresh() -> Engine:
        engine = engine_of(base, systems, print, decoder, 16)
        engine.reserve(requests)
        return engine

    whole = answered(fresh(), requests)
    assert answered(fresh(), requests[::-1]) == whole
    engine = fresh()
    for request in requests[:8]:
        assert answered(engine, [request]) == {request.id: whole[request.id]}
    assert answered(engine, requests[20:]) == {r.id: whole[r.id] for r in requests[20:]}
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.mul_(1.5)
    again = answered(fresh(), requests)
    same = [r.id for r in requests if again[r.id] == whole[r.id] and r.system == "tuned"]
    assert all(again[r.id] == whole[r.id] for r in requests if r.system == "base")
    assert len(same) < 12  # the new values are in the graph
