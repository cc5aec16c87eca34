"""A journal keeps its word under kills, torn writes, damage and full disks."""

from __future__ import annotations

import errno
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import StorageError
from harness.runs.journal import Journal
from tests.support.storing import one_sentence, quick, records, start

journal_steps = st.lists(
    st.tuples(st.just("append"), records)
    | st.tuples(st.just("tear"), st.integers(1, 40))
    | st.tuples(st.just("nul"), st.integers(1, 5000))
    | st.tuples(st.just("junk"), st.sampled_from([b"{", b"17\n", b"\xff\n", b"\0\n", b'{"a": 1}']))
    | st.tuples(st.just("reopen"), st.none()),
    max_size=12,
)


@quick
@given(steps=journal_steps)
def test_no_torn_line_survives_in_a_journal(steps: list[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        path.touch()
        journal = Journal(path)
        expected: list[dict[str, Any]] = []
        for step, value in steps:
            if step == "append":
                journal.append(value)
                expected.append(value)
            else:
                journal.close()  # damage comes between two processes
                data = path.read_bytes()
                if step == "tear":
                    path.write_bytes(data[:-value])
                elif step == "nul":
                    path.write_bytes(data + b"\0" * value)
                elif step == "junk":
                    path.write_bytes(data + value)
                journal = Journal(path)
                if step == "tear":
                    whole = data[:-value].count(b"\n")
                    expected = expected[:whole]
            assert Journal(path).read() == expected
        journal.append({"last": True})
        journal.close()
        lines = path.read_bytes().splitlines(keepends=True)
        parts = [line.partition(b"\t") for line in lines]
        assert [json.loads(text) for text, _, _ in parts] == [*expected, {"last": True}]
        assert all(len(digits) == 17 and digits.endswith(b"\n") for _, _, digits in parts)


def test_a_journal_says_what_it_left_out(tmp_path: Path) -> None:
    path = tmp_path / "j"
    said: list[str] = []
    journal = Journal(path, notice=said.append)
    assert (journal.read(), journal.dropped, journal.damaged) == ([], 0, False)
    with journal:
        for i in range(5):
            journal.append({"i": i})
    path.write_bytes(path.read_bytes()[:-3])
    assert [r["i"] for r in journal.read()] == [0, 1, 2, 3]
    assert (journal.dropped, journal.damaged, said) == (1, False, [])
    data = bytearray(path.read_bytes())
    data[30] = 0  # in the second line
    path.write_bytes(data)
    assert journal.read() == [{"i": 0}]
    assert (journal.dropped, journal.damaged) == (4, True)
    with journal:
        journal.append({"i": 1})
    assert said == [f"{path} is damaged after record 1: 4 records cut off and made again"]
    assert Journal(path).read() == [{"i": 0}, {"i": 1}]


def test_any_flipped_bit_cuts_the_journal_off_from_its_line_on(tmp_path: Path) -> None:
    """Also one that leaves valid JSON, and one in the end of a line."""
    path = tmp_path / "j"
    with Journal(path) as journal:
        for i in range(3):
            journal.append({"id": f"row-{i}", "nll": 1.25})
    whole = path.read_bytes()
    for at in range(len(whole)):
        data = bytearray(whole)
        data[at] ^= 1 << at % 8
        path.write_bytes(data)
        said: list[str] = []
        found = Journal(path, notice=said.append).read()
        intact = whole[:at].count(b"\n")
        assert [row["id"] for row in found] == [f"row-{i}" for i in range(intact)], at
        assert len(said) == 1, at
        assert f"after record {intact}: {3 - intact} record" in said[0], at


@pytest.mark.parametrize("order", [[0, 2], [0, 0, 1], [1, 0], [0, 1, 3, 2], [1]])
def test_lines_that_are_gone_doubled_or_out_of_place_are_damage(
    tmp_path: Path, order: list[int]
) -> None:
    with Journal(tmp_path / "j") as journal:
        for step in range(4):
            journal.append({"step": step})
    lines = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    (tmp_path / "j").write_bytes(b"".join(lines[i] for i in order))
    found = [row["step"] for row in journal.read()]
    right = [at for at, i in enumerate(order) if at == i and order[:at] == list(range(at))]
    assert found == right
    assert journal.dropped == len(order) - len(right)
    assert journal.damaged


@pytest.mark.parametrize("line", [b"", b"[]", b"null", b'{"a": 3}', b"[" * 100_000, b"\t", b"{}\t"])
def test_a_line_without_its_digits_ends_the_journal(tmp_path: Path, line: bytes) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.append({"a": 1})
    whole = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(whole + line + b"\n")
    assert (journal.read(), journal.dropped, journal.damaged) == ([{"a": 1}], 1, True)


def test_a_record_that_the_reader_cannot_use_is_damage_too(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        for key in ("record", "recorf", "record"):
            journal.append({key: 1})
    said: list[str] = []
    found = Journal(tmp_path / "j", fits=lambda row: "record" in row, notice=said.append)
    assert found.read() == [{"record": 1}]
    assert len(said) == 1
    assert "after record 1: 2 records cut off" in said[0]
    with found:
        found.append({"record": 2})
    assert found.read() == [{"record": 1}, {"record": 2}]


def test_a_journal_is_replaced_whole(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        for step in range(4):
            journal.append({"step": step})
        journal.replace([{"step": 0}, {"step": 7}])
        journal.append({"step": 8})
    assert Journal(tmp_path / "j").read() == [{"step": 0}, {"step": 7}, {"step": 8}]


def test_sigkill_loses_nothing_that_was_appended(tmp_path: Path) -> None:
    script = """
        import sys
        from pathlib import Path
        from harness.runs.journal import Journal
        journal = Journal(Path(sys.argv[1]))
        i = len(journal.read())
        print("ready", flush=True)
        while True:
            journal.append({"i": i, "text": "x" * (i * 37 % 9000)})
            i += 1
            print(i, flush=True)
    """
    path = tmp_path / "j"
    for turn in range(4):
        process = start(script, path)
        time.sleep(0.01 + 0.01 * turn)
        process.kill()
        out, _ = process.communicate()
        acknowledged = [int(n) for n in out.split("\n")[:-1]]
        found = Journal(path).read()
        assert [r["i"] for r in found] == list(range(len(found)))
        assert len(found) >= (acknowledged or [0])[-1]
    assert len(found) > 0


def test_a_full_disk_leaves_no_torn_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "j"
    journal = Journal(path)
    journal.append({"i": 0})
    write = os.write
    room = [5]

    def full(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(descriptor, bytes(data[: room[0]]))
        room[0] -= written
        return written

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StorageError) as caught:
            journal.append({"i": 1})
    one_sentence(caught.value, str(path), "No space left", "free some space")
    assert path.read_text().startswith('{"i": 0}\t')
    assert path.read_text().count("\n") == 1
    journal.append({"i": 2})
    journal.close()
    assert Journal(path).read() == [{"i": 0}, {"i": 2}]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_journal_on_a_full_device() -> None:
    journal = Journal(Path("/dev/full"))
    assert journal.read() == []
    with pytest.raises(StorageError, match="No space left"):
        journal.append({"i": 0})


@pytest.mark.parametrize("kind", ["folder", "fifo", "loop", "link"])
def test_what_is_no_file_is_said_and_never_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "j"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    else:
        with Journal(tmp_path / "elsewhere") as other:
            other.append({"i": 1})
        path.symlink_to("elsewhere")
    assert Journal(path).read() == []
    with pytest.raises(StorageError) as caught:
        Journal(path).append({"i": 0})
    one_sentence(caught.value, str(path))


def test_a_journal_syncs_about_once_a_second_and_on_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    journal = Journal(tmp_path / "j", clock=lambda: now[0])
    journal.append({})
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    for _ in range(30):
        now[0] += 0.1
        journal.append({})
    assert 2 <= len(synced) <= 4
    journal.append({})
    before = len(synced)
    journal.close()
    assert len(synced) == before + 1


def test_a_journal_refuses_what_json_cannot_say(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        with pytest.raises(ValueError, match="JSON"):
            journal.append({"loss": float("nan")})
        journal.append({"loss": 1.0})
    assert Journal(tmp_path / "j").read() == [{"loss": 1.0}]
