"""What verbs share of their command lines: the parser, the types of values, common options."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from harness.cli.output import print_text, short
from harness.errors import UsageError
from harness.host.paths import expanded

_LONGEST = 300  # characters of a message about the command line


class Parser(argparse.ArgumentParser):
    """One sentence for a wrong command line, not the whole usage."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        told = short(" ".join(message.split()), _LONGEST)
        raise UsageError(f"{told}; see `{self.prog} --help`.")

    def _print_message(self, message: str, file: object = None) -> None:
        print_text(message)  # help and version


Verbs: TypeAlias = "argparse._SubParsersAction[Parser]"


# --- options of several verbs ----------------------------------------------------------------


def add_registry(parser: argparse.ArgumentParser, what: str = "your own registry folder") -> None:
    parser.add_argument("--registry", type=path_of("folder"), metavar="DIR", help=what)


def add_place(parser: argparse.ArgumentParser, name: str, what: str) -> None:
    """A folder of that name, which the working folder has unless another is given."""
    parser.add_argument(
        f"--{name}",
        type=path_of("folder"),
        metavar="DIR",
        default=Path(name),
        help=f"{what} (default: {name})",
    )


def add_pairs(parser: argparse.ArgumentParser, option: str, metavar: str, what: str) -> None:
    """An option for any number of NAME=PATH."""
    parser.add_argument(
        option, nargs="+", action="extend", type=_pair, metavar=metavar, default=[], help=what
    )


def add_scorers(parser: argparse.ArgumentParser, place: str) -> None:
    """What is measured of answers, and where that goes."""
    parser.add_argument(
        "--scorers",
        nargs="+",
        metavar="S",
        help="scorers or metrics, as `list scorers` names them, or evaluate:PATH_OR_NAME (default: "
        "all; of a run, its task's)",
    )
    parser.add_argument(
        "--text",
        choices=("raw", "extracted"),
        help="score answers as they are, or without chat and fence (default: raw; of a run, as "
        "its task says)",
    )
    parser.add_argument(
        "--out",
        type=path_of("folder"),
        metavar="DIR",
        help=f"where the files go (default: {place})",
    )
    parser.add_argument(
        "--no-clusters",
        action="store_true",
        help="draw samples one by one, those of one group too",
    )


def pairs(option: str, given: Sequence[tuple[str, str]]) -> dict[str, str]:
    """What `add_pairs` made of the command line, by name. Raises UsageError for a name twice."""
    found: dict[str, str] = {}
    for name, path in given:
        if name in found:
            raise UsageError(f"{option} names {name} twice; name it once.")
        found[name] = path
    return found


# --- types of values -------------------------------------------------------------------------


def count(least: int) -> Callable[[str], int]:
    """A whole number from `least` on."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or value >= 2**31 or not text.isascii() or "_" in text:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
        return value

    return parse


def positive(text: str) -> float:
    """A number over 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number over 0")
    return value


def memory(text: str) -> int:
    """The bytes of a size such as 16GiB."""
    units = {"GiB": 2**30, "GB": 10**9, "MiB": 2**20, "MB": 10**6}
    number = text.strip()
    unit = next((u for u in units if number.endswith(u)), None)
    try:
        value = float(number.removesuffix(unit or "")) * units[unit or ""]
    except (ValueError, KeyError):
        value = 0.0
    if not 2**20 <= value < 2**50:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size of memory such as 16GiB")
    return int(value)


def path_of(what: str) -> Callable[[str], Path]:
    """The path of a "file" or "folder", which need not be there."""

    def parse(text: str) -> Path:
        if not text:
            raise argparse.ArgumentTypeError(f"an empty path is no {what}")
        return expanded(text)

    return parse


def _pair(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH")
    return name, str(expanded(path))
