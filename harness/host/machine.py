"""What this machine has, found without importing torch."""

from __future__ import annotations

import ctypes
import os
import shutil
from contextlib import suppress
from functools import cache
from pathlib import Path


@cache
def version_of(package: str) -> str:
    """The installed version of a Python package, or "absent"."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def has_gpu() -> bool:
    """Whether an NVIDIA driver is there, without the seconds that importing torch takes."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return False
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def cache_dir() -> Path:
    """The user's cache folder of this project: $HARNESS_CACHE or the system's usual place."""
    if given := os.environ.get("HARNESS_CACHE"):
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or "~/.cache"
    return Path(base).expanduser() / "harness"


def available_memory() -> int | None:
    """Bytes of main memory that a new process could take, or None where the system is silent."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return None
    return None


def keep_freed_memory() -> None:
    """Have the C library keep what is freed instead of handing it back to the system.

    A model on a CPU frees and asks for the same large buffers at every step; fetching fresh pages
    each time costs a quarter of a training step. glibc only; elsewhere nothing changes.
    """
    mmap_max, trim_threshold = -4, -1  # M_MMAP_MAX, M_TRIM_THRESHOLD of malloc.h
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)


def expandable_memory() -> None:
    """Have torch, where it has not yet begun on a GPU, let that memory's segments grow.

    Rows differ in length from step to step: without it the GPU's memory falls to pieces.
    """
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware (emulated it is slower than fp32)."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    flags = next(
        (li for li in text.splitlines() if li.lower().startswith(("flags", "features"))), ""
    )
    words = flags.split()
    return any(flag in words for flag in ("avx512_bf16", "amx_bf16", "bf16"))
