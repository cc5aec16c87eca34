"""Loading: one sentence for everything that cannot be read."""

from __future__ import annotations

import datetime
import gzip
import json
import os
import resource
import time
import zipfile
from pathlib import Path

import pytest

from harness.data import local, text_files
from harness.data.load import available
from harness.errors import DataError
from tests.support.sources import ROWS, lines, parquet, read, refusal, task, write

OBJECT = json.dumps({"ask": "a", "answer": "b"})
TEXTS: list[tuple[str, bytes | str, str]] = [
    ("empty.json", "", "is empty"),
    ("empty.csv", "", "is empty"),
    ("blank.json", " \n \n", "has no rows"),
    ("list.json", "[]", "has no rows"),
    ("object.json", "{}", "has no rows"),
    ("scalars.jsonl", "1\n2\n", "has no rows"),
    ("header.csv", "ask,answer\n", "has no rows"),
    ("torn.jsonl", OBJECT + "\n" + OBJECT[:9], "line 2 is not valid JSON"),
    ("torn.json", "[" + OBJECT + ",\n{", "line 2 is not valid JSON"),
    ("after.json", "[" + OBJECT + "]\n" + OBJECT, "line 2 is not valid JSON"),
    ("nul.jsonl", '{"ask": "a\0b", "answer": "c"}\n', "line 1 is not valid JSON"),
    ("deep.json", "[" * 100_000, "nested too deeply"),
    ("deep.jsonl", '{"ask": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
    ("comma.json", '[{"ask": "a"},\n]', "line 2 is not valid JSON (Expecting value)"),
    ("gap.json", '[{"ask": "a"}\n{"ask": "b"}]', "line 2 is not valid JSON (Expecting ',' or ']')"),
    ("csv.json", "ask,answer\na,b\n", "line 1 is not valid JSON"),
    ("json.csv", OBJECT + "\n" + OBJECT, "lacks 'ask', 'answer'"),
    ("latin.jsonl", b'{"ask": "a"}\n{"ask": "\xe9"}\n', "line 2 is not UTF-8 text (byte 0xe9)"),
    ("latin.json", b'[{"ask": "a"},\n{"ask": "\xe9"}]\n', "line 2 is not UTF-8"),
    ("raw_surrogate.jsonl", b'{"ask": "\xed\xa0\x80"}\n', "line 1 is not UTF-8"),
    ("utf16.json", OBJECT.encode("utf-16"), "line 1 is not UTF-8"),
    ("junk.json", bytes(range(255, 0, -1)) * 9, "is not UTF-8"),
    ("junk.csv", bytes(range(255, 0, -1)) * 9, "is not UTF-8"),
    ("junk.parquet", bytes(range(256)) * 9, "is not a whole Parquet file"),
    ("hollow.parquet", b"PAR1" + bytes(50) + b"PAR1", "is not a whole Parquet file"),
    ("wide.csv", "ask,answer\na,b\nc,d,e\n", "line 3 has 3 fields but the header has 2"),
    ("open.csv", 'ask,answer\na,"b\n', "is not valid CSV"),
    ("twice.csv", "ask,ask,answer\na,b,c\n", "more than once"),
    ("semicolon.csv", "ask;reply\na;b\n", "lacks 'answer'"),
    ("both.csv", "ask,answer;given\na,b\n", "its columns are 'ask', 'answer;given'"),
    ("rows.txt", OBJECT, "has the ending '.txt'"),
    ("rows", OBJECT, "has the ending ''"),
    ("nested.json", json.dumps({"data": [{"ask": "a"}]}), "its columns are 'data'"),
    ("missing.jsonl", lines({"ask": "a", "reply": "b"}), "lacks 'answer'"),
    ("more.jsonl", lines(*ROWS, {**ROWS[0], "stars": 5}), "neither reads nor removes ('stars')"),
    ("nulls.jsonl", lines({"ask": None, "answer": "b"}) * 3, "no usable row (3 prompt missing)"),
    ("bomb.jsonl", gzip.compress(bytes(1_000_000)), "is compressed (gzip)"),
    ("bomb.jsonl.gz", gzip.compress(bytes(1_000_000)), "is compressed (gz)"),
]


@pytest.mark.parametrize(("name", "content", "why"), TEXTS, ids=[name for name, _, _ in TEXTS])
def test_unusable_files(tmp_path: Path, name: str, content: bytes | str, why: str) -> None:
    assert why in refusal(write(tmp_path / name, content))


def test_many_unknown_columns_make_a_short_sentence(tmp_path: Path) -> None:
    row = {**ROWS[0], **{f"column\n{i}" + "x" * 100: i for i in range(500)}}
    assert "and 492 more" in refusal(write(tmp_path / "wide.jsonl", lines(row)))


def test_values_that_are_no_text_are_not_called_missing(tmp_path: Path) -> None:
    rows = [{"ask": "a", "answer": wrong} for wrong in (["x"], {"x": 1}, True, 0.5)]
    sentence = refusal(write(tmp_path / "rows.jsonl", lines(*rows)))
    for kind in ("a list", "an object", "true or false", "a fraction"):
        assert f"1 target of a wrong type: is {kind}, text is needed" in sentence
    assert "missing" not in sentence
    row = {"ask": "a", "given": ["x"], "answer": "b"}
    assert "1 prompt of a wrong type: is a list" in refusal(write(tmp_path / "c.json", lines(row)))
    when = {"ask": "a", "answer": datetime.datetime(2020, 1, 1)}
    assert "is timestamp[us], text" in refusal(parquet(tmp_path / "when.parquet", [when]))


def test_a_few_kilobytes_that_unpack_to_megabytes_are_counted_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    page = pa.array(["x" * 900_000])
    pages = pa.DictionaryArray.from_arrays(pa.array([0] * 400, pa.int32()), page)
    table = pa.table({"ask": pa.array(["a"] * 400), "answer": pages})
    with pa.ipc.new_stream(tmp_path / "bomb.arrow", table.schema) as writer:
        writer.write_table(table)
    pa.parquet.write_table(table, tmp_path / "bomb.parquet", row_group_size=50)
    plain = table.schema.set(1, pa.field("answer", pa.string()))
    with pa.parquet.ParquetWriter(tmp_path / "plain.parquet", plain, store_schema=False) as writer:
        for _ in range(8):
            writer.write_table(table.slice(0, 50).cast(plain))
    monkeypatch.setattr(local, "MAX_BYTES", 300 << 20)
    for place in tmp_path.iterdir():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert place.stat().st_size < 2_000_000
        assert "unpacks to more than 300 MiB" in refusal(place)
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert used < 100 << 10, place  # kB; the rows would take 360 MB


def test_a_row_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "MAX_ROW", 5_000)
    monkeypatch.setattr(text_files, "_PIECE", 1_000)
    long = json.dumps({"ask": "a", "answer": "x" * 20_000})
    for name, text in (("a.jsonl", f"{OBJECT}\n{long}"), ("a.json", f"[{OBJECT},\n{long}]")):
        assert "line 2 begins a row of more than" in refusal(write(tmp_path / name, text))


def test_cut_and_oversized_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = parquet(tmp_path / "whole.parquet", ROWS)
    content = whole.read_bytes()
    write(tmp_path / "cut.parquet", content[:-100])
    assert "is not a whole Parquet file" in refusal(tmp_path / "cut.parquet")
    write(tmp_path / "middle.parquet", content[:300] + content[350:])
    assert "is not a whole Parquet file" in refusal(tmp_path / "middle.parquet")
    write(tmp_path / "text.csv", content)
    assert "rename it to end in .parquet" in refusal(tmp_path / "text.csv")
    # 5 MB of one letter, a few kB on disk
    bomb = parquet(tmp_path / "bomb.parquet", [{"ask": "a", "answer": "x" * 5_000_000}])
    monkeypatch.setattr(local, "MAX_BYTES", 1 << 20)
    assert bomb.stat().st_size < 1 << 20
    assert "unpacks to more than 1 MiB" in refusal(bomb)


def test_too_many_bytes_or_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = write(tmp_path / "rows.jsonl", lines(*ROWS))
    monkeypatch.setattr(local, "MAX_ROWS", 3)
    assert "more than 3 rows" in refusal(place)
    monkeypatch.setattr(local, "MAX_BYTES", 10)
    assert "larger than" in refusal(place)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe.jsonl"
    os.mkfifo(fifo)
    inside = tmp_path / "folder"
    inside.mkdir()
    os.mkfifo(inside / "README.md")
    (tmp_path / "loop.json").symlink_to("loop.json")
    start = time.monotonic()
    assert "is a named pipe" in refusal(fifo)
    assert "'README.md', which is not a regular file" in refusal(inside)
    assert "neither a file nor a folder" in refusal("/dev/null")
    assert "does not exist" in refusal(tmp_path / "absent.json")
    assert "cannot be read" in refusal(tmp_path / "loop.json")
    assert "null byte" in refusal(f"{tmp_path}/a\0b.json")
    assert "too long" in refusal("x" * 5000)
    assert "does not exist" in refusal("/".join(["x" * 200] * 18))
    assert "Not a directory" in refusal(write(tmp_path / "a.jsonl", "{}") / "b.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    assert "holds no data file" in refusal(tmp_path / "folder.jsonl")
    assert time.monotonic() - start < 30


def test_configurations_and_saved_folders_that_cannot_be_read(tmp_path: Path) -> None:
    card = "---\nconfigs:\n" + "".join(
        f"- config_name: {name}\n  data_files: {name}/*.jsonl\n" for name in ("old", "new")
    )
    write(tmp_path / "hub" / "README.md", card + "---\n")
    for name in ("old", "new"):
        write(tmp_path / "hub" / name / "train-0.jsonl", lines(*ROWS))
    several = "has several configurations, 'new', 'old': set data.config in the task's file"
    assert several in refusal(tmp_path / "hub").replace("'old', 'new'", "'new', 'old'")
    other = task(data={"hub": "a/b", "config": "other"})
    assert "has no configuration 'other', only" in refusal(tmp_path / "hub", other)
    state = {"_data_files": [{"filename": "../x.arrow"}]}
    write(tmp_path / "saved" / "dataset_info.json", "{}")
    write(tmp_path / "saved" / "x.arrow", "no Arrow")
    write(tmp_path / "saved" / "state.json", json.dumps(state))
    assert "names '../x.arrow', which is not in it" in refusal(tmp_path / "saved")
    write(tmp_path / "saved" / "state.json", "[]")
    with pytest.raises(DataError, match=r"state\.json' is damaged"):
        read(tmp_path / "saved")
    write(tmp_path / "saved" / "state.json", json.dumps(state).replace("../", ""))
    with pytest.raises(DataError, match=r"x\.arrow' is not a whole Arrow file"):
        read(tmp_path / "saved")


def test_folders_without_usable_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no data file" in refusal(tmp_path / "empty")
    write(tmp_path / "words" / "a.txt", "hello")
    write(tmp_path / "words" / ".hidden.json", "[]")
    assert "holds no data file" in refusal(tmp_path / "words")
    write(tmp_path / "mixed" / "a.csv", "ask,answer\na,b\n")
    write(tmp_path / "mixed" / "b.jsonl", lines(*ROWS))
    card = "---\nconfigs:\n- config_name: default\n  data_files: [a.csv, b.jsonl]\n---\n"
    write(tmp_path / "mixed" / "README.md", card)
    assert "mixes 'csv', 'json'" in refusal(tmp_path / "mixed")
    write(tmp_path / "packed" / "a.json", gzip.compress(b"[]"))
    with pytest.raises(DataError, match=r"a\.json' is compressed \(gzip\): unpack it first\."):
        read(tmp_path / "packed")
    with zipfile.ZipFile(write(tmp_path / "card" / "a.zip", ""), "w") as archive:
        archive.writestr("a.jsonl", lines(*ROWS))
    assert "holds no data file" in refusal(tmp_path / "card")
    write(tmp_path / "yaml" / "README.md", "---\nconfigs: [\n---\n")
    write(tmp_path / "yaml" / "a.json", "[]")
    assert "cannot be read as a data set's folder" in refusal(tmp_path / "yaml")
    monkeypatch.setattr(local, "MAX_FILES", 1)
    assert "more than 1 files" in refusal(tmp_path / "mixed")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_without_permission(tmp_path: Path) -> None:
    place = write(tmp_path / "rows.json", "[]")
    place.chmod(0)
    assert "change its permissions" in refusal(place)


def test_the_cheap_check_finds_what_it_can(tmp_path: Path) -> None:
    for name, content in (("a.txt", "x"), ("a.json", ""), ("a.csv", gzip.compress(b"x"))):
        place = write(tmp_path / name, content)
        assert available(task(), str(place)) == refusal(place)
    assert available(task(), str(tmp_path / "absent.csv")) == refusal(tmp_path / "absent.csv")
