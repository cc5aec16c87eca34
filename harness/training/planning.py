"""How a step is carried out on this machine: none of it changes what is computed."""

from __future__ import annotations

from dataclasses import dataclass

from harness.models.load import Base


@dataclass(slots=True)
class RowPlan:
    """How a step is carried out; none of it changes what is computed beyond rounding."""

    row_tokens: int
    checkpointing: bool = False

    def shrink(self, base: Base) -> bool:
        """Ask for less memory after it ran out; False when nothing smaller is left."""
        if not self.checkpointing:
            self.checkpointing = True
            enable_checkpointing(base)
            return True
        self.row_tokens //= 2
        return self.row_tokens >= 64


def plan_for(base: Base) -> RowPlan:
    """Rows long enough to keep the hardware busy; a CPU is so with little, and long rows cost it
    the square of their length in attention."""
    return RowPlan(row_tokens=256 if base.device.type == "cpu" else 4096)


def enable_checkpointing(base: Base) -> None:
    """Keep only the layers' inputs in the forward pass and compute the rest again."""
    # transformers 5 renames it in some minor version; the older name still stands before that.
    model = base.model
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable({"use_reentrant": False})
