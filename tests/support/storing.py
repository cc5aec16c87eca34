"""What the tests of files, journals and run folders share."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st

from harness.host.files import write_atomic
from harness.runs.store import RunFolder

quick = settings(derandomize=True, deadline=None, max_examples=30, database=None)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # every code point, lone surrogates too
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
records = st.dictionaries(st.text(max_size=5), json_values, max_size=3)


def make_run(
    root: Path, notices: list[str] | None = None, *, recipe: str = "quick", seed: int = 0
) -> RunFolder:
    notice: Callable[[str], None] = print if notices is None else notices.append
    return RunFolder(root, "m", "t", recipe, seed, {"recipe": recipe, "seed": seed}, notice=notice)


def publish(run: RunFolder, name: str, key: str, files: dict[str, str]) -> None:
    for relative, text in files.items():
        write_atomic(run.path / relative, text)
    run.publish(name, key, [Path(relative) for relative in files], {"n": len(files)}, 1.5)


def temporaries(folder: Path) -> list[Path]:
    return list(folder.rglob(".tmp-*"))


def one_sentence(error: BaseException, *parts: str) -> None:
    text = str(error)
    assert "\n" not in text
    assert "Traceback" not in text
    for part in parts:
        assert part in text


def start(script: str, *arguments: Path) -> subprocess.Popen[str]:
    """A Python process that runs `script` and says "ready" first."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process
