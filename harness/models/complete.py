"""Whether a checkpoint fits its configuration: every tensor there, and none over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.errors import MissingError

if TYPE_CHECKING:
    from torch import nn


def check_complete(
    name: str, path: str, model: nn.Module, found: dict[str, Any], part: bool = False
) -> None:
    """Raise MissingError unless every tensor of the model was in the checkpoint, and none is over.

    transformers fills what is missing with random values, and says so in a warning at most.
    found: its loading info. part: the checkpoint has other parts beside `model`, as a vision tower.
    """
    missing = sorted(found["missing_keys"])
    wrong = sorted(str(key) for key in found.get("mismatched_keys", ()))
    unused = sorted(found["unexpected_keys"])
    if part:
        own = {".".join(key.split(".")[:2]) for key in model.state_dict()}
        unused = [key for key in unused if ".".join(key.split(".")[:2]) in own]
    told = [
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})"
        for keys, what in (
            (missing, "tensors of the model are not in it"),
            (wrong, "have another shape"),
            (unused, "are in it that the model does not use"),
        )
        if keys
    ]
    if told:
        raise MissingError(
            f"model {name}: the checkpoint in {path} does not fit its config.json: "
            f"{'; '.join(told)}; save the model there anew, or mend config.json."
        )
