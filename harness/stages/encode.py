"""Examples as ids before a training: what is cut, left out or cannot be written is said here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.data.tokens import Codec, TokenSample, prompt_room, spelling, with_labels
from harness.errors import RunError
from harness.host.signals import check
from harness.models.load import Base
from harness.records import Example
from harness.runs.context import Context


@dataclass(frozen=True, slots=True)
class Encoded:
    """What a training is given.

    train, validation: samples with a label left. cut: answers of the training part that lost their
    end. unlabelled: training examples without a token to learn from. bytes_per_token: UTF-8 bytes
    of an answer's text that a token of it stands for.
    """

    train: list[TokenSample]
    validation: list[TokenSample]
    cut: int
    unlabelled: int
    bytes_per_token: float


def encode(context: Context, base: Base, codec: Codec, longest: int) -> Encoded:
    """The parts of a run as ids of at most `longest` tokens an example.

    All of the held-out part is encoded as well, so that what cannot be is known before training.
    Raises RunError where no training example is left, or an example cannot be encoded.
    """
    task = context.run.task
    parts = {name: context.view.examples(name) for name in ("train", "validation", "test")}
    train, validation = (
        [_sample(codec, example, longest) for example in parts[part]]
        for part in ("train", "validation")
    )
    labelled = with_labels(train)
    if not labelled:
        raise RunError(
            f"no training example of {task.name} has a token to learn from within "
            f"{longest} tokens; raise max_length in the recipe."
        )
    cut, unlabelled = sum(sample.cut for sample in labelled), len(train) - len(labelled)
    if unlabelled or cut:
        context.say(
            f"{task.name}: at {longest} tokens {cut} answers are cut, and {unlabelled} "
            "examples have no answer left and are not trained on"
        )
    room = prompt_room(base.context, task.decoding.max_new_tokens)
    long = sum(codec.prompt_within(example.prompt, room)[1] for example in parts["test"])
    if long:
        context.say(
            f"{task.name}: {long} of {len(parts['test'])} held-out prompts are longer than "
            f"{room} tokens and lose their beginning: decoding.max_new_tokens leaves no more of "
            f"the model's context of {base.context}"
        )
    _say_unwritable(context, codec, [*parts["train"], *parts["test"]])
    size = sum(s.bytes for s in labelled) / sum(s.scored_tokens for s in labelled)
    if said := spelling(size, len(base.tokenizer)):
        context.say(f"{base.name}: {said}")
    return Encoded(labelled, with_labels(validation), cut, unlabelled, size)


def _sample(codec: Codec, example: Example, longest: int) -> TokenSample:
    check()
    return codec.sample(example, longest)


def _say_unwritable(context: Context, codec: Codec, examples: Sequence[Example]) -> None:
    """Count the answers that the tokenizer gives back otherwise, and say so with one of them."""
    lost: list[tuple[Example, str]] = []
    for example in examples:
        check()
        if (back := codec.written(example.target)) != example.target:
            lost.append((example, back))
    if lost:
        first, back = lost[0]
        target = first.target
        at = next((i for i, (a, b) in enumerate(zip(target, back, strict=False)) if a != b), 0)
        here = slice(max(0, at - 10), at + 20)
        context.say(
            f"{context.run.task.name}: the tokenizer cannot write {len(lost)} of {len(examples)} "
            f"answers as they are (in {first.id} {target[here]!r} comes back as {back[here]!r})"
        )
