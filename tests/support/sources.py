"""Data files and tasks for the tests of loading."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from harness.config.schema import TaskConfig
from harness.data.load import load
from harness.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
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
    assert Path(place).name.replace("\0", "\\x00")[:20] in sentence
    assert ": " in sentence  # what and where, then the mend
    assert len(sentence) < 600
    return sentence
