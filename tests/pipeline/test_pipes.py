"""A named pipe in place of any file that a command left: the next one ends, and nothing hangs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.commands import Commands, run_folders


@pytest.mark.parametrize("where", ["results", pytest.param("runs", marks=pytest.mark.slow)])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(
    where: str, commands: Commands, scripted: list[str], tmp_path: Path
) -> None:
    assert commands.run(tmp_path, *scripted).status == 0
    (run,) = run_folders(tmp_path)
    files = sorted(f for f in (tmp_path / where).rglob("*") if f.is_file() and not f.is_symlink())
    assert {f.name for f in files} >= {"manifest.json" if where == "runs" else "command.json"}
    for file in files:
        held = file.read_bytes()
        file.unlink()
        os.mkfifo(file)
        for words in (["list", "runs"], ["report", str(run)], [*scripted, "--dry-run"], scripted):
            ended = commands.run(tmp_path, *words)  # killed, and no status of these, if it waits
            assert ended.status in (0, 1, 2), (file, words, ended.output)
            assert "Traceback" not in ended.output, (file, words, ended.output)
        if not file.is_file():
            file.unlink()
            file.write_bytes(held)
