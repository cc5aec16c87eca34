"""A server over a tiny model with two systems, and what its answers must be."""

from __future__ import annotations

from dataclasses import dataclass

from harness.config.schema import DecodingConfig, LoraSettings
from harness.data.tokens import Codec
from harness.inference.engine import Engine
from harness.inference.local import decoder_of, engine_of
from harness.inference.request import Request, Sampling
from harness.serving.loading import Answerer, Loaded
from harness.serving.server import Handle
from tests.support.decoders import base_of, randomised

LENGTH = 256
TEMPLATE = "say {}\n"
EXAMPLES = ("a heading", "a list of three <b>bold</b> words")


def loaded(slots: int = 16) -> Loaded:
    """A tiny llama, bare and with a random adapter."""
    base = base_of("llama")
    adapter = randomised(base, LoraSettings(r=4))
    systems = {"base": None, "run-1": adapter}
    engine = engine_of(base, systems, print, decoder_of(base, adapter), slots)
    engine.reserve([Request("", (0,), Sampling(LENGTH - 1), "base")] * slots)
    codec = Codec(base.tokenizer, TEMPLATE)
    decoding = DecodingConfig(max_new_tokens=24)
    bare = Answerer("base", "base", codec, None, None, "words", decoding, EXAMPLES)
    run = Answerer("run-1", "run-1", codec, "a" * 64, "the run", "words", decoding, EXAMPLES)
    names = {"base": bare, "tiny": bare, "tuned": run, "run-1": run}
    return Loaded("tiny", engine, names, LENGTH)


@dataclass
class World:
    """A running server and an engine of its own that says what it must answer."""

    handle: Handle
    alone: Engine
    codec: Codec

    def wanted(self, prompt: str, system: str, new: int = 24) -> str:
        """The greedy answer to a prompt, alone."""
        ids = tuple(self.codec.prompt_ids(prompt))
        sampling = Sampling(new, stop_token_ids=self.codec.ends)
        self.alone.submit(Request("one", ids, sampling, system))
        found = ""
        while not self.alone.idle:
            for one in self.alone.step().finished:
                found = self.codec.decode(one.token_ids)
        return found
