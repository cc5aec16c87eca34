"""Which files of a folder are the data: by the hub's rules, or as `datasets` saved them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.quiet import quiet_datasets
from harness.errors import DataError, StorageError
from harness.host.paths import read_bytes
from harness.host.temporary import temporary_folder
from harness.host.text import listed, one_line, quoted


@dataclass(frozen=True, slots=True)
class DataFiles:
    """The files of a split, in order, and the delimiter of CSV files by the folder's card."""

    files: list[Path]
    delimiter: str = ","


def saved_by_datasets(folder: Path) -> bool:
    """Whether `Dataset.save_to_disk` or `DatasetDict.save_to_disk` made the folder."""
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    )


def saved_files(folder: Path, split: str) -> DataFiles:
    """The Arrow files of a folder made by `save_to_disk`. Raises DataError, OSError."""
    if (folder / "dataset_dict.json").is_file():
        names = _described(folder / "dataset_dict.json", "splits")
        if split not in names:
            raise DataError(
                f"{quoted(folder)} has no split '{one_line(split, 30)}', only {listed(names)}: set "
                "data.split in the task's file, or give one of its folders."
            )
        folder = _inside(folder, split)
    if not (folder / "state.json").is_file():
        raise DataError(f"{quoted(folder)} lacks its state.json: save or copy it again.")
    state = folder / "state.json"
    if _described(state, "_indices_data_files", []):
        raise DataError(
            f"{quoted(folder)} was saved with indices beside its rows: load and save it again with "
            "a current `datasets`."
        )
    return DataFiles([_inside(folder, name) for name in _described(state, "_data_files")])


def hub_files(folder: Path, split: str, config: str | None) -> DataFiles:
    """The files of the split (of a configuration), by the hub's rules for folders.

    Those read the README's `configs`, know splits by file names, and where kinds are mixed take
    the commonest only; a local copy must give what the hub gives, so nothing is added to them.
    Raises DataError, and StorageError where the temporary folder cannot be written.
    """
    try:
        with (
            temporary_folder("harness-data-") as temporary,
            quiet_datasets() as datasets,
        ):
            tree = _linked(folder, temporary / "data")
            return _resolved(datasets, folder, tree, split, config, temporary)
    except OSError as error:
        raise StorageError(
            f"{quoted(folder)} could not be read by way of the temporary folder "
            f"({one_line(error.strerror or error)}): free space there, or set TMPDIR."
        ) from error


def _linked(folder: Path, tree: Path) -> Path:
    """The folder's files under a plain path: `datasets` takes brackets in one for a pattern."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        made = tree / Path(place).relative_to(folder)
        made.mkdir()
        for name in names:
            source = Path(place, name)
            if source.is_file():
                (made / name).symlink_to(source.absolute())
    return tree


def _resolved(
    datasets: Any, folder: Path, tree: Path, split: str, config: str | None, temporary: Path
) -> DataFiles:
    try:
        builder = datasets.load_dataset_builder(
            str(tree), name=config, cache_dir=str(temporary / "cache")
        )
        found = {str(name): list(files) for name, files in builder.config.data_files.items()}
    except Exception as error:
        if names := _configurations(datasets, tree, config):
            which = "several configurations" if config is None else f"no configuration '{config}'"
            only = "" if config is None else "only "
            raise DataError(
                f"{quoted(folder)} has {one_line(which)}, {only}{listed(names)}: set data.config "
                "in the task's file to one of them."
            ) from error
        raise DataError(
            f"{quoted(folder)} cannot be read as a data set's folder ({one_line(_cause(error))}): "
            "give the data file itself."
        ) from error
    if split not in found:
        raise DataError(
            f"{quoted(folder)} has no split '{one_line(split, 30)}', only {listed(found)}: set "
            "data.split in the task's file, or give the data file itself."
        )
    root = tree.resolve()
    files = [folder / Path(file).relative_to(root) for file in found[split]]
    delimiter = getattr(builder.config, "sep", None)
    return DataFiles(files, delimiter if isinstance(delimiter, str) else ",")


def _configurations(datasets: Any, tree: Path, config: str | None) -> list[str]:
    """The folder's configurations, where that is what is wrong: none or an unknown one is named."""
    try:
        names = [str(name) for name in datasets.get_dataset_config_names(str(tree))]
    except Exception:
        return []
    return names if (len(names) > 1 if config is None else config not in names) else []


def _described(file: Path, key: str, default: Any = None) -> list[str]:
    """A list of names in one of the folder's own JSON files."""
    try:
        value = json.loads(read_bytes(file)).get(key, default)
        names = [entry["filename"] if isinstance(entry, dict) else entry for entry in value or []]
        if isinstance(value, list | None) and all(isinstance(name, str) for name in names):
            return names
        why = f"no list '{key}'"
    except (ValueError, AttributeError, KeyError, RecursionError) as error:
        why = one_line(error)
    raise DataError(f"{quoted(file)} is damaged ({why}): save or copy the folder again.")


def _inside(folder: Path, name: str) -> Path:
    """A file or folder directly in `folder`; its own files name no other place."""
    if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise DataError(
            f"{quoted(folder)} names '{one_line(name, 60)}', which is not in it: save it again."
        )
    return folder / name


def _cause(error: BaseException) -> BaseException:
    """The innermost cause: `datasets` wraps what happened in an error that says nothing."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
