"""The runs of a command: each with where its weights and data are, and its stages' keys."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

from harness.config.schema import ModelConfig, RecipeConfig
from harness.host.machine import cpu_has_bf16, has_gpu, version_of
from harness.models.locate import Located, locate
from harness.pipeline.selection import Selection
from harness.runs.environment import MODEL_LIBRARIES, TOKENIZER_LIBRARIES
from harness.runs.run import Run
from harness.runs.stage import keys_of
from harness.stages import stages


def plan_runs(selection: Selection) -> list[Run]:
    """The runs, models outermost. Raises MissingError where weights cannot be located."""
    options = selection.options
    runs = []
    for chosen in selection.chosen:
        model, recipe = chosen.model, chosen.recipe
        located = locate(model, options.weights.get(model.name), verify=options.verify)
        for task in chosen.tasks:
            for seed in options.seeds:
                run = Run(
                    model,
                    task,
                    selection.task_dirs[task.name],
                    recipe,
                    seed,
                    options.limit,
                    located,
                    options.data.get(task.name),
                    _weights(model, recipe, located),
                    {},
                    selection.adapters,
                )
                keys = keys_of(run, stages(tuple(run.adapters)))
                runs.append(replace(run, keys=keys))
    return runs


def _weights(model: ModelConfig, recipe: RecipeConfig, located: Located) -> dict[str, object]:
    """What tells the base, as it is loaded, from another.

    The files' contents (a hub's: the commit; harness.model_folder says which files of a folder
    count) with the precision, quantisation and kind of device, and the libraries under it.
    """
    device = "cuda" if has_gpu() else "cpu"
    return {
        "identity": located.identity,
        "quantization": recipe.quantization_of(model.parameters),
        "precision": recipe.precision,
        "machine": {"device": device, "bf16": cpu_has_bf16()},
        "libraries": {
            "python": ".".join(platform.python_version_tuple()[:2]),
            **{name: version_of(name) for name in _libraries(model, located, device)},
        },
    }


def _libraries(model: ModelConfig, located: Located, device: str) -> list[str]:
    """The packages that loading and running the model goes through."""
    names = [*MODEL_LIBRARIES]
    if "gguf" in located.identity:
        names.append("gguf")
    elif model.has_weights and not (Path(located.path) / "tokenizer.json").is_file():
        names += TOKENIZER_LIBRARIES
    return [*names, "triton"] if device == "cuda" else names
