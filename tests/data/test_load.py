"""Loading: what every source gives, and what that costs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.config.schema import TaskConfig
from harness.data import text_files
from harness.data.identity import identity
from harness.data.load import MAX_CHARACTERS, available, load
from harness.errors import DataError, HarnessError, MissingError, StorageError
from tests.support.sources import (
    COLUMNS,
    REAL,
    ROOT,
    ROWS,
    lines,
    parquet,
    read,
    refusal,
    shipped,
    task,
    write,
)

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
    assert [e.id for e in loaded.examples] == ["000003", "000009"]
    assert loaded.examples[0].prompt == "7"
    assert loaded.skipped == {
        "prompt missing": 3,
        "prompt empty": 1,
        "target missing": 1,
        "target of a wrong type: is a list, text is needed": 1,
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
    place = write(tmp_path / "hub" / "rows.jsonl", lines(*ROWS))
    before = place.stat()
    read(place.parent)
    changed = [{**row, "ask": row["ask"].replace("make", "bake")} for row in ROWS]
    write(place, lines(*changed))
    os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert read(place.parent).examples[0].prompt == "bake 0"
    assert list(temporary.iterdir()) == []


def test_a_temporary_folder_that_fails_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    with pytest.raises(StorageError, match=r"hub' .* set TMPDIR\.$"):
        read(write(tmp_path / "hub" / "rows.jsonl", lines(*ROWS)).parent)


def test_local_data_is_read_without_a_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: asked.append(a) or [])
    monkeypatch.setattr(socket.socket, "connect", lambda *a: asked.append(a))
    read(write(tmp_path / "hub" / "train.jsonl", lines(*ROWS)).parent)
    assert asked == []


def test_whole_numbers_are_read_as_they_are_written(tmp_path: Path) -> None:
    text = '{"ask": -0, "answer": 123456789012345678901234567890}\n'
    for name, content in (("a.jsonl", text), ("a.json", f"[{text}]")):
        example = read(write(tmp_path / name, content)).examples[0]
        assert (example.prompt, example.target) == ("-0", "123456789012345678901234567890")
    rows = [{"ask": 2**63 - 1, "answer": -7}]
    example = read(parquet(tmp_path / "a.parquet", rows)).examples[0]
    assert (example.prompt, example.target) == ("9223372036854775807", "-7")


def test_conversations_give_the_last_question_and_its_answer(tmp_path: Path) -> None:
    def turns(*pairs: tuple[str, str]) -> dict[str, Any]:
        return {"messages": [{"role": role, "content": text} for role, text in pairs]}

    rows = [
        turns(("user", "one"), ("assistant", "1")),
        turns(
            ("system", "s"), ("user", "x"), ("assistant", "0"), ("user", "y"), ("assistant", "2")
        ),
        turns(("user", "three"), ("assistant", "3"), ("user", "unanswered")),
        turns(("assistant", "unasked")),
        turns(("user", "unanswered")),
    ]
    columns = {"prompt": "messages", "target": "messages"}
    for place in (write(tmp_path / "a.jsonl", lines(*rows)), parquet(tmp_path / "a.parquet", rows)):
        loaded = read(place, columns=columns)
        pairs = [(e.prompt, e.target) for e in loaded.examples]
        assert pairs == [("one", "1"), ("y", "2"), ("three", "3")]
        assert loaded.skipped == {"prompt missing": 1, "target missing": 1}
        assert loaded.repaired == {"earlier, later or system turn of a conversation left out": 4}
    apart = {"ask": rows[0]["messages"][:1], "answer": rows[0]["messages"][1:]}
    example = read(write(tmp_path / "b.jsonl", lines(apart))).examples[0]
    assert (example.prompt, example.target) == ("one", "1")


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ('\ufeffask;given;answer\r\n"a;b";;"c,d"\r\n', ("a;b", "c,d")),
        ("ask\tanswer\na;b\tc,d\n", ("a;b", "c,d")),
        ("ask,answer\na;b,c;d\n", ("a;b", "c;d")),
        ('"ask","answer","note;note"\na,b,c\n', ("a", "b")),
    ],
)
def test_the_delimiter_is_the_one_that_shows_the_columns(
    tmp_path: Path, text: str, pair: tuple[str, str]
) -> None:
    columns = {**COLUMNS, "remove": ["note;note"]}
    example = read(write(tmp_path / "rows.csv", text), columns=columns).examples[0]
    assert (example.prompt, example.target) == pair


def test_folders_that_datasets_saved(tmp_path: Path) -> None:
    import datasets

    rows = datasets.Dataset.from_list(ROWS)
    rows.save_to_disk(str(tmp_path / "one"), num_shards=2)
    parts = datasets.DatasetDict({"train": rows, "test": rows.select([1])})
    parts.save_to_disk(str(tmp_path / "several"))
    whole = read(write(tmp_path / "rows.jsonl", lines(*ROWS))).digest
    assert read(tmp_path / "one").digest == whole
    assert read(tmp_path / "several").digest == whole
    assert read(next((tmp_path / "several" / "train").glob("*.arrow"))).digest == whole
    test = read(tmp_path / "several", data={"hub": "a/b", "split": "test"})
    assert [e.prompt for e in test.examples] == ["make 1"]


def test_a_configuration_is_named_in_the_task(tmp_path: Path) -> None:
    card = "---\nconfigs:\n" + "".join(
        f"- config_name: {name}\n  data_files: {name}/*.parquet\n" for name in ("v0.1", "v0.2")
    )
    write(tmp_path / "README.md", card + "---\n")
    parquet(tmp_path / "v0.1" / "train-00000-of-00001.parquet", ROWS)
    parquet(tmp_path / "v0.2" / "train-00000-of-00001.parquet", ROWS[:2])
    assert len(read(tmp_path, data={"hub": "a/b", "config": "v0.2"}).examples) == 2


@pytest.mark.parametrize(
    "name", ["data[1].jsonl", "a*b?.jsonl", "...jsonl", ".jsonl", "[a].b.json"]
)
def test_names_that_a_shell_would_read_as_patterns(tmp_path: Path, name: str) -> None:
    assert len(read(write(tmp_path / name, lines(*ROWS))).examples) == 4
    folder = write(tmp_path / "f[1]*" / "d" / f"x{name}", lines(*ROWS)).parent.parent
    (folder / "again").symlink_to(".")
    (folder / "loop.json").symlink_to("loop.json")
    assert len(read(folder).examples) == 4


def test_brackets_in_the_path_of_parquet(tmp_path: Path) -> None:
    assert len(read(parquet(tmp_path / "data[1].parquet", ROWS)).examples) == 4


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    place = write(tmp_path / "rows.jsonl", lines(*ROWS))
    assert available(task(), "~/rows.jsonl") is None
    assert len(read(Path("~/rows.jsonl")).examples) == 4
    named = identity(task(), Path("nowhere"), "~/rows.jsonl")
    assert named == identity(task(), Path("nowhere"), str(place)) != {}


def test_a_list_is_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"ask": f'é{i} 😀 " \\ \n', "answer": "x" * i, "note": [i, i]} for i in range(1, 40)]
    for indent in (None, 2):
        for ascii_ in (True, False):
            text = json.dumps(rows, indent=indent, ensure_ascii=ascii_)
            place = write(tmp_path / "rows.json", text)
            whole = read(place)
            assert len(whole.examples) == 39
            for piece in (1, 7):
                monkeypatch.setattr(text_files, "_PIECE", piece)
                assert read(place).digest == whole.digest
            monkeypatch.undo()


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
        "import sys; from tests.support.sources import task;"
        "from harness.data.load import available;"
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
