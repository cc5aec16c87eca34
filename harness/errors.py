"""Every error that this package raises on purpose, one tree, each with the exit status it ends in.

HarnessError                       1
├── UsageError                     2  the command line, a name, a registry file
│   ├── DataError                  2  a data file or a data set that cannot be used
│   └── MissingError               2  the machine lacks what a model or task needs
├── RunError                       1  one run failed; the other runs go on
│   ├── DivergedError              1  the loss became NaN or infinite
│   └── AdapterError               1  the adapter is not live, or a quantised base is not quantised
├── BusyError                      2  another process holds the run, or writes the tables
├── StorageError                   1  the disk refused a write
└── (BaseException) Interrupted   75  SIGINT or SIGTERM; the same command continues

The text of each is one sentence for the user: what is wrong, where, and the mend.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 75


class HarnessError(Exception):
    """An error that the user sees as one sentence."""

    exit_status = EXIT_FAILED


class UsageError(HarnessError):
    """Bad input: the command line, a name, or a file of the registry."""

    exit_status = EXIT_USAGE


class DataError(UsageError):
    """A data file or data set that cannot be read or used."""


class MissingError(UsageError):
    """Something that a model or task needs and this machine lacks."""


class BusyError(HarnessError):
    """Another process is working on the same run, or is writing tables in the same folder."""

    exit_status = EXIT_USAGE


class StorageError(HarnessError):
    """A file could not be written (disk full, permission, read-only)."""


class RunError(HarnessError):
    """One run failed; the other runs of the command go on."""


class DivergedError(RunError):
    """The training loss became NaN or infinite; no adapter is published."""


class AdapterError(RunError):
    """The adapter has no effect, or the base is not quantised as asked."""


class Interrupted(BaseException):
    """SIGINT or SIGTERM arrived; what is done is kept and the same command continues."""

    exit_status = EXIT_INTERRUPTED
