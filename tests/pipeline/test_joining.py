"""Pairing samples, the losses of two runs, and files that are written together."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import DataError, UsageError
from harness.pipeline.compare import Side, loss_table
from harness.pipeline.joining import join
from harness.pipeline.outputs import check_out, write_together
from harness.pipeline.predictions import Predictions
from harness.records import Metric, ReferenceLikelihood, Sample, Scored
from harness.reports.rows import Origin
from harness.reports.summary import SummaryRow, summary_terminal, systems_terminal
from harness.statistics.paired import Summary, describe
from tests.support.storing import one_sentence, quick, temporaries

ORIGIN = Origin("m", "t", "r", 0, "run")


def predictions(
    name: str, ids: list[str], groups: list[str] | None = None, by_id: bool = True
) -> Predictions:
    samples = [Sample(i, f"prompt {i}", f"reference {i}", f"{name} {i}") for i in ids]
    return Predictions(name, samples, groups or [""] * len(ids), by_id, {}, ORIGIN)


@quick
@given(st.lists(st.text(max_size=3), unique=True, min_size=1, max_size=8), st.randoms())
def test_joining_by_id_pairs_each_sample_with_its_own(ids: list[str], rng: random.Random) -> None:
    shuffled = rng.sample(ids, len(ids))
    joined = join(predictions("a", ids), predictions("b", shuffled, [f"g{i}" for i in shuffled]))
    assert [x.id for x in joined.a] == [y.id for y in joined.b] == ids
    assert [y.prediction for y in joined.b] == [f"b {i}" for i in ids]
    assert joined.groups == [f"g{i}" for i in ids]  # B's own, in the order of A


def test_groups_of_a_are_taken_first() -> None:
    joined = join(predictions("a", ["1", "2"], ["x", ""]), predictions("b", ["1", "2"], ["y", "y"]))
    assert joined.groups == ["x", ""]


def test_joining_by_order_says_why_and_needs_equal_references() -> None:
    bare = predictions("b", ["1", "2"], by_id=False)
    assert join(predictions("a", ["1", "2"]), bare).how == "order, for b gives no ids"
    assert join(bare, bare).how == "order, for b and b gives no ids"
    with pytest.raises(DataError) as caught:
        join(predictions("a", ["2", "1"]), bare)
    one_sentence(caught.value, "sample '2' (there '1')", "between a and b")


# --- losses ----------------------------------------------------------------------------------


def loss(i: str, nll: float, tokens: int = 2, size: int = 8) -> ReferenceLikelihood:
    return ReferenceLikelihood(i, nll, 1, tokens, size)


def test_losses_of_two_runs() -> None:
    ids = ["1", "2", "3"]
    a = {i: loss(i, 2.0) for i in ids}
    columns, said = loss_table(a, {i: loss(i, 1.0) for i in ids}, ids)
    assert [c.metric.name for c in columns] == [
        "cross_entropy",
        "perplexity",
        "bits_per_byte",
        "token_accuracy",
    ]
    assert "3 of 3" in said
    # Another tokenizer: only bits a byte are of one kind.
    columns, said = loss_table(a, {i: loss(i, 1.0, tokens=3) for i in ids}, ids)
    assert [c.metric.name for c in columns] == ["bits_per_byte"]
    assert "tokenizers differ" in said
    # A reference cut at another place is another text.
    columns, said = loss_table(a, {"1": loss("1", 1.0), "2": loss("2", 1.0, size=5)}, ids)
    assert columns[0].values["tuned"] == [0.5, None, None]
    assert "1 of 3" in said
    assert loss_table(a, {"2": loss("2", 1.0, size=5)}, ids)[0] == []
    assert loss_table(None, a, ids)[0] == []


def test_a_sides_short_name() -> None:
    assert Side(Path("x/a.jsonl"), predictions("a", ["1"])).short == "m"


# --- files -----------------------------------------------------------------------------------


def test_files_are_named_in_order_and_all_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    named: list[str] = []
    replace = os.replace

    def noting(source: object, target: Path) -> None:
        named.append(target.name)
        replace(source, target)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "replace", noting)
    write_together({tmp_path / "x" / "a": b"1", tmp_path / "y" / "b": b"2"})
    assert named == ["a", "b"]
    assert (tmp_path / "y" / "b").read_bytes() == b"2"
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(Exception, match="cannot write"):
        write_together({tmp_path / "x" / "a": b"3", tmp_path / "file" / "b": b"4"})
    assert (tmp_path / "x" / "a").read_bytes() == b"1"
    assert temporaries(tmp_path) == []


def test_an_input_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "scores.jsonl").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "scores.jsonl")
    with pytest.raises(UsageError, match="overwritten"):
        check_out(tmp_path, ["scores.jsonl"], [tmp_path / "link"])
    check_out(tmp_path, ["scores.jsonl"], [])
    check_out(tmp_path / "new" / "er", ["base/scores.jsonl"])
    assert not (tmp_path / "new").exists()


# --- the table -------------------------------------------------------------------------------


def row(name: str, values: list[float | None], reason: str = "too large") -> SummaryRow:
    scored = [Scored({name: v}, {} if v is not None else {name: reason}) for v in values]
    return SummaryRow.of(Metric(name, "higher", f"{name}|v1"), describe(values), scored)


def test_a_row_counts_what_is_unscored_and_says_why() -> None:
    found = row("m", [1.0, None, 0.0, None])
    assert (found.n, found.unscored, found.mean) == (2, 2, 0.5)
    assert found.notes == {"too large": 2}
    assert list(found.to_json())[:4] == ["mean", "n", "unscored", "standard_error"]


def test_the_table_of_one_system() -> None:
    text = summary_terminal([row("m", [1.0, None, 0.0]), row("long", [None] * 3, "x\x1b[1m")])
    lines = text.splitlines()
    assert lines[0].split() == ["metric", "mean", "95", "%", "interval", "se", "n", "unscored"]
    assert lines[2].split() == ["m", "↑", "0.500", "[0.000,", "1.000]", "0.500", "2", "1"]
    assert lines[3].split() == ["long", "↑", "–", "–", "–", "0", "3"]
    assert "unscored: 1 × too large (m)" in lines
    assert "\x1b" not in text


def test_a_small_standard_error_is_not_shown_as_zero() -> None:
    one = Summary(5, 0.5, 0.00012, 0.4998, 0.5002)
    found = SummaryRow.of(Metric("m", "lower", "m|v1"), one, [])
    assert "0.000120" in summary_terminal([found])


def test_many_reasons_are_cut() -> None:
    rows = [row(f"m{i}", [None, 1.0], f"reason {i}") for i in range(20)]
    lines = summary_terminal(rows).splitlines()
    assert lines[-1] == "unscored: 8 reasons more"


def test_the_table_of_several_systems() -> None:
    text = systems_terminal({"base": [row("m", [0.0, None])], "tuned": [row("m", [1.0, None])]})
    lines = text.splitlines()
    assert lines[2].split() == ["m", "↑", "0.000", "1.000", "2"]
    assert "unscored: 2 × too large (m)" in lines
