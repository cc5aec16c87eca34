"""`python -m harness` and the `harness` command."""

from __future__ import annotations

import signal
import sys

_EARLY = (signal.SIGINT, signal.SIGTERM)


def main() -> int:
    """Run the command line; returns the exit status."""
    # Before all else that takes time to import: until here a signal is Python's own business.
    came: list[int] = []
    for number in _EARLY:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, frame: came.append(number))
    import shlex

    from harness.host import signals
    from harness.host.machine import expandable_memory

    signals.install(shlex.join(["python", "-m", "harness", *sys.argv[1:]]))
    for early in came:
        signal.raise_signal(early)
    expandable_memory()
    from harness.cli.main import run_cli
    from harness.host.console import open_streams

    open_streams()
    try:
        return run_cli(sys.argv[1:])
    finally:
        signals.ignore()


if __name__ == "__main__":
    sys.exit(main())
