"""What llama's and gemma's layers share: the linears of attention and of a gated MLP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from harness.decoder.layer import Layer, stacked
from harness.decoder.lora_linear import LoraGroup


class GatedLayer(Layer):
    """A layer with its linears in four groups, each of which reads one input."""

    def __init__(self, module: Any, config: Any, dense: bool, dtype: torch.dtype, index: int):
        attn, mlp = module.self_attn, module.mlp
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads
        self.head_dim = attn.head_dim
        groups = [
            stacked([attn.q_proj, attn.k_proj, attn.v_proj]),
            stacked([attn.o_proj]),
            stacked([mlp.gate_proj, mlp.up_proj]),
            stacked([mlp.down_proj]),
        ]
        self.qkv, self.o, self.gate_up, self.down = (
            LoraGroup(linears, dense, dtype, 4 * index + i) for i, linears in enumerate(groups)
        )

    @property
    def linears(self) -> list[LoraGroup]:
        return [self.qkv, self.o, self.gate_up, self.down]

    def split_heads(self, qkv: Tensor) -> Sequence[Tensor]:
        """Queries, keys and values [T, heads, K] of [T, (H + 2 G) K]; views."""
        heads = qkv.view(len(qkv), self.heads + 2 * self.kv_heads, self.head_dim)
        return torch.split(heads, [self.heads, self.kv_heads, self.kv_heads], 1)
