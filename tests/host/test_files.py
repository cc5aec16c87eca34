"""A file is whole or as it was, under kills, refused writes and full disks."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from harness.errors import StorageError
from harness.host.files import digest, write_atomic, write_json
from tests.support.storing import json_values, make_run, one_sentence, quick, start, temporaries

# --- keys ------------------------------------------------------------------------------------


def test_digest_is_sha256_of_canonical_json() -> None:
    expected = hashlib.sha256(b'{"a":[1,2.5,null],"b":"\\u00e9"}').hexdigest()
    assert digest({"b": "é", "a": [1, 2.5, None]}) == expected


@quick
@given(json_values, json_values)
def test_digests_are_equal_for_equal_json_only(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (digest(one) == digest(other)) == same


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_digest_refuses_what_is_not_a_number(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest({"loss": number})


# --- atomic writes ---------------------------------------------------------------------------


def test_write_atomic_makes_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    write_atomic(path, "eins")
    write_atomic(path, b"zwei")
    assert path.read_bytes() == b"zwei"
    assert os.listdir(path.parent) == ["b.txt"]


@quick
@given(value=json_values)
def test_json_comes_back_as_it_was(value: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    assert json.loads(path.read_bytes()) == value


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "open"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_refused_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    path = tmp_path / "table.csv"
    write_atomic(path, "old")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(StorageError) as caught:
            write_atomic(path, "new")
    one_sentence(caught.value, str(path), os.strerror(number))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:7])))
    write_atomic(tmp_path / "f", b"0123456789" * 10)
    assert (tmp_path / "f").read_bytes() == b"0123456789" * 10


def test_a_folder_in_the_place_of_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    with pytest.raises(StorageError) as caught:
        write_atomic(tmp_path / "f", "x")
    one_sentence(caught.value, str(tmp_path / "f"), "move what is in its place")
    assert temporaries(tmp_path) == []


def test_sigkill_while_writing_leaves_a_whole_file(tmp_path: Path) -> None:
    script = """
        import sys
        from pathlib import Path
        from harness.host.files import write_atomic
        print("ready", flush=True)
        while True:
            write_atomic(Path(sys.argv[1]), "a" * 300_000)
            write_atomic(Path(sys.argv[1]), "b" * 500_000)
    """
    run = make_run(tmp_path)
    path = run.path / "f"
    write_atomic(path, "a" * 300_000)
    for turn in range(4):
        process = start(script, path)
        time.sleep(0.02 + 0.013 * turn)
        process.kill()
        process.wait()
        assert path.read_text() in ("a" * 300_000, "b" * 500_000)
    with run.lock():
        assert temporaries(run.path) == []
