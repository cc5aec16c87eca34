"""What is told of each optimiser step."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from harness.host.progress import duration


@dataclass(frozen=True, slots=True)
class StepLog:
    """What one optimiser step did.

    loss, validation: nats a scored token, in training and on the validation part.
    seconds:  of the step itself; watching: of the validation and sample answers after it.
    mfu: model FLOPs utilisation, the share of the device's measured GEMM peak that 4 FLOP a token
        and parameter of linears and head are.
    memory_gib: the most held so far. seconds_left: until the last step, as far as can be told.
    """

    step: int
    total: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    scored: int
    seconds: float
    validation: float | None = None
    validation_accuracy: float | None = None
    validation_rougeL: float | None = None
    watching: float = 0.0
    mfu: float | None = None
    memory_gib: float | None = None
    seconds_left: float | None = None

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / max(self.seconds, 1e-9)

    def to_json(self) -> dict[str, Any]:
        """Plain data; what overflowed (a gradient norm in float16, at first) is null."""
        row = asdict(self) | {"tokens_per_second": self.tokens_per_second}
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in row.items()
        }

    def line(self) -> str:
        """One line for people."""
        parts = [
            f"step {self.step}/{self.total}",
            f"loss {self.loss:.4f}",
            f"rate {self.learning_rate:.2e}",
            f"grad {self.grad_norm:.3f}",
            f"{self.tokens_per_second:.0f} tok/s",
        ]
        if self.mfu is not None:
            parts.append(f"{self.mfu:.1%} MFU")
        if self.memory_gib is not None:
            parts.append(f"{self.memory_gib:.1f} GiB")
        if self.seconds_left is not None:
            parts.append(f"{duration(self.seconds_left)} left")
        return "  ".join(parts)

    def validation_line(self) -> str | None:
        """One line for people on what was measured after the step, if anything was."""
        if self.validation is None:
            return None
        parts = [f"step {self.step}/{self.total}", f"validation {self.validation:.4f}"]
        if self.validation_accuracy is not None:
            parts.append(f"accuracy {self.validation_accuracy:.3f}")
        if self.validation_rougeL is not None:
            parts.append(f"rougeL {self.validation_rougeL:.3f}")
        return "  ".join(parts)
