"""What is printed: safe on a terminal, in what it can show, and said where it cannot be."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from harness.host.console import clean, plainly
from harness.reports import comparison_terminal, parse_comparison_csv
from harness.reports.comparison import RunReport
from tests.support.commands import ROOT, make_registry

ESCAPES = "\x1b]0;PWNED\x07\x1b[2J\x1b[31mred\u202egnp.exe\x9b"


def harness(cwd: Path, *argv: object, shell: str = "", **env: str) -> subprocess.CompletedProcess:
    """A fresh process; shell: redirections after the command."""
    words = [sys.executable, "-m", "harness", *map(str, argv)]
    if shell:
        words = ["sh", "-c", f'"$@" {shell}', "sh", *words]
    environment = {k: v for k, v in os.environ.items() if k != "COLUMNS"}
    environment |= {"PYTHONPATH": str(ROOT), **env}
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, timeout=120)


def test_clean_and_plain_text() -> None:
    assert clean("a\x1b[1mb\tc\nd\u202ee\udce9\u2028f\x85") == "a [1mb c\nd e\ufffd f "
    assert plainly("n · 1 – 2 × 3 … ↑ ↓ ──", "ascii") == "n | 1 - 2 x 3 ... ^ v --"
    assert plainly("é ↑ ×", "latin-1") == "é ^ ×"
    assert plainly("é", "ascii") == "?"


def test_escapes_of_files_do_not_reach_the_terminal(tmp_path: Path) -> None:
    registry = make_registry(tmp_path / "registry", description=ESCAPES)
    table = tmp_path / "comparison.csv"
    shipped = (ROOT / "results" / "default" / "comparison.csv").read_text("utf-8")
    table.write_text(shipped.replace("gemma3-270m,html", f"{ESCAPES},html", 1), "utf-8")
    (tmp_path / "base.csv").write_text(shipped, "utf-8")
    for argv, status in (
        (["list", "recipes", "--registry", registry], 0),
        (["check", "--results", table, "--baseline", tmp_path / "base.csv"], 1),
        (["score", ESCAPES], 2),
        (["run", "--models", ESCAPES], 2),
    ):
        found = harness(tmp_path, *argv)
        assert found.returncode == status, found
        said = (found.stdout + found.stderr).decode()
        assert not set(said) & {"\x1b", "\x07", "\x9b", "\u202e"}
        assert "PWNED" in said


@pytest.mark.parametrize(
    "env",
    [
        {"LANG": "C", "LC_ALL": "", "PYTHONIOENCODING": ""},
        pytest.param({"PYTHONIOENCODING": "ascii"}, marks=pytest.mark.slow),
    ],
)
def test_an_ascii_locale_gets_ascii(
    env: dict[str, str], scripted: list[str], tmp_path: Path
) -> None:
    found = harness(tmp_path, *scripted, **env)
    assert found.returncode == 0, found
    text = found.stdout.decode("ascii")
    assert "scripted | words | tiny, seed 0" in text
    assert "exact_match ^" in text
    assert "\n------" in text
    assert "?" not in text
    assert "↑" in (tmp_path / "results" / "comparison.md").read_text("utf-8")


@pytest.mark.parametrize("stream", [">/dev/full", pytest.param(">&-", marks=pytest.mark.slow)])
def test_standard_output_that_takes_nothing(
    stream: str, scripted: list[str], tmp_path: Path
) -> None:
    if stream == ">/dev/full" and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    for argv in (["list", "recipes"], ["--help"], ["--version"]):
        found = harness(tmp_path, *argv, shell=stream)
        assert found.returncode == 1
        said = found.stderr.decode().splitlines()
        assert len(said) == 1
        assert said[0].startswith("harness: standard output cannot be written to (")
    found = harness(tmp_path, *scripted, shell=stream)
    assert found.returncode == 0  # the work is done
    (name,) = (place.name for place in (tmp_path / "results").glob("scripted@*"))
    assert found.stderr.decode().splitlines()[-1].endswith(f"see results/{name}/comparison.md.")
    assert b"Traceback" not in found.stderr
    assert b"ignored" not in found.stderr
    assert (tmp_path / "results" / "comparison.csv").stat().st_size > 0
    # And where nothing can be said at all, the status alone tells.
    assert harness(tmp_path, *scripted, shell=f"{stream} 2{stream}").returncode == 0
    assert harness(tmp_path, "list", "nothing", shell=f"{stream} 2{stream}").returncode == 2


def on_terminal(cwd: Path, *argv: object, columns: int = 100, **env: str) -> str:
    """What a command prints on a terminal of so many columns."""
    import termios

    parent, child = pty.openpty()
    termios.tcsetwinsize(child, (24, columns))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    environment |= {"PYTHONPATH": str(ROOT), "TERM": "xterm", **env}
    words = [sys.executable, "-m", "harness", *map(str, argv)]
    process = subprocess.Popen(
        words, cwd=cwd, env=environment, stdout=child, stderr=subprocess.DEVNULL
    )
    os.close(child)
    parts = []
    while True:
        try:
            part = os.read(parent, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(parent)
    assert process.wait(60) == 0
    return b"".join(parts).decode().replace("\r\n", "\n")


def test_width_and_bold_are_the_terminals(scripted: list[str], tmp_path: Path) -> None:
    wide = on_terminal(tmp_path, *scripted)
    assert "\x1b[1m" in wide
    assert "near" in wide
    narrow = on_terminal(tmp_path, *scripted, columns=60, NO_COLOR="1")
    assert "\x1b" not in narrow
    table = narrow.split("\n\n")[0]
    assert all(len(line) <= 60 for line in table.splitlines())
    assert "near" not in table
    assert "tuned" in table
    dumb = on_terminal(tmp_path, *scripted, columns=200, TERM="dumb")
    assert "\x1b" not in dumb
    assert max(map(len, dumb.splitlines())) <= 100


def test_columns_go_by_importance() -> None:
    text = (ROOT / "results" / "default" / "comparison.csv").read_text("utf-8")
    rows = parse_comparison_csv(text)
    report = RunReport("gemma3-270m", "html_blocks", "quick", 0, "run", "done", rows=rows)

    def header(width: int) -> str:
        return " ".join(comparison_terminal([report], width).splitlines()[1].split())

    assert header(100) == "metric base tuned delta 95 % interval p (Holm) w/t/l ref near"
    assert header(85) == "metric base tuned delta 95 % interval p (Holm) w/t/l ref"
    assert header(80) == "metric base tuned delta 95 % interval p (Holm) w/t/l"
    assert header(74) == "metric base tuned delta 95 % interval p (Holm)"
    assert header(60) == "metric base tuned delta p (Holm)"
    narrow = comparison_terminal([report], 60)
    assert "near:" not in narrow
    assert "w/t/l:" not in narrow
    assert "p below 0.05" in narrow
