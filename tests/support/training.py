"""Samples, a recipe and a short training of tiny models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from harness.config.schema import LoraSettings, RecipeConfig
from harness.data.tokens import TokenSample
from harness.models.adapter import Adapter
from harness.training.loop import train
from harness.training.memory_plan import PlanConstraints
from harness.training.step_log import StepLog
from harness.training.trainer import Trainer


def sample(name: str, length: int, prompt: int, seed: int = 0) -> TokenSample:
    """Random tokens, `prompt` of them the prompt's."""
    torch.manual_seed(seed + length)
    ids = tuple(torch.randint(0, 258, (length,)).tolist())
    return TokenSample(name, ids, prompt, bytes=length - prompt, cut=False)


LENGTHS = [(13, 5), (30, 1), (21, 20), (9, 2), (40, 12), (17, 8), (25, 3), (11, 10)]
SAMPLES = [sample(str(i), *shape, seed=i) for i, shape in enumerate(LENGTHS)]


def tiny_recipe(**changes: Any) -> RecipeConfig:
    """Six steps over SAMPLES, two an epoch."""
    values: dict[str, Any] = {
        "name": "test",
        "precision": "fp32",
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "num_train_epochs": 3.0,
        "learning_rate": 1e-2,
        "lora": LoraSettings(r=4, lora_alpha=8.0, lora_dropout=0.1),
    }
    return RecipeConfig(**{**values, **changes})


def trained(
    base: Any,
    adapter: Adapter,
    recipe: RecipeConfig,
    folder: Path,
    log: Callable[[StepLog], None] = lambda entry: None,
    *,
    samples: Sequence[TokenSample] = SAMPLES,
    validation: Sequence[TokenSample] = (),
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
    fixed: PlanConstraints = PlanConstraints(),  # noqa: B008 (frozen)
    **hooks: Any,
) -> dict[str, Any]:
    """Train `adapter`, with checkpoints in `folder`; the facts."""
    trainer = Trainer(base, adapter, samples, validation, recipe, seed, say, fixed)
    return train(trainer, folder, log, **hooks)
