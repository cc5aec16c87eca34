"""The device that a command computes on, and the type of its products."""

from __future__ import annotations

import torch

from harness.config.schema import Precision
from harness.host.machine import cpu_has_bf16

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def pick_device() -> torch.device:
    """The process's CUDA device (the first, unless it chose another), or else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def pick_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The type that products are computed in. "auto": bf16 where the hardware has it.

    float16 has no fast products on a CPU and needs loss scaling: there it is computed in float32,
    which holds every float16 value.
    """
    if precision == "auto":
        if device.type == "cuda":
            return (
                torch.bfloat16
                if torch.cuda.is_bf16_supported(including_emulation=False)
                else torch.float16
            )
        return torch.bfloat16 if cpu_has_bf16() else torch.float32
    if precision == "fp16" and device.type == "cpu":
        return torch.float32
    return DTYPES[precision]


def limit_memory(device: torch.device, limit: int | None) -> None:
    """Hold this process to `limit` bytes of a GPU, None: all of it. What goes beyond that runs out
    of memory, as it would on a smaller card."""
    if device.type == "cuda":
        share = 1.0
        if limit is not None:
            share = min(1.0, limit / torch.cuda.mem_get_info(device)[1])
        torch.cuda.set_per_process_memory_fraction(share, device)


def free_memory(device: torch.device) -> int:
    """Bytes of a GPU that this process may still take: what its allocator keeps counts as free."""
    free, total = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    limit = int(total * torch.cuda.get_per_process_memory_fraction(device))
    return min(free + kept, limit - torch.cuda.memory_allocated(device))


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that the device (on a CPU: this process) has held so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
