"""Answers and log-likelihoods: requests, batches, systems, ends, and the scripted fake."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.backends.local import LocalBackend
from harness.backends.scripted import ScriptedBackend
from harness.config.schema import DecodingConfig, LoraSettings
from harness.data.tokens import Codec
from harness.errors import AdapterError, DataError, RunError, UsageError
from harness.inference.fused import FusedRunner
from harness.inference.request import Request, Sampling, Step
from harness.models.adapter import Adapter
from harness.records import Example
from harness.systems import BASE, TUNED, System
from tests.support.tiny import FAMILIES, base_of

TEMPLATE = "### {}\n"
PROMPTS = [
    "a",
    "a list of three fruits",
    "<p>",
    "中",
    "a heading that says hello, and no more",
    "b",
]
EXAMPLES = [Example(f"{i}", prompt, f"<p>{prompt}</p>") for i, prompt in enumerate(PROMPTS)]


def ignore(tokens: int) -> None:
    """Progress that nobody watches."""


GREEDY = DecodingConfig(max_new_tokens=12)


def backend(family: str, slots: int | None = None, **settings: Any) -> LocalBackend:
    """A backend over a tiny model whose adapter is random and strong."""
    base = base_of(family, **settings)
    adapter = Adapter.attach(base, LoraSettings(r=8, lora_alpha=64.0), seed=0)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(std=0.2)
    codec = Codec(base.tokenizer, TEMPLATE)
    return LocalBackend({"base": None, "tuned": adapter}, codec, 256, lambda line: None, slots)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("system", [BASE, TUNED])
def test_batched_generation_equals_one_by_one(family: str, system: System) -> None:
    together = {g.id: g for g in backend(family).generate(system, EXAMPLES, GREEDY, (), ignore)}
    alone = {g.id: g for g in backend(family, 1).generate(system, EXAMPLES, GREEDY, (), ignore)}
    assert together == alone
    assert set(together) == {e.id for e in EXAMPLES}


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_equals_transformers_own(family: str) -> None:
    made = backend(family)
    for answer in made.generate(TUNED, EXAMPLES, GREEDY, (), ignore):
        example = next(e for e in EXAMPLES if e.id == answer.id)
        prompt = made.codec.prompt_ids(example.prompt)
        out = made.engine.base.model.generate(
            torch.tensor([prompt]), max_new_tokens=12, do_sample=False, pad_token_id=0
        )[0, len(prompt) :].tolist()
        ended = 0 in out
        wanted = out[: out.index(0)] if ended else out
        assert answer.text == made.codec.decode(wanted)
        assert answer.finish_reason == ("stop" if ended else "length")
        assert answer.completion_tokens == len(wanted)


def test_arms_differ_and_the_base_is_the_bare_model() -> None:
    made = backend("llama")
    base = list(made.generate(BASE, EXAMPLES, GREEDY, (), ignore))
    tuned = list(made.generate(TUNED, EXAMPLES, GREEDY, (), ignore))
    assert {g.id: g.text for g in base} != {g.id: g.text for g in tuned}
    losses = list(made.log_likelihoods(BASE, EXAMPLES, ()))
    made.close()
    fresh = Adapter.attach(made.engine.base, LoraSettings(), 0)
    bare = LocalBackend({"base": None, "tuned": fresh}, made.codec, 256, print)
    assert list(bare.log_likelihoods(BASE, EXAMPLES, ())) == losses


def test_rows_end_at_end_of_text_and_the_rest_go_on() -> None:
    made = backend("llama")
    answers = {g.id: g for g in made.generate(TUNED, EXAMPLES, GREEDY, (), ignore)}
    # Make the third token that the first prompt would say the end of text: its answer ends there.
    first = made.engine.base.tokenizer(answers["0"].text, add_special_tokens=False)["input_ids"]
    made.codec.eos = first[2]
    ended = {g.id: g for g in made.generate(TUNED, EXAMPLES, GREEDY, (), ignore)}
    assert ended["0"].finish_reason == "stop"
    assert ended["0"].completion_tokens == first.index(first[2])
    for key, answer in ended.items():
        assert answers[key].text.startswith(answer.text)


def test_what_is_done_is_not_said_again_and_changes_nothing() -> None:
    made = backend("gemma3", slots=4)
    whole = {g.id: g for g in made.generate(TUNED, EXAMPLES, GREEDY, (), ignore)}
    rest = {g.id: g for g in made.generate(TUNED, EXAMPLES, GREEDY, {"0", "3", "4"}, ignore)}
    assert rest == {key: whole[key] for key in ("1", "2", "5")}
    losses = {s.id: s for s in made.log_likelihoods(TUNED, EXAMPLES, ())}
    assert {s.id: s for s in made.log_likelihoods(TUNED, EXAMPLES, {"0", "3"})} == {
        key: losses[key] for key in ("1", "2", "4", "5")
    }


def test_progress_counts_every_token_that_an_answer_may_have() -> None:
    made = backend("llama", slots=4)
    answers = {g.id: g for g in made.generate(TUNED, EXAMPLES, GREEDY, (), ignore)}
    first = made.engine.base.tokenizer(answers["0"].text, add_special_tokens=False)["input_ids"]
    made.codec.eos = first[2]
    for done in ((), {"0", "3"}):
        ticks: list[int] = []
        list(made.generate(TUNED, EXAMPLES, GREEDY, done, ticks.append))
        assert sum(ticks) == 12 * (len(EXAMPLES) - len(done))


def test_sampling_is_seeded_for_each_prompt() -> None:
    warm = DecodingConfig(max_new_tokens=8, temperature=1.0, top_p=0.9, seed=1)
    one = {g.id: g.text for g in backend("llama").generate(TUNED, EXAMPLES, warm, (), ignore)}
    two = {
        g.id: g.text for g in backend("llama", 2).generate(TUNED, EXAMPLES[::-1], warm, (), ignore)
    }
    assert one == two
    other = warm.model_copy(update={"seed": 2})
    assert one != {
        g.id: g.text for g in backend("llama").generate(TUNED, EXAMPLES, other, (), ignore)
    }


def test_out_of_memory_halves_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    made = backend("llama")
    whole = {g.id: g for g in made.generate(BASE, EXAMPLES, GREEDY, (), ignore)}
    real = FusedRunner.launch
    said: list[str] = []

    def short(runner: FusedRunner, rows: int, *args: Any) -> Any:
        if rows > 2:
            raise torch.OutOfMemoryError
        return real(runner, rows, *args)

    def none(*args: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(FusedRunner, "launch", short)
    made.engine.say = said.append
    assert {g.id: g for g in made.generate(BASE, EXAMPLES, GREEDY, (), ignore)} == whole
    assert said[0] == "out of memory: 6 prompts at a time become 3"
    monkeypatch.setattr(FusedRunner, "launch", none)
    with pytest.raises(RunError, match="for one prompt"):
        list(made.generate(BASE, EXAMPLES, GREEDY, (), ignore))
    assert made.engine.idle  # nothing of it is left for the next answers


def test_requests_of_several_systems_and_settings_go_through_one_engine() -> None:
    made = backend("llama", slots=2)
    ids = {e.id: tuple(made.codec.prompt_ids(e.prompt)) for e in EXAMPLES}
    greedy = Sampling(12, stop_token_ids=made.codec.ends)
    warm = replace(greedy, temperature=1.0, top_p=0.9, seed=1)
    asked = [
        Request(id, tokens, (greedy, warm)[int(id) % 2], ("base", "tuned")[int(id) // 3])
        for id, tokens in ids.items()
    ]
    for request in asked:
        made.engine.submit(request)
    streamed: dict[str, list[int]] = {id: [] for id in ids}
    completions = {}
    while not made.engine.idle:
        step = made.engine.step()
        for id, token in step.tokens:
            streamed[id].append(token)
        completions |= {one.id: one for one in step.finished}
    assert {id: tuple(tokens) for id, tokens in streamed.items()} == {
        id: one.token_ids for id, one in completions.items()
    }
    for request in asked:
        settings = request.sampling
        decoding = DecodingConfig(
            max_new_tokens=12, temperature=settings.temperature, top_p=settings.top_p, seed=1
        )
        system = BASE if request.system == "base" else TUNED
        example = EXAMPLES[int(request.id)]
        (alone,) = made.generate(system, [example], decoding, (), ignore)
        assert alone.text == made.codec.decode([*completions[request.id].token_ids])
        assert alone.finish_reason == completions[request.id].finish_reason


def test_requests_that_cannot_be_answered_are_refused() -> None:
    made = backend("llama")
    for ids, system, text in (
        ((), "base", "has 0 tokens"),
        ((5,) * made.engine.base.context, "base", "leaves room for an answer"),
        ((5,), "nosuch", "there is no system 'nosuch'; there are base, tuned"),
    ):
        with pytest.raises(UsageError, match=text):
            made.engine.submit(Request("1", ids, Sampling(1), system))
    assert made.engine.idle
    assert made.engine.step() == Step()


def test_a_prompt_longer_than_the_context_loses_its_beginning() -> None:
    made = backend("llama")
    long = Example("long", "x" * 3000, "y")
    (answer,) = made.generate(BASE, [long], GREEDY, (), ignore)
    assert answer.prompt_tokens == made.engine.base.context - 12
    assert list(made.log_likelihoods(BASE, [long], ())) == []  # nothing of the reference fits
    # A context shorter than the answers may be is shared by halves.
    made.engine.base.context = 40
    said: list[str] = []
    made.engine.say = said.append
    answers = list(made.generate(BASE, [long], DecodingConfig(max_new_tokens=100), (), ignore))
    assert [(a.prompt_tokens, a.completion_tokens) for a in answers] == [(20, 20)]
    assert [a.cut for a in answers] == [True]
    assert said == ["1 of 1 prompts are cut to 20 tokens, their last ones"]


def test_a_prompts_limit_is_its_own_whatever_stands_beside_it() -> None:
    made = backend("llama")
    made.engine.base.context = 40
    short, long = Example("short", "x", "y"), Example("long", "x" * 100, "y")
    decoding = DecodingConfig(max_new_tokens=25)
    (alone,) = made.generate(BASE, [short], decoding, (), ignore)
    beside = {a.id: a for a in made.generate(BASE, [long, short], decoding, (), ignore)}
    assert beside["short"] == alone
    assert alone.completion_tokens == 25
    assert (beside["long"].prompt_tokens, beside["long"].completion_tokens) == (20, 20)


def test_any_declared_end_token_ends_an_answer() -> None:
    made = backend("llama")
    whole = {g.id: g for g in made.generate(TUNED, EXAMPLES, GREEDY, (), ignore)}
    first = made.engine.base.tokenizer(whole["0"].text, add_special_tokens=False)["input_ids"]
    asked = {i for prompt in PROMPTS for i in made.codec.prompt_ids(prompt)}
    end = next(i for i in first if i not in asked)
    made.codec = Codec(made.engine.base.tokenizer, TEMPLATE, ends=(end,))
    ended = {g.id: g for g in made.generate(TUNED, EXAMPLES, GREEDY, (), ignore)}
    assert ended["0"].finish_reason == "stop"
    assert ended["0"].completion_tokens == first.index(end)


@pytest.mark.parametrize("family", FAMILIES)
def test_measured_losses_are_the_references(family: str) -> None:
    made = backend(family)
    for loss in made.log_likelihoods(TUNED, EXAMPLES, ()):
        example = next(e for e in EXAMPLES if e.id == loss.id)
        prompt = made.codec.prompt_ids(example.prompt)
        answer = made.codec.completion_ids(example.target)
        assert answer[-1] == made.codec.eos
        with torch.inference_mode():
            logits = made.engine.base.model(input_ids=torch.tensor([prompt + answer])).logits[0]
        logp = torch.log_softmax(logits[len(prompt) - 1 : -1], -1)
        wanted = -logp.gather(1, torch.tensor(answer)[:, None]).sum()
        assert loss.nll == pytest.approx(float(wanted), rel=1e-4)
        assert loss.tokens == len(answer)
        assert loss.bytes == len(example.target.encode())


def test_one_bos_and_html_that_survives_the_tokenizer() -> None:
    for family, bos in (("llama", [1]), ("gemma3", [1]), ("falcon", [])):
        codec = Codec(base_of(family).tokenizer, TEMPLATE)
        ids = codec.prompt_ids("x")
        assert ids[: len(bos)] == bos
        assert 1 not in ids[len(bos) :]
        doubled = Codec(codec.tokenizer, "<bos>{}")
        assert doubled.prompt_ids("x").count(1) == (1 if bos else 0) or family == "falcon"
        page = '<ul>\n  <li class="a">é 中 &amp;</li>\n</ul>\n'
        assert codec.decode(codec.completion_ids(page)) == page


def test_an_answer_that_does_not_fit_is_cut_and_counted() -> None:
    codec = Codec(base_of("llama").tokenizer, TEMPLATE)
    example = Example("x", "p", "0123456789")
    prompt = len(codec.prompt_ids("p"))
    whole = codec.sample(example, 100)
    assert (whole.cut, whole.bytes, whole.scored_tokens, whole.ids[-1]) == (False, 10, 11, 0)
    part = codec.sample(example, prompt + 4)
    assert (part.cut, part.bytes, part.scored_tokens) == (True, 4, 4)
    assert codec.sample(example, prompt).scored_tokens == 0


def test_an_untrained_adapter_is_not_live() -> None:
    base = base_of("falcon")
    with pytest.raises(AdapterError, match="no effect"):
        Adapter.attach(base, LoraSettings(), 0).check_live([5, 6, 7])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_adapter_is_plain_pefts(family: str, tmp_path: Path) -> None:
    from peft import PeftModel

    made = backend(family)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        wanted = made.engine.base.model(input_ids=ids).logits
    adapter = made.adapters["tuned"]
    assert adapter is not None
    adapter.save(tmp_path)
    assert (
        "/"
        not in json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"]
    )
    made.close()
    plain = PeftModel.from_pretrained(made.engine.base.model, tmp_path)
    with torch.inference_mode():
        torch.testing.assert_close(plain(input_ids=ids).logits, wanted)
        with plain.disable_adapter():
            assert not torch.allclose(plain(input_ids=ids).logits, wanted)


def test_the_script_answers_and_costs_log_256(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    rows = [
        {"arm": "base", "text": "no"},
        {"arm": "tuned", "text": "{reference}"},
        {"arm": "tuned", "id": "1", "text": "cut", "finish_reason": "length"},
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    script = ScriptedBackend(path)
    assert {g.text for g in script.generate(BASE, EXAMPLES, GREEDY, (), ignore)} == {"no"}
    tuned = {g.id: g for g in script.generate(TUNED, EXAMPLES, GREEDY, {"0"}, ignore)}
    assert tuned["2"].text == EXAMPLES[2].target
    assert (tuned["1"].text, tuned["1"].finish_reason) == ("cut", "length")
    assert "0" not in tuned
    for loss in script.log_likelihoods(BASE, EXAMPLES, ()):
        assert loss.nll / loss.tokens == pytest.approx(math.log(256))
    for bad in ('{"arm": "both", "text": "x"}', "[1]", '{"arm": "base"}', "[" * 100_000, "\udcff"):
        path.write_bytes(bad.encode("utf-8", "surrogateescape"))
        with pytest.raises(DataError, match=r"answers\.jsonl"):
            ScriptedBackend(path)
