"""What stands under a run, for its manifest: versions, the system, the commit of this code."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from pathlib import Path

from harness import __version__
from harness.host.machine import version_of

MODEL_LIBRARIES = (
    *("torch", "transformers", "tokenizers", "safetensors", "accelerate", "peft"),
    *("bitsandbytes", "numpy"),
)
TOKENIZER_LIBRARIES = ("sentencepiece", "tiktoken", "protobuf")
"""What reads a tokenizer that has no tokenizer.json, which needs none of them."""

DATA_LIBRARIES = ("datasets", "pyarrow", "gguf", "triton")
SCORER_LIBRARIES = ("html5lib", "beautifulsoup4", "soupsieve", "rapidfuzz")


def environment() -> dict[str, str]:
    """Versions of this program, of Python, and of every package that a run may go through."""
    packages = (*MODEL_LIBRARIES, *TOKENIZER_LIBRARIES, *DATA_LIBRARIES, *SCORER_LIBRARIES)
    return {
        "harness": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **{name: version_of(name) for name in packages},
    }


@cache
def commit() -> str:
    """The commit of this code, "+ changes" where it was edited, "unknown" outside a checkout."""
    top = Path(__file__).resolve().parents[2]
    if not (top / ".git").exists():
        return "unknown"
    try:
        head, status = (
            subprocess.run(
                ["git", *words], cwd=top, capture_output=True, text=True, timeout=10, check=True
            ).stdout.strip()
            for words in (
                ("rev-parse", "--short=12", "HEAD"),
                ("status", "--porcelain", "--untracked-files=no", "--", "harness", "tasks"),
            )
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{head} + changes" if status else head
