"""Silence for libraries that print progress and advice of their own."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def mute() -> Iterator[None]:
    """Nothing of what is written to standard output and error is seen, native code's included.

    For libraries that print what stands in a file, control characters and all. Short work only:
    whatever else this process says meanwhile is lost too.
    """
    kept: dict[int, int] = {}
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        for stream in (1, 2):
            with suppress(OSError):  # it may be closed
                kept[stream] = os.dup(stream)
                os.dup2(null, stream)
        yield
    finally:
        for stream, copy in kept.items():
            os.dup2(copy, stream)
            os.close(copy)
        os.close(null)


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, no log lines below ERROR and no warnings from the model libraries.

    Import those libraries inside it too: bitsandbytes advises while it is imported.
    """
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    others = {name: logging.getLogger(name) for name in ("bitsandbytes", "peft", "accelerate")}
    levels = {name: logger.level for name, logger in others.items()}
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for logger in others.values():
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
        for name, logger in others.items():
            logger.setLevel(levels[name])
