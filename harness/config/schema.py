"""The schemas of the registry's files. Strict: unknown keys and wrong types are refused.

The object made here is the one whose dump keys the stages and stands in the manifest.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
RESERVED_NAMES = frozenset(
    ["con", "prn", "aux", "nul", *(f"{d}{i}" for d in ("com", "lpt") for i in range(1, 10))]
)

Quantization = Literal["nf4", "int8", "none"]
Precision = Literal["auto", "bf16", "fp16", "fp32"]

SMALL_MODEL = 2_000_000_000
"""Parameters up to which "auto" leaves a model unquantised: at most 4 GB in two bytes each."""


def valid_name(name: str) -> bool:
    """Whether `name` can name a model, task or recipe (and so a folder on any system)."""
    return (
        NAME_PATTERN.fullmatch(name) is not None
        and ".." not in name
        and name.split(".")[0] not in RESERVED_NAMES
        and not name.endswith(".")
    )


def _check_name(name: str) -> str:
    if not valid_name(name):
        raise ValueError(
            "a name has 1 to 64 of a-z, 0-9, '.', '_' and '-', begins with a letter or digit, "
            "and has no '..'"
        )
    return name


def _check_template(template: str) -> str:
    if template.count("{}") != 1:
        raise ValueError("the template must contain {} exactly once, where the prompt goes")
    return template


def _check_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"it is no regular expression ({error})") from error
    return pattern


Name = Annotated[str, AfterValidator(_check_name)]
Pattern = Annotated[str, Field(min_length=1), AfterValidator(_check_pattern)]
Template = Annotated[str, AfterValidator(_check_template)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


# --- models ----------------------------------------------------------------------------------


class HubSource(_Strict):
    """Weights in a repository of the hub (or its local cache)."""

    kind: Literal["hub"]
    repo: str
    revision: str = "main"
    gated: bool = False


class GgufPackageSource(_Strict):
    """Weights in a Python package that carries a GGUF file in chunks; its hash is pinned here."""

    kind: Literal["gguf-package"]
    package: str
    module: str
    file: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class LocalSource(_Strict):
    """A folder with config.json, safetensors and a tokenizer."""

    kind: Literal["local"]
    path: str


class ScriptedSource(_Strict):
    """No weights: answers read from a JSONL file (see harness/backends/scripted.py)."""

    kind: Literal["scripted"]
    path: str | None = None


class PluginSource(_Strict):
    """No weights here: a backend that another package adds (see harness/backends).

    backend: its name in the entry-point group harness.backends. options: for it to read.
    """

    kind: Literal["plugin"]
    backend: str
    options: dict[str, Any] = {}


class ModelConfig(_Strict):
    """A registered base model.

    parameters: how many weights it has; what it needs of memory and disk follows from it.
    needs_gpu:  refuse, before any work, to run the registered weights without a CUDA GPU.
    recipe, task: what a command that names no recipe or no task takes for this model.
    """

    name: Name
    description: str = ""
    license: str = ""
    parameters: NonNegativeInt
    needs_gpu: bool = False
    recipe: Name | None = None
    task: Name | None = None
    source: Annotated[
        HubSource | GgufPackageSource | LocalSource | ScriptedSource | PluginSource,
        Field(discriminator="kind"),
    ]

    @property
    def has_weights(self) -> bool:
        """Whether there is a base to load and to train an adapter for."""
        return not isinstance(self.source, ScriptedSource | PluginSource)


# --- tasks -----------------------------------------------------------------------------------


class DataConfig(_Strict):
    """Where a task's rows come from: a repository of the hub, or the task's own generator.

    hub:       the hub's name of the data set; `--data TASK=PATH` takes a local copy instead.
    config:    which of the data set's configurations (subsets), where it has several.
    generator: "module:function" in the task's folder; called with this table's `seed`,
               `train` and `test`, it yields (side, Example) pairs.
    """

    hub: str | None = None
    revision: str | None = None
    config: str | None = None
    split: str = "train"
    generator: str | None = None
    seed: NonNegativeInt = 0
    train: PositiveInt | None = None
    test: PositiveInt | None = None

    @model_validator(mode="after")
    def _one_source(self) -> DataConfig:
        if (self.hub is None) == (self.generator is None):
            raise ValueError("give exactly one of 'hub' and 'generator'")
        if self.generator is not None and (self.train is None or self.test is None):
            raise ValueError("a generator needs 'train' and 'test', the number of rows of each")
        return self


class ColumnsConfig(_Strict):
    """Which columns of the data are what. A prompt is prompt + join + context where both are there.

    remove: columns that are dropped on reading; any other column is an error.
    """

    prompt: str
    target: str
    context: str | None = None
    join: str = "\n"
    remove: list[str] = []


class SplitConfig(_Strict):
    """How rows are divided.

    method:     groups   by clusters of near-duplicates, none on both sides;
                random   plainly, row by row;
                provided the generator says which side a row is on.
    test:       share of rows (groups: approached from below) held out.
    validation: share of the training part held back to watch the loss.
    target_jaccard, prompt_jaccard: two rows are near-duplicates when the Jaccard index of
                their targets' word 3-grams, or of their prompts' words, is at least so high.
    """

    method: Literal["groups", "random", "provided"] = "groups"
    seed: NonNegativeInt = 0
    test: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    validation: Fraction = 0.05
    target_jaccard: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    prompt_jaccard: Annotated[float, Field(gt=0.0, le=1.0)] = 0.6


class DecodingConfig(_Strict):
    """How answers are generated; temperature 0 is greedy.

    top_p, top_k, min_p: draws are from the likeliest tokens that together have the probability
             top_p, from so many (0: any number), from those with the share min_p of the likeliest
             one's probability.
    repetition_penalty: tokens that prompt or answer have are made less likely by it; 1: they are
             not.
    stop:    texts that end an answer, which keeps them.
    num_return_sequences: answers to each prompt; a prompt's score is the mean of theirs.
    """

    max_new_tokens: PositiveInt = 1024
    temperature: NonNegativeFloat = 0.0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    top_k: NonNegativeInt = 0
    min_p: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    repetition_penalty: PositiveFloat = 1.0
    stop: list[Annotated[str, Field(min_length=1)]] = []
    num_return_sequences: PositiveInt = 1
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _answers_differ(self) -> DecodingConfig:
        if self.num_return_sequences > 1 and self.temperature == 0:
            raise ValueError(
                "num_return_sequences over 1 needs a temperature: greedy answers are all the same"
            )
        return self


class TaskConfig(_Strict):
    """A data set with its split, prompt template, decoding and scorers.

    scorers: names of scorers or of single metrics, or evaluate:PATH_OR_NAME.
    text:    what is scored of an answer: raw, all of it, or extracted, without chat and fence.
    """

    name: Name
    description: str = ""
    license: str = ""
    template: Template
    scorers: Annotated[list[str], Field(min_length=1)]
    text: Literal["raw", "extracted"] = "raw"
    data: DataConfig
    columns: ColumnsConfig | None = None
    split: SplitConfig = SplitConfig()
    decoding: DecodingConfig = DecodingConfig()

    @model_validator(mode="after")
    def _columns_match_source(self) -> TaskConfig:
        if self.data.hub is not None and self.columns is None:
            raise ValueError("a task read from the hub needs a [columns] table")
        if (self.data.generator is not None) != (self.split.method == "provided"):
            raise ValueError("split.method 'provided' goes with data.generator, and only with it")
        return self


# --- recipes ---------------------------------------------------------------------------------


class LoraSettings(_Strict):
    """The adapter, by peft's own names.

    target_modules: "all-linear" (all but the output head), module names, or a regular expression
    over their full names. modules_to_save: modules that are trained whole and saved beside it.
    """

    r: PositiveInt = 16
    lora_alpha: PositiveFloat = 32.0
    lora_dropout: Fraction = 0.0
    bias: Literal["none", "all", "lora_only"] = "none"
    target_modules: Pattern | Annotated[list[str], Field(min_length=1)] = "all-linear"
    modules_to_save: list[str] = []
    task_type: Literal["CAUSAL_LM"] = "CAUSAL_LM"
    use_rslora: bool = False
    use_dora: bool = False


class RecipeConfig(_Strict):
    """Training hyper-parameters: *what* is computed, by the names that the field knows.

    An optimiser step sees per_device_train_batch_size * gradient_accumulation_steps examples,
    and its loss is their mean over scored tokens; how they are spread over micro-batches does not
    change it.
    quantization: how the frozen base is held; "auto": nf4 for a model of over 2e9 parameters.
    max_steps:    take so many optimiser steps, whatever num_train_epochs says (None: as it says).
    max_length:   tokens of one example at most; a longer completion is cut.
    packing:      a step's examples are counted in rows of max_length tokens filled with whole
                  examples, end-of-text between them, none of which sees another.
    gradient_checkpointing: "auto": as far as the memory at hand demands it.
    eval_steps:   measure the validation part every so many steps (0: only at the end).
    eval_samples: answer so many validation prompts then, and score the answers with ROUGE.
    early_stopping_patience: stop after so many measurements in a row without a lower validation
                  loss (0: never).
    load_best_model_at_end: publish the adapter of the lowest validation loss, not the last one.
    save_strategy: checkpoint every save_steps steps (0: none), at each epoch's end, or not at
                  all; an interrupted training leaves one in any case.
    save_total_limit: checkpoints kept, the newest.
    """

    name: Name
    description: str = ""
    quantization: Quantization | Literal["auto"] = "none"
    precision: Precision = "auto"
    num_train_epochs: PositiveFloat = 1.0
    max_steps: PositiveInt | None = None
    per_device_train_batch_size: PositiveInt = 1
    gradient_accumulation_steps: PositiveInt = 8
    max_length: Annotated[int, Field(ge=16)] = 1024
    packing: bool = False
    gradient_checkpointing: Literal["auto", "always", "never"] = "auto"
    optim: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = "adamw"
    learning_rate: PositiveFloat = 2e-4
    weight_decay: NonNegativeFloat = 0.0
    adam_beta1: Fraction = 0.9
    adam_beta2: Fraction = 0.999
    adam_epsilon: PositiveFloat = 1e-8
    max_grad_norm: PositiveFloat = 1.0
    lr_scheduler_type: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: Fraction = 0.05
    logging_steps: PositiveInt = 1
    eval_steps: NonNegativeInt = 0
    eval_samples: NonNegativeInt = 0
    early_stopping_patience: NonNegativeInt = 0
    load_best_model_at_end: bool = False
    save_strategy: Literal["steps", "epoch", "no"] = "steps"
    save_steps: NonNegativeInt = 0
    save_total_limit: PositiveInt = 2
    lora: LoraSettings = LoraSettings()

    @model_validator(mode="after")
    def _save_steps_are_asked_for(self) -> RecipeConfig:
        if self.save_steps and self.save_strategy != "steps":
            raise ValueError("save_steps goes with save_strategy 'steps', and only with it")
        return self

    @model_validator(mode="after")
    def _best_is_measured(self) -> RecipeConfig:
        if (self.early_stopping_patience or self.load_best_model_at_end) and not self.eval_steps:
            raise ValueError(
                "early_stopping_patience and load_best_model_at_end need eval_steps, the steps "
                "from one measurement of the validation part to the next"
            )
        return self

    def quantization_of(self, parameters: int) -> Quantization:
        """How a base of so many parameters is held: what "auto" stands for."""
        if self.quantization == "auto":
            return "nf4" if parameters > SMALL_MODEL else "none"
        return self.quantization
