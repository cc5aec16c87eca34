"""Examples answered by an engine: their prompts become requests, the completions generations."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from harness.config.schema import DecodingConfig
from harness.data.tokens import Codec, prompt_room
from harness.host.progress import Tick
from harness.inference.engine import Engine
from harness.inference.request import Completion, Request, Sampling
from harness.records import Example, Generation


def answers(
    engine: Engine,
    codec: Codec,
    done: Mapping[str, Collection[str]],
    examples: Sequence[Example],
    decoding: DecodingConfig,
    tick: Tick,
) -> Iterator[tuple[str, Generation]]:
    """Answers to the examples' prompts, each with the name of its system, yielded as it ends.

    done: by system that is to answer, the ids of examples that it need not. A prompt that leaves
    no room in the model's context loses its beginning, but for the BOS. Of one example all systems
    draw from the same randomness.
    tick(n): n more of the max_new_tokens that each answer may have; one that ends early gives its
    rest at once. Raises what the engine's `step` raises.
    """
    room = prompt_room(engine.base.context, decoding.max_new_tokens)
    prompts = {e.id: codec.prompt_within(e.prompt, room) for e in examples}
    if cut := sum(short for _, short in prompts.values()):
        engine.say(f"{cut} of {len(prompts)} prompts are cut to {room} tokens, their last ones")
    sampling = Sampling(
        decoding.max_new_tokens,
        decoding.temperature,
        decoding.top_p,
        decoding.top_k,
        decoding.min_p,
        decoding.repetition_penalty,
        decoding.seed,
        codec.ends,
        tuple(decoding.stop),
    )
    every = [
        Request(id, tuple(ids), sampling, system)
        for id, (ids, _) in prompts.items()
        for system in engine.systems
    ]
    engine.share(codec.lead)
    # For all systems, also where one is answered already: slots must not follow from what is done.
    engine.reserve(every)
    requests = [request for request in every if request.system in done]
    # Long prompts first: their answers tend to be long, and what starts last should end soon.
    for request in sorted(requests, key=lambda one: (-len(one.token_ids), one.id)):
        if request.id not in done[request.system]:
            engine.submit(request)
    try:
        while not engine.idle:
            step = engine.step()
            tick(len(step.tokens))
            for completion in step.finished:
                tick(decoding.max_new_tokens - len(completion.token_ids))
                ids, short = prompts[completion.id]
                yield completion.system, _generation(completion, codec, len(ids), short)
    finally:
        engine.clear()


def _generation(completion: Completion, codec: Codec, prompt: int, cut: bool) -> Generation:
    return Generation(
        id=completion.id,
        text=codec.decode([*completion.token_ids]),
        finish_reason=completion.finish_reason,
        prompt_tokens=prompt,
        completion_tokens=len(completion.token_ids),
        cut=cut,
        seconds=round(completion.seconds, 3),
    )
