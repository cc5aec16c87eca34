"""Loading: what every source gives, and one sentence for everything that cannot be read."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from harness.config.schema import TaskConfig
from harness.data import local
from harness.data.load import MAX_CHARACTERS, available, load
from harness.errors import DataError, HarnessError, MissingError, StorageError

ROOT = Path(__file__).resolve().parent.parent
REAL = ROOT.parent / "shared" / "data"
COLUMNS = {"prompt": "ask", "context": "given", "target": "answer", "remove": ["note"]}
ROWS = [{"ask": f"make {i}", "given": "", "answer": f"<p>{i}</p>"} for i in range(4)]


def task(**changes: Any) -> TaskConfig:
    fields: dict[str, Any] = {
        "name": "pages",
        "template": "{}",
        "scorers": ["exact_match"],
        "data": {"hub": "someone/pages"},
        "columns": COLUMNS,
    }
    return TaskConfig(**{**fields, **changes})


def shipped(name: str) -> TaskConfig:
    with (ROOT / "tasks" / name / "task.toml").open("rb") as file:
        return TaskConfig(**tomllib.load(file))


def write(place: Path, content: bytes | str) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content if isinstance(content, bytes) else content.encode())
    return place


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def parquet(place: Path, rows: list[dict[str, Any]]) -> Path:
    import pyarrow
    import pyarrow.parquet

    place.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), place)
    return place


def read(place: Path, **changes: Any) -> Any:
    return load(task(**changes), task_dir=Path("nowhere"), path=str(place))


def refusal(place: Path | str, of: TaskConfig | None = None) -> str:
    """The sentence that `load` refuses `place` with, after checks that hold for all of them."""
    with pytest.raises(DataError) as caught:
        load(of or task(), task_dir=Path("nowhere"), path=str(place))
    sentence = str(caught.value)
    assert sentence.isprintable()
    assert sentence.endswith(".")
    assert Path(place).name.replace("\0", " ")[:20] in sentence
    assert ": " in sentence  # what and where, then the mend
    assert len(sentence) < 600
    return sentence


# --- what is read ----------------------------------------------------------------------------


def test_every_format_and_folder_gives_the_same_examples(tmp_path: Path) -> None:
    csv = "ask,given,answer\n" + "".join(f"{r['ask']},,{r['answer']}\n" for r in ROWS)
    places = [
        write(tmp_path / "list.json", json.dumps(ROWS, indent=1)),
        write(tmp_path / "lines.json", lines(*ROWS)),
        write(tmp_path / "lines.JSONL", lines(*ROWS)),
        write(tmp_path / "bom.jsonl", b"\xef\xbb\xbf" + lines(*ROWS).encode()),
        write(tmp_path / "bom.json", b"\xef\xbb\xbf\n " + json.dumps(ROWS).encode()),
        write(tmp_path / "crlf.jsonl", lines(*ROWS).replace("\n", "\r\n\r\n")),
        write(tmp_path / "rows.csv", csv),
        write(tmp_path / "bom.csv", b"\xef\xbb\xbf" + csv.replace("\n", "\r\n").encode()),
        parquet(tmp_path / "rows.parquet", ROWS),
        write(tmp_path / "folder" / "data.json", json.dumps(ROWS)).parent,
        parquet(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet", ROWS).parent.parent,
    ]
    write(tmp_path / "folder" / "README.md", "# Words about the data\n")
    loaded = [read(place) for place in places]
    assert {one.digest for one in loaded} == {loaded[0].digest}
    first = loaded[0]
    assert [(e.id, e.prompt, e.target) for e in first.examples] == [
        (f"{i:06d}", f"make {i}", f"<p>{i}</p>") for i in range(4)
    ]
    assert (first.skipped, first.repaired, first.sides) == ({}, {}, None)
    assert first.source == str(places[0])
    assert all(available(task(), str(place)) is None for place in places)


def test_a_folder_s_split_is_the_task_s(tmp_path: Path) -> None:
    write(tmp_path / "hub" / "train.jsonl", lines(*ROWS))
    write(tmp_path / "hub" / "test.jsonl", lines(*ROWS[:2]))
    assert len(read(tmp_path / "hub").examples) == 4
    assert len(read(tmp_path / "hub", data={"hub": "a/b", "split": "test"}).examples) == 2
    of = task(data={"hub": "a/b", "split": "other"})
    assert "no split 'other', only 'train', 'test'" in refusal(tmp_path / "hub", of)


def test_a_folder_s_card_says_which_files_and_delimiter(tmp_path: Path) -> None:
    card = "---\nconfigs:\n- config_name: default\n  sep: ';'\n  data_files: b.csv\n---\n"
    write(tmp_path / "hub" / "README.md", card)
    write(tmp_path / "hub" / "a.jsonl", lines(*ROWS))
    write(tmp_path / "hub" / "b.csv", "ask;answer\none, two;three\n")
    assert [e.prompt for e in read(tmp_path / "hub").examples] == ["one, two"]


def test_context_is_joined_and_texts_are_cleaned(tmp_path: Path) -> None:
    rows = [
        {"ask": "\ufeffa\r\nb", "given": "c\rd", "answer": "x\r\ny"},
        {"ask": "a", "given": None, "answer": "x\0y"},
        {"ask": "a", "given": "  ", "answer": "é 😀 你"},
        {"ask": "a {} b", "answer": "2020-01-01", "note": 5},
    ]
    loaded = read(write(tmp_path / "rows.jsonl", lines(*rows)))
    assert [e.prompt for e in loaded.examples] == ["a\nb\nc\nd", "a", "a", "a {} b"]
    assert [e.target for e in loaded.examples] == ["x\ny", "x\ufffdy", "é 😀 你", "2020-01-01"]
    assert loaded.repaired == {"NUL replaced by U+FFFD": 1}


@pytest.mark.parametrize("form", ["list.json", "lines.jsonl"])
def test_lone_surrogates_become_replacement_characters(tmp_path: Path, form: str) -> None:
    rows = ['{"ask": "a \\ud800 b", "answer": "\\ud83d\\ude00"}', '{"ask": "c", "answer": "d"}']
    text = "\n".join(rows) if form == "lines.jsonl" else f"[{','.join(rows)}]"
    loaded = read(write(tmp_path / form, text))
    assert [e.prompt for e in loaded.examples] == ["a \ufffd b", "c"]
    assert loaded.examples[0].target == "😀"
    assert loaded.repaired == {"lone surrogate replaced by U+FFFD": 1}


def test_unusable_rows_are_counted_and_ids_keep_their_place(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"ask": None, "answer": "x"},
        {"answer": "x", "given": "not a prompt"},
        {"ask": " \n", "answer": "x"},
        {"ask": 7, "answer": "x"},
        {"ask": "a"},
        {"ask": "a", "answer": ["x"]},
        {"ask": "a", "answer": ""},
        {"ask": "a", "answer": "x" * (MAX_CHARACTERS + 1)},
        "no object",
        {"ask": "good", "answer": "x" * MAX_CHARACTERS},
    ]
    loaded = read(write(tmp_path / "rows.jsonl", lines(*rows)))
    assert [e.id for e in loaded.examples] == ["000009"]
    assert loaded.skipped == {
        "prompt missing": 4,
        "prompt empty": 1,
        "target missing": 2,
        "target empty": 1,
        "target too long": 1,
    }


def test_a_line_of_ten_megabytes_is_skipped_not_fatal(tmp_path: Path) -> None:
    long = {"ask": "long", "answer": "x" * 10_000_000}
    loaded = read(write(tmp_path / "long.jsonl", lines(ROWS[0], long, ROWS[1])))
    assert [e.id for e in loaded.examples] == ["000000", "000002"]
    assert loaded.skipped == {"target too long": 1}


def test_csv_text_stays_as_written(tmp_path: Path) -> None:
    big = "<p>" + "y" * 200_000 + "</p>"  # over the csv module's own limit
    text = f'answer,ask\n007,"two\nlines, ""quoted"""\nNA,null\n{big},a\x00b\n\n'
    loaded = read(write(tmp_path / "rows.csv", text))
    assert [e.target for e in loaded.examples] == ["007", "NA", big]
    assert [e.prompt for e in loaded.examples] == ['two\nlines, "quoted"', "null", "a\ufffdb"]


def test_one_row_and_rows_all_alike_are_loaded(tmp_path: Path) -> None:
    assert len(read(write(tmp_path / "one.jsonl", lines(ROWS[0]))).examples) == 1
    assert len(read(write(tmp_path / "same.jsonl", lines(*[ROWS[0]] * 50))).examples) == 50


def test_the_digest_follows_the_kept_examples_only(tmp_path: Path) -> None:
    with_note = [{**row, "note": "x"} for row in ROWS]
    base = read(write(tmp_path / "a.jsonl", lines(*ROWS)))
    assert read(write(tmp_path / "b.jsonl", lines(*with_note))).digest == base.digest
    assert read(write(tmp_path / "c.jsonl", lines(*ROWS[:3]))).digest != base.digest


def test_nothing_is_left_behind_and_no_stale_cache_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    place = write(tmp_path / "rows.jsonl", lines(*ROWS))
    before = place.stat()
    read(place)
    changed = [{**row, "ask": row["ask"].replace("make", "bake")} for row in ROWS]
    write(place, lines(*changed))
    os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert read(place).examples[0].prompt == "bake 0"
    assert list(temporary.iterdir()) == []


def test_a_temporary_folder_that_fails_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    with pytest.raises(StorageError, match=r"rows\.jsonl' .* set TMPDIR\.$"):
        read(write(tmp_path / "rows.jsonl", lines(*ROWS)))


def test_local_data_is_read_without_a_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: asked.append(a) or [])
    monkeypatch.setattr(socket.socket, "connect", lambda *a: asked.append(a))
    read(write(tmp_path / "hub" / "train.jsonl", lines(*ROWS)).parent)
    assert asked == []


@pytest.mark.parametrize(
    ("name", "folder", "rows"),
    [("html_alpaca", "ttbui_html_alpaca", 636), ("html_dataset", "jawerty_html_dataset", 43)],
)
def test_real_data(name: str, folder: str, rows: int) -> None:
    if not (REAL / folder).is_dir():
        pytest.skip(f"the real rows are not here: ../shared/data/{folder}")
    loaded = load(shipped(name), task_dir=ROOT, path=str(REAL / folder))
    assert len(loaded.examples) == rows
    assert (loaded.skipped, loaded.repaired) == ({}, {})


# --- what is refused -------------------------------------------------------------------------

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


# --- the hub ---------------------------------------------------------------------------------


def test_a_hub_that_cannot_be_had_is_said_quickly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    start = time.monotonic()
    reason = available(task())
    assert reason is not None
    assert "someone/pages" in reason
    assert reason.endswith("give a local copy with --data pages=PATH.")
    with pytest.raises(MissingError) as caught:
        load(task(), task_dir=Path("nowhere"))
    assert str(caught.value) == reason
    assert time.monotonic() - start < 4
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE" in (available(task()) or "")


def test_a_name_server_that_never_answers_does_not_hang_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("harness.hub.PROBE_SECONDS", 0.2)

    def never(*_: object) -> None:
        time.sleep(1.0)
        raise OSError("no answer")

    monkeypatch.setattr(socket, "create_connection", never)
    start = time.monotonic()
    assert "cannot be reached" in (available(task()) or "")
    assert time.monotonic() - start < 0.9


def test_a_cached_data_set_needs_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow

    folder = tmp_path / "someone___my_pages" / "default" / "0.0.0" / "abc"
    folder.mkdir(parents=True)
    info = {
        "builder_name": "json",
        "dataset_name": "my_pages",
        "config_name": "default",
        "version": {"version_str": "0.0.0", "major": 0, "minor": 0, "patch": 0},
        "splits": {"train": {"name": "train", "num_bytes": 1, "num_examples": 4}},
        "features": {n: {"dtype": "string", "_type": "Value"} for n in ("ask", "given", "answer")},
    }
    write(folder / "dataset_info.json", json.dumps(info))
    table = pyarrow.Table.from_pylist(ROWS)
    with (
        pyarrow.OSFile(str(folder / "my_pages-train.arrow"), "wb") as sink,
        pyarrow.ipc.new_stream(sink, table.schema) as stream,
    ):
        stream.write_table(table)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    of = task(data={"hub": "someone/MyPages"})
    assert available(of) is None
    loaded = load(of, task_dir=Path("nowhere"))
    assert loaded.source == "someone/MyPages"
    assert loaded.digest == read(write(tmp_path / "rows.jsonl", lines(*ROWS))).digest
    with pytest.raises(DataError, match="cannot be read"):
        load(task(data={"hub": "someone/MyPages", "split": "absent"}), task_dir=Path("nowhere"))


# --- generators ------------------------------------------------------------------------------

GENERATOR = """
from harness.records import Example
from .words import WORD

def generate(*, seed, train, test):
    for i in range(train + test):
        side = "train" if i < train else "test"
        yield side, Example(f"own-{i}", f"{WORD} {seed} {i}", "<p>", kind="k" if i else "")
"""


def generated(**changes: Any) -> TaskConfig:
    data = {"generator": "maker:generate", "seed": 3, "train": 4, "test": 2, **changes}
    return task(data=data, columns=None, split={"method": "provided"})


@pytest.mark.parametrize("with_init", [True, False])
def test_a_generator_is_imported_privately(tmp_path: Path, with_init: bool) -> None:
    write(tmp_path / "maker.py", GENERATOR)
    write(tmp_path / "words.py", "WORD = 'one'")
    if with_init:
        write(tmp_path / "__init__.py", "")
    before = set(sys.modules)
    loaded = load(generated(), task_dir=tmp_path)
    assert [e.prompt for e in loaded.examples] == [f"one 3 {i}" for i in range(6)]
    assert [e.id for e in loaded.examples] == [f"{i:06d}" for i in range(6)]
    assert loaded.examples[1].kind == "k"
    assert loaded.sides == ["train"] * 4 + ["test"] * 2
    assert loaded.source == "maker:generate"
    assert not [name for name in set(sys.modules) - before if "task" in name]
    write(tmp_path / "other" / "maker.py", GENERATOR)
    write(tmp_path / "other" / "words.py", "WORD = 'two'")
    assert load(generated(), task_dir=tmp_path / "other").examples[0].prompt == "two 3 0"
    assert available(generated()) is None


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("", "has no attribute 'generate'"),
        ("def generate(", "SyntaxError"),
        ("import nothing_of_this_name", "ModuleNotFoundError"),
        ("def generate(**_):\n  raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("def generate(**_): return [1]", "must yield"),
        ("def generate(**_): return [('left', None)]", "must yield"),
        ("def generate(**_): return []", "yielded 0 train and 0 test rows"),
    ],
)
def test_generators_that_fail(tmp_path: Path, code: str, why: str) -> None:
    write(tmp_path / "maker.py", code)
    with pytest.raises(DataError) as caught:
        load(generated(), task_dir=tmp_path)
    assert why in str(caught.value)
    assert "'pages'" in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_generator_takes_no_path(tmp_path: Path) -> None:
    reason = available(generated(), str(tmp_path))
    assert reason is not None
    assert "makes its own rows" in reason
    with pytest.raises(DataError, match="makes its own rows"):
        load(generated(), task_dir=tmp_path, path=str(tmp_path))


# --- what it costs ---------------------------------------------------------------------------


def test_checking_imports_nothing_heavy(tmp_path: Path) -> None:
    place = write(tmp_path / "rows.jsonl", lines(*ROWS))
    code = (
        "import sys; from test_data_load import task; from harness.data.load import available;"
        f"assert available(task(), {str(place)!r}) is None; available(task());"
        "heavy = {'torch', 'datasets', 'pyarrow', 'pandas', 'transformers'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    environment |= {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_data_errors_end_with_status_two() -> None:
    assert issubclass(DataError, HarnessError)
    assert DataError.exit_status == MissingError.exit_status == 2
