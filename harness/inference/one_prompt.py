"""One prompt, answered greedily by any causal model of transformers or PEFT."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch

from harness.data.tokens import left_open, prompt_room, within
from harness.errors import UsageError
from harness.models.load import context_of, declared_ends
from harness.models.quiet import quiet


@runtime_checkable
class Answering(Protocol):
    """What answers by itself, with a tokenizer of its own, such as a loaded run."""

    def answer(self, prompt: str, max_input_tokens: int, max_output_tokens: int) -> str: ...


def inference(
    text: str,
    model: Any,
    tokenizer: Any = None,
    max_input_tokens: int = 1000,
    max_output_tokens: int = 100,
) -> str:
    """The model's greedy answer to `text`, without the prompt.

    text: the whole prompt, with its template and control tokens; for a loaded run the instruction
    alone, around which it puts its task's template.
    model: a causal model of transformers, with PEFT's adapter or without, on its own device; or a
    run that `harness.load_run` gave, which loads its base and adapter at the first call.
    tokenizer: the model's, of transformers; None for a loaded run.
    max_input_tokens: of a longer prompt the last so many tokens are taken, led by its BOS. Fewer
    where the model's context, less max_output_tokens, has no room for them.
    max_output_tokens: new tokens at most. The answer ends before them at any end token that the
    tokenizer or the model's generation settings declare.

    No gradient is recorded; the model answers in evaluation mode, and is left in the mode that it
    was in.
    Raises UsageError where an argument is of no use; for a loaded run what its `answer` raises.
    """
    check_request(text, max_input_tokens, max_output_tokens)
    if isinstance(model, Answering):
        if tokenizer is not None:
            raise UsageError("a loaded run has a tokenizer of its own: leave `tokenizer` out.")
        return model.answer(text, max_input_tokens, max_output_tokens)
    if tokenizer is None:
        raise UsageError(
            "`tokenizer` is missing: give the model's, as transformers' AutoTokenizer loads it."
        )
    if getattr(model.config, "is_encoder_decoder", False):
        raise UsageError(
            f"{type(model).__name__} has an encoder and a decoder: give a causal model."
        )
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    ids = left_open(tokenizer(text)["input_ids"], bos, eos)
    room = room_of(model, max_input_tokens, max_output_tokens)
    ids, _ = within(ids, room, bos)
    ends = {*declared_ends(model, tokenizer), *([] if eos is None else [eos])}
    new = greedy(model, ids, ends, max_output_tokens)
    answer: str = tokenizer.decode(
        new, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return answer


def check_request(text: object, max_input_tokens: object, max_output_tokens: object) -> None:
    """Raise UsageError for what is no prompt, or no number of tokens."""
    if not isinstance(text, str):
        raise UsageError(f"`text` is a {type(text).__name__}: give the prompt as one string.")
    tokens = {"max_input_tokens": max_input_tokens, "max_output_tokens": max_output_tokens}
    for name, value in tokens.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UsageError(f"`{name}` is {value!r}: give a whole number from 1 on.")


def room_of(model: Any, max_input_tokens: int, max_output_tokens: int) -> int:
    """Tokens that a prompt may have."""
    context = context_of(model.config.get_text_config(decoder=True))
    return min(max_input_tokens, prompt_room(context, max_output_tokens))


def greedy(model: Any, ids: list[int], ends: Collection[int], max_new_tokens: int) -> list[int]:
    """The likeliest tokens after a prompt's `ids`, up to any of `ends`, which is left out.

    Settings that the model declares for sampling, or against repetition, do not count. The context
    bounds the answer, too. Raises UsageError for a prompt without a token.
    """
    if not ids:
        raise UsageError("the prompt has no token: give some text.")
    context = context_of(model.config.get_text_config(decoder=True))
    prompt = torch.tensor([ids], device=model.device)
    with _evaluating(model), torch.no_grad(), quiet():
        out = model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=max(1, min(max_new_tokens, context - len(ids))),
            min_new_tokens=0,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            eos_token_id=sorted(ends) or None,
            pad_token_id=min(ends, default=0),
        )
    new: list[int] = out[0, len(ids) :].tolist()
    end = next((at for at, token in enumerate(new) if token in ends), len(new))
    return new[:end]


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """In evaluation mode; afterwards each module is in the mode that it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
