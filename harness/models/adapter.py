"""LoRA adapters on a loaded base: put on, switched, proved to be live, saved, taken off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.config.schema import LoraSettings
from harness.errors import AdapterError, UsageError
from harness.host.files import storing
from harness.models.coverage import adapted_weights, weights_of
from harness.models.families import LINEARS, linear_names
from harness.models.load import Base
from harness.models.quiet import quiet
from harness.models.saving import saving

_FIRST, _OTHER = "default", "beside"
"""Peft's names: others are "beside1" and so on (it takes a bare number for a layer's)."""


def index_of(name: str) -> int:
    """Which of the adapters on a base peft's name is, from 0 on."""
    return 0 if name == _FIRST else int(name.removeprefix(_OTHER))


class Adapter:
    """An adapter on `base`. Base.model holds its layers while it is on; `detach` removes them.

    There is one base: `switch` takes the adapter off its products and back. Others may be put
    beside it (`beside`), of which one at a time answers by transformers' layers.
    """

    def __init__(self, base: Base, peft_model: Any, name: str = _FIRST) -> None:
        self.base = base
        self._peft = peft_model
        self._name = name
        for layer in self.layers().values():
            # Under autocast the input need not be widened to the adapter's float32 first.
            layer.cast_input_dtype_enabled = base.dtype == torch.float32

    @classmethod
    def attach(cls, base: Base, settings: LoraSettings, seed: int) -> Adapter:
        """A fresh adapter: A random from `seed`, B zero, both in float32.

        Raises UsageError when target_modules or modules_to_save name no module of the model.
        """
        with quiet():
            from peft import LoraConfig, get_peft_model

        torch.manual_seed(seed)
        config = LoraConfig(
            task_type=settings.task_type,
            r=settings.r,
            lora_alpha=settings.lora_alpha,
            lora_dropout=settings.lora_dropout,
            bias=settings.bias,
            target_modules=targets_of(base.model, settings, base.name),
            modules_to_save=list(settings.modules_to_save) or None,
            use_rslora=settings.use_rslora,
            use_dora=settings.use_dora,
        )
        try:
            with quiet():
                peft_model = get_peft_model(base.model, config)
        except (ValueError, TypeError, NotImplementedError) as error:
            raise UsageError(
                f"recipe: peft cannot put this lora table on {base.name} "
                f"({' '.join(str(error).split())[:200]}); mend the table."
            ) from error
        peft_model.peft_config["default"].base_model_name_or_path = base.origin
        peft_model.peft_config["default"].revision = base.revision
        return cls(base, peft_model)

    @classmethod
    def load(cls, base: Base, folder: Path) -> Adapter:
        """A saved adapter put on `base`, by plain peft.

        Raises AdapterError where its file lacks a tensor of it, or holds one more: peft would fill
        what is missing with fresh values.
        """
        with quiet():
            from peft import PeftModel

            adapter = cls(base, PeftModel.from_pretrained(base.model, folder))
        try:
            adapter._check(folder)
        except AdapterError:
            adapter.detach()
            raise
        return adapter

    def beside(self, folder: Path) -> Adapter:
        """A saved adapter put on the same base; raises AdapterError as `load` does. `detach` of
        either takes both off."""
        name = f"{_OTHER}{len(self._peft.peft_config)}"
        try:
            with quiet():
                self._peft.load_adapter(folder, adapter_name=name)
        except (RuntimeError, ValueError, OSError) as error:
            raise AdapterError(
                f"the adapter in {folder} does not fit {self.base.name} "
                f"({' '.join(str(error).split())[:200]}); give one that was trained on it."
            ) from error
        adapter = Adapter(self.base, self._peft, name)
        adapter._check(folder)
        return adapter

    def _check(self, folder: Path) -> None:
        """Raise AdapterError where the file in `folder` holds other tensors than the adapter."""
        from safetensors import safe_open

        with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
            saved = set(file.keys())
        if odd := sorted(saved ^ set(self.state())):
            raise AdapterError(
                f"the adapter in {folder} does not fit {self.base.name}: {len(odd)} tensors are "
                f"only in one of them (as {odd[0]}); remove its folder and run again."
            )

    @property
    def index(self) -> int:
        """Which of the adapters on the base it is, from 0 on."""
        return index_of(self._name)

    @property
    def settings(self) -> Any:
        """peft's configuration of the adapter."""
        return self._peft.peft_config[self._name]

    def parameters(self) -> list[nn.Parameter]:
        """The trainable parameters, in the order of the modules."""
        return [p for p in self._peft.parameters() if p.requires_grad]

    def state(self) -> dict[str, torch.Tensor]:
        """Name to value of every adapter weight, as `load_state` takes it."""
        from peft import get_peft_model_state_dict

        with quiet():
            state: dict[str, torch.Tensor] = get_peft_model_state_dict(
                self._peft, adapter_name=self._name
            )
        return state

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Set every adapter weight from what `state` gave."""
        from peft import set_peft_model_state_dict

        with quiet():
            set_peft_model_state_dict(self._peft, state, adapter_name=self._name)

    def train(self, mode: bool) -> None:
        """Adapter dropout on or off."""
        self._peft.train(mode)

    def switch(self, on: bool) -> None:
        """From now on the model answers with the adapter, or with none. Does nothing where it does
        already, since switching visits every layer."""
        layers = self._peft.base_model
        layer = next(iter(self.layers().values()), None)
        enabled = layer is not None and not layer.disable_adapters
        if on != enabled:
            layers.enable_adapter_layers() if on else layers.disable_adapter_layers()
        if on and self._peft.active_adapter != self._name:
            self._peft.set_adapter(self._name, inference_mode=True)

    def layers(self) -> dict[str, Any]:
        """Name to module of every layer that carries the adapter."""
        from peft.tuners.lora import LoraLayer

        layers = ((n, m) for n, m in self._peft.named_modules() if isinstance(m, LoraLayer))
        return {n: m for n, m in layers if self._name in (*m.lora_A, *m.lora_embedding_A)}

    def on_linears(self) -> bool:
        """Whether all that carries the adapter is a linear, and no embedding."""
        return all(isinstance(m.get_base_layer(), LINEARS) for m in self.layers().values())

    def check_live(self, probe: list[int]) -> dict[str, float]:
        """Prove that the adapter changes the model, or raise AdapterError.

        probe: token ids of some prompt. Returns how many modules carry the adapter, the mean
        Frobenius norm of B·A over them, and the largest change of a logit on the probe.
        """
        layers = self.layers()
        expected = [*layers]
        if self.index == 0:  # peft counts those of the first one
            expected = self._peft.base_model.targeted_module_names
        if not layers or len(layers) != len(expected):
            raise AdapterError(
                f"the adapter is on {len(layers)} of {len(expected)} layers of "
                f"{self.base.name}; its files are of another model, delete the run and retry."
            )
        norms = [_norm(layer, self._name) for layer in layers.values()]
        ids = torch.tensor([probe], device=self.base.device)
        logits = []
        with torch.inference_mode(), self.base.autocast():
            for on in (False, True):
                self.switch(on)
                out = self.base.model(input_ids=ids, use_cache=False, logits_to_keep=1)
                logits.append(out.logits.float())
        change = (logits[1] - logits[0]).abs().max().item()
        if not any(norms) or not change > 0.0:
            raise AdapterError(
                f"the adapter of {self.base.name} has no effect (largest B·A norm {max(norms)}, "
                f"largest change of a logit {change}); train for more steps or at a higher rate."
            )
        return {
            "modules": len(layers),
            "share": adapted_weights(layers) / max(1, weights_of(self.base.model).total),
            "mean_norm": sum(norms) / len(norms),
            "largest_logit_change": change,
        }

    def save(self, folder: Path) -> list[Path]:
        """Write the adapter in PEFT's own format into `folder`; returns the files.

        Raises StorageError.
        """
        with storing(folder), saving(), quiet():
            self._peft.save_pretrained(folder, safe_serialization=True)
        # PEFT's card is a form with nothing filled in.
        (folder / "README.md").unlink(missing_ok=True)
        return sorted(f for f in folder.iterdir() if f.is_file())

    def detach(self) -> None:
        """Take all adapters off; the base is what it was before."""
        self.switch(on=True)
        with quiet():
            self.base.model = self._peft.unload()


def targets_of(model: nn.Module, settings: LoraSettings, name: str) -> list[str] | str:
    """What peft is told to put the adapter on: module names, or a regular expression.

    "all-linear" is every linear of `model` but the output head. model: one without weights will do.
    Raises UsageError where modules are named that it does not have.
    """
    import re

    modules = [module for module, _ in model.named_modules() if module]
    known = sorted({module.rsplit(".", 1)[-1] for module in linear_names(model)})

    def absent(names: list[str]) -> list[str]:
        return [n for n in names if not any(m == n or m.endswith(f".{n}") for m in modules)]

    if lost := absent(list(settings.modules_to_save)):
        raise UsageError(
            f"recipe: lora.modules_to_save names {', '.join(lost)}, which {name} does not have."
        )
    targets = settings.target_modules
    if targets == "all-linear":
        return known
    if isinstance(targets, str):
        if not any(re.fullmatch(targets, module) for module in modules):
            raise UsageError(
                f"recipe: lora.target_modules {targets!r} matches no module of {name}; its linear "
                f"layers end in {', '.join(known)}, as {next(iter(linear_names(model)), '')}."
            )
        return targets
    if lost := absent(list(targets)):
        raise UsageError(
            f"recipe: lora.target_modules names {', '.join(lost)}, which {name} does "
            f"not have; its linear layers are {', '.join(known)}."
        )
    return list(targets)


def _norm(layer: Any, name: str) -> float:
    """Frobenius norm of B·A of peft's layer, a linear's or an embedding's."""
    if name in layer.lora_A:
        a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    else:
        a, b = layer.lora_embedding_A[name], layer.lora_embedding_B[name]
    return float(torch.linalg.matrix_norm(b.float() @ a.float()).item())
