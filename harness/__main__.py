"""`python -m harness` and the `harness` command."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command line; returns the exit status."""
    # Rows differ in length from step to step: without it the GPU's memory falls to pieces.
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    from harness.cli import run_cli
    from harness.output import open_streams

    open_streams()
    return run_cli(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
