"""Loading: one sentence for everything that cannot be read."""

from __future__ import annotations

import gzip
import json
import os
import time
import zipfile
from pathlib import Path

import pytest

from harness.data import local
from harness.data.load import available
from harness.errors import DataError
from tests.sources import ROWS, lines, parquet, read, refusal, task, write

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
    ("digits.jsonl", '{"ask": ' + "9" * 5000 + "}", "line 1 is not valid JSON"),
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
    ("semicolon.csv", "ask;answer\na;b\n", "its columns are 'ask;answer'"),
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
    assert time.monotonic() - start < 2


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
