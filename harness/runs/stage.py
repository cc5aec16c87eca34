"""What a stage is, and its key: the hash of all that can change its files, and of nothing else.

A key is made of the stage's inputs, of the keys of the stages whose files it reads, of the code
that makes its files, and of the versions of Python and of the packages that this code imports.
Where a file lies, when it was written, what is said and shown, and how a step is carried out
(--max-memory, --report-to) are in none. No torch is imported here.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.host.files import digest
from harness.host.machine import version_of
from harness.runs.code import code_digest, modules_of

if TYPE_CHECKING:
    from harness.runs.context import Context
    from harness.runs.run import Run

DISTRIBUTIONS: Mapping[str, tuple[str, ...]] = {
    "bs4": ("beautifulsoup4", "soupsieve"),
    "datasets": ("datasets", "pyarrow"),
    "transformers": ("transformers", "tokenizers", "safetensors", "accelerate"),
    "gguf": (),  # keyed with the weights, where they are of such a file
    "triton": (),  # keyed with the weights, on a GPU alone
}
"""What is installed under the name of an import, with what works under it; else the name itself."""


def no_inputs(run: Run) -> dict[str, Any]:
    """The inputs of a stage that takes nothing of the run's settings."""
    return {}


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a run.

    name:   as "train" or "generate-base".
    make:   makes the stage's files.
    code:   the modules whose imports make them, for a run.
    apart:  modules that are not followed from there: nothing in this stage's files is theirs.
    inputs: what else can change the files, for a run, as plain data.
    needs:  the stages whose files it reads.
    """

    name: str
    make: Callable[[Context], None]
    code: Callable[[Run], Iterable[str]]
    inputs: Callable[[Run], Mapping[str, Any]] = no_inputs
    apart: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    def modules(self, run: Run) -> tuple[frozenset[str], frozenset[str]]:
        """The modules of this project that make the files, and the packages that these import."""
        return modules_of(self.code(run), self.apart)

    def key(self, run: Run, keys: Mapping[str, str]) -> str:
        """The stage's key. keys: those of the stages before it."""
        modules, packages = self.modules(run)
        return digest(
            {
                "inputs": self.inputs(run),
                "needs": {name: keys[name] for name in self.needs},
                "code": code_digest(modules),
                "libraries": versions(packages),
            }
        )


def keys_of(run: Run, stages: Sequence[Stage]) -> dict[str, str]:
    """The key of each stage, in order."""
    keys: dict[str, str] = {}
    for stage in stages:
        keys[stage.name] = stage.key(run, keys)
    return keys


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Python's minor version, and the versions of what is installed for these imported names."""
    python = ".".join(platform.python_version_tuple()[:2])
    names = {name for each in packages for name in DISTRIBUTIONS.get(each, (each,))}
    return {"python": python} | {name: version_of(name) for name in sorted(names)}
