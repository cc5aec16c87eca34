"""A LoRA adapter on a loaded base: put on, switched, proved to be live, saved, taken off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.config.schema import LoraSettings
from harness.errors import AdapterError, UsageError
from harness.models.families import linear_names
from harness.models.load import Base
from harness.models.quiet import quiet
from harness.records import ARMS, Arm


class Adapter:
    """An adapter on `base`. Base.model holds its layers while it is on; `detach` removes them.

    There is one base: `use("base")` switches the adapter off, `use("tuned")` on.
    """

    def __init__(self, base: Base, peft_model: Any) -> None:
        self.base = base
        self._peft = peft_model
        self._arm: Arm = "tuned"
        for layer in self.layers().values():
            # Under autocast the input need not be widened to the adapter's float32 first.
            layer.cast_input_dtype_enabled = base.dtype == torch.float32

    @classmethod
    def attach(cls, base: Base, settings: LoraSettings, seed: int) -> Adapter:
        """A fresh adapter: A random from `seed`, B zero, both in float32.

        Raises UsageError when target_modules name no linear of the model.
        """
        with quiet():
            from peft import LoraConfig, get_peft_model

        present = {name.rsplit(".", 1)[-1] for name in linear_names(base.model)}
        targets = settings.target_modules
        wanted = sorted(present) if targets == "all-linear" else list(targets)
        if unknown := sorted(set(wanted) - present):
            raise UsageError(
                f"recipe: lora.target_modules names {', '.join(unknown)}, which {base.name} does "
                f"not have; its linear layers are {', '.join(sorted(present))}."
            )
        torch.manual_seed(seed)
        config = LoraConfig(
            task_type=settings.task_type,
            r=settings.r,
            lora_alpha=settings.lora_alpha,
            lora_dropout=settings.lora_dropout,
            bias=settings.bias,
            target_modules=wanted,
            use_rslora=settings.use_rslora,
            use_dora=settings.use_dora,
        )
        with quiet():
            peft_model = get_peft_model(base.model, config)
        peft_model.peft_config["default"].base_model_name_or_path = base.origin
        return cls(base, peft_model)

    @classmethod
    def load(cls, base: Base, folder: Path) -> Adapter:
        """A saved adapter put on `base`, by plain peft."""
        with quiet():
            from peft import PeftModel

            return cls(base, PeftModel.from_pretrained(base.model, folder))

    @property
    def settings(self) -> Any:
        """peft's configuration of the adapter."""
        return self._peft.peft_config["default"]

    def parameters(self) -> list[nn.Parameter]:
        """The trainable parameters, in the order of the modules."""
        return [p for p in self._peft.parameters() if p.requires_grad]

    def state(self) -> dict[str, torch.Tensor]:
        """Name to value of every adapter weight, as `load_state` takes it."""
        from peft import get_peft_model_state_dict

        with quiet():
            state: dict[str, torch.Tensor] = get_peft_model_state_dict(self._peft)
        return state

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Set every adapter weight from what `state` gave."""
        from peft import set_peft_model_state_dict

        with quiet():
            set_peft_model_state_dict(self._peft, state)

    def train(self, mode: bool) -> None:
        """Adapter dropout on or off."""
        self._peft.train(mode)

    def use(self, arm: Arm) -> None:
        """From now on the model answers as `arm`. Switching visits every layer, so only then."""
        if arm != self._arm:
            switch = self._peft.base_model
            switch.enable_adapter_layers() if arm == "tuned" else switch.disable_adapter_layers()
            self._arm = arm

    def layers(self) -> dict[str, Any]:
        """Name to module of every layer that carries the adapter."""
        from peft.tuners.lora import LoraLayer

        return {n: m for n, m in self._peft.named_modules() if isinstance(m, LoraLayer)}

    def check_live(self, probe: list[int]) -> dict[str, float]:
        """Prove that the adapter changes the model, or raise AdapterError.

        probe: token ids of some prompt. Returns how many modules carry the adapter, the mean
        Frobenius norm of B·A over them, and the largest change of a logit on the probe.
        """
        layers = self.layers()
        wanted = set(self._peft.peft_config["default"].target_modules)
        expected = [
            n
            for n in linear_names(self.base.model)
            if n.endswith("base_layer") and n.split(".")[-2] in wanted
        ]
        if not layers or len(layers) != len(expected):
            raise AdapterError(
                f"the adapter is on {len(layers)} of {len(expected)} linear layers of "
                f"{self.base.name}; its files are of another model, delete the run and retry."
            )
        norms = [
            torch.linalg.matrix_norm(
                layer.lora_B["default"].weight.float() @ layer.lora_A["default"].weight.float()
            ).item()
            for layer in layers.values()
        ]
        ids = torch.tensor([probe], device=self.base.device)
        logits = {}
        with torch.inference_mode(), self.base.autocast():
            for arm in ARMS:
                self.use(arm)
                out = self.base.model(input_ids=ids, use_cache=False, logits_to_keep=1)
                logits[arm] = out.logits.float()
        change = (logits["tuned"] - logits["base"]).abs().max().item()
        if not any(norms) or not change > 0.0:
            raise AdapterError(
                f"the adapter of {self.base.name} has no effect (largest B·A norm {max(norms)}, "
                f"largest change of a logit {change}); train for more steps or at a higher rate."
            )
        return {
            "modules": len(layers),
            "mean_norm": sum(norms) / len(norms),
            "largest_logit_change": change,
        }

    def save(self, folder: Path) -> list[Path]:
        """Write the adapter in PEFT's own format into `folder`; returns the files."""
        with quiet():
            self._peft.save_pretrained(folder, safe_serialization=True)
        # PEFT's card is a form with nothing filled in.
        (folder / "README.md").unlink(missing_ok=True)
        return sorted(f for f in folder.iterdir() if f.is_file())

    def detach(self) -> None:
        """Take the adapter off; the base is what it was before."""
        self.use("tuned")
        with quiet():
            self.base.model = self._peft.unload()
