"""The `datasets` library without its noise: no bars, no log lines, no calls home."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet_datasets() -> Iterator[Any]:
    """Yield the `datasets` module silenced, and put its settings back afterwards.

    Loading even a local folder sends a request that counts downloads; that is switched off too.
    """
    import datasets

    bars = datasets.is_progress_bar_enabled()
    verbosity = datasets.logging.get_verbosity()
    counts = datasets.config.HF_UPDATE_DOWNLOAD_COUNTS
    hub_log = logging.getLogger("huggingface_hub")
    hub_level = hub_log.level
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    hub_log.setLevel(logging.CRITICAL)
    try:
        yield datasets
    finally:
        if bars:
            datasets.enable_progress_bars()
        datasets.logging.set_verbosity(verbosity)
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = counts
        hub_log.setLevel(hub_level)
