"""MFU (model FLOPs utilisation) of a training: its tokens a second over those of the GEMM peak.

The peak is the rate of square products measured on the same device, not a data sheet's.
"""

from __future__ import annotations

import time
from functools import cache

import torch

from harness.models.families import linear_names, linear_size
from harness.models.load import Base

SLOW = 5e9
"""FLOP/s below which a CPU has no products of a type in hardware."""


@cache
def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a square product in `dtype`, measured once a process: 8192 wide, on a CPU 2048.

    A CPU that only emulates `dtype` would take minutes for that: there a small one tells enough.
    """
    if device.type == "cuda":
        return _rate(device, dtype, 8192, 10)
    small = _rate(device, dtype, 256, 1)
    return small if small < SLOW else _rate(device, dtype, 2048, 2)


def _rate(device: torch.device, dtype: torch.dtype, size: int, repeats: int) -> float:
    generator = torch.Generator(device).manual_seed(0)  # the training's own randomness stays
    a = torch.randn(size, size, device=device, generator=generator).to(dtype)
    out = torch.empty_like(a)
    torch.mm(a, a, out=out)  # the libraries set themselves up
    _wait(device)
    began = time.perf_counter()
    for _ in range(repeats):
        torch.mm(a, a, out=out)
    _wait(device)
    return 2 * size**3 * repeats / (time.perf_counter() - began)


def peak_tokens_per_second(base: Base) -> float:
    """Tokens a second of a training whose MFU is 1."""
    return matmul_rate(base.device, base.dtype) / flop_per_token(base)


def flop_per_token(base: Base) -> int:
    """4 P: forward and the gradient of the input, 2 P each, for P weights of the linears and head.

    A frozen base has no gradient of its own; attention and the adapter are not counted.
    """
    modules = dict(base.model.named_modules())
    names = [name for name in linear_names(base.model) if ".lora_" not in name]
    linears = sum(linear_size(modules[name]) for name in names)
    return 4 * (linears + base.head_weight.numel())


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
