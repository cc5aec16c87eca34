"""What llama's and gemma's layers share: attention, then a gated feed-forward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from harness.decoder.layer import Layer, stacked
from harness.decoder.lora_linear import Group


class GatedLayer(Layer):
    """A layer with its linears in four groups, each of which reads one input.

    heads, groups: of queries, and of keys and values. size: of a head.
    """

    def __init__(self, module: Any, config: Any, dense: bool, dtype: torch.dtype, seed: int):
        own, mlp = module.self_attn, module.mlp
        self.heads = config.num_attention_heads
        self.groups = config.num_key_value_heads
        self.size = own.head_dim
        made = [
            stacked([own.q_proj, own.k_proj, own.v_proj]),
            stacked([own.o_proj]),
            stacked([mlp.gate_proj, mlp.up_proj]),
            stacked([mlp.down_proj]),
        ]
        self.qkv, self.o, self.gate_up, self.down = (
            Group(parts, dense, dtype, 4 * seed + i) for i, parts in enumerate(made)
        )

    @property
    def linears(self) -> list[Group]:
        return [self.qkv, self.o, self.gate_up, self.down]

    def split(self, rows: Tensor) -> Sequence[Tensor]:
        """Queries, keys and values [T, heads, K] of [T, (H + 2 G) K]; views."""
        heads = rows.view(len(rows), self.heads + 2 * self.groups, self.size)
        return torch.split(heads, [self.heads, self.groups, self.groups], 1)
