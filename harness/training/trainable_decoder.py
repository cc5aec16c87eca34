"""Fused forward/backward of a whole decoder: the adapter's gradients, sequence by sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.data.tokens import TokenSample
from harness.decoder.decoder import Decoder
from harness.decoder.lora_linear import LoraGradients, pitched
from harness.kernels import pointwise
from harness.models.load import Base
from harness.training.loss import fused_cross_entropy


class TrainableDecoder(Decoder):
    """A decoder with gradients.

    checkpointed: of how many layers (the first ones), for a sequence of so many tokens, only the
    input is kept, and the rest computed again in the backward pass.
    """

    def __init__(
        self,
        base: Base,
        dense: bool,
        checkpointed: Callable[[int], int],
        flash: bool = True,
    ) -> None:
        super().__init__(base, dense, flash)
        self.checkpointed = checkpointed
        self._spare = max(layer.spare for layer in self.layers)
        self._gradients = LoraGradients()

    @torch.no_grad()
    def gradients(self, samples: Sequence[TokenSample], scale: Tensor, dropout_seed: int) -> Tensor:
        """Add scale times the gradient of the samples' summed nll to the parameters' .grad.

        Returns the summed nll (float32).
        """
        packed, inputs = self.inputs(samples, dropout_seed)
        tokens = len(packed.ids)
        checkpointed = self.checkpointed(tokens)
        residual, delta = self.stack.embedding(packed.ids), None
        activations: list[Any] = []
        for index, layer in enumerate(self.layers):
            if index < checkpointed:
                residual, delta = (residual if delta is None else residual + delta), None
                activations.append(residual)
                residual, delta, _ = layer.forward(residual, None, inputs)
            else:
                residual, delta, saved = layer.forward(residual, delta, inputs)
                activations.append(saved)
        picked, states = self.final_states(residual, delta, packed.predict)
        del residual, delta
        nll, g_states = fused_cross_entropy(states, self.base.head_weight, packed.labels, scale)
        g_picked = torch.zeros_like(picked)
        pointwise.norm_backward(g_states, picked, self.stack.norm, g_picked)
        width = picked.shape[1]
        grad = pitched(tokens, width, self._spare, picked).zero_()
        grad[:, :width].index_copy_(0, packed.predict, g_picked)
        del picked, states, g_states, g_picked
        for index in reversed(range(len(self.layers))):
            layer, saved = self.layers[index], activations.pop()
            if index < checkpointed:
                _, _, saved = layer.forward(saved, None, inputs)
            layer.backward(grad, saved, inputs, self._gradients)
            del saved
        self._gradients.flush()
        return nll.sum()
