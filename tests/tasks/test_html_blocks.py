"""html_blocks: bytes, sides, validity and assertions of the embedded task's generator."""

from __future__ import annotations

import hashlib
import html
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import html5lib
import pytest
from bs4 import BeautifulSoup
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.identity import generator_files
from harness.records import Assertion, Example
from harness.scorers.html.assertions import check
from tests.support.blocks import FOLDER, LOAD, PACKAGE, ROOT, generator, rows_of

# Frozen: a change of any byte makes old runs and new ones incomparable, so it must be meant.
FIRST_200_OF_EACH_SIDE = "369c703482f7947edf739c7c7df8e66d55fd3659ddcbbe6a8d5700fba1db0067"

hypothesis_settings = settings(derandomize=True, deadline=None, max_examples=20, database=None)


banks = importlib.import_module(f"{PACKAGE}.banks")
choices = importlib.import_module(f"{PACKAGE}.choices")
draws = importlib.import_module(f"{PACKAGE}.draws")
family_module = importlib.import_module(f"{PACKAGE}.family")
template = importlib.import_module(f"{PACKAGE}.template")


def serialised(rows: list[Example]) -> bytes:
    return "\n".join(json.dumps(row.to_json(), sort_keys=True) for row in rows).encode()


def family_of(row: Example) -> str:
    return row.group.rpartition("-")[0]


@pytest.fixture(scope="module")
def train() -> list[Example]:
    return rows_of("train", 0, 1300)


@pytest.fixture(scope="module")
def held_out() -> list[Example]:
    return rows_of("test", 0, 700)


@pytest.fixture(scope="module")
def sample(train: list[Example], held_out: list[Example]) -> list[Example]:
    return train + held_out


# --- the same bytes ---------------------------------------------------------------------------


def test_frozen_bytes(train: list[Example], held_out: list[Example]) -> None:
    digest = hashlib.sha256(serialised(train[:200] + held_out[:200])).hexdigest()
    assert digest == FIRST_200_OF_EACH_SIDE


@pytest.mark.parametrize("hash_seed", ["1", "77"])
def test_bytes_do_not_depend_on_the_hash_seed(
    hash_seed: str, train: list[Example], held_out: list[Example]
) -> None:
    script = (
        LOAD + f"import importlib, json\n"
        f"generator = importlib.import_module({PACKAGE + '.generator'!r})\n"
        "for _, row in generator.generate(seed=0, train=60, test=60):\n"
        "    print(json.dumps(row.to_json(), sort_keys=True))\n"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    ).stdout
    assert printed.strip() == serialised(train[:60] + held_out[:60])


def test_another_seed_gives_other_rows(train: list[Example]) -> None:
    other = rows_of("train", 1, 200)
    assert not {row.target for row in other} & {row.target for row in train[:200]}


@hypothesis_settings
@given(st.integers(0, 10**9), st.integers(0, 40), st.integers(0, 40))
def test_a_longer_side_begins_with_the_shorter_one(seed: int, a: int, b: int) -> None:
    for side in ("train", "test"):
        short, long = sorted((rows_of(side, seed, a), rows_of(side, seed, b)), key=len)
        assert long[: len(short)] == short


# --- sides ------------------------------------------------------------------------------------


@hypothesis_settings
@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 60), st.integers(0, 60))
def test_no_combination_or_prompt_is_on_both_sides(
    seed: int, other_seed: int, train_rows: int, test_rows: int
) -> None:
    one = rows_of("train", seed, train_rows)
    # Even a test side of another seed shares nothing.
    for two in (rows_of("test", seed, test_rows), rows_of("test", other_seed, test_rows)):
        for field in ("group", "target", "prompt", "id"):
            left = [getattr(row, field) for row in one]
            right = [getattr(row, field) for row in two]
            assert len(set(left)) == len(left)
            assert len(set(right)) == len(right)
            assert not set(left) & set(right)


def test_the_side_follows_from_family_and_reference(sample: list[Example]) -> None:
    for row in sample:
        assert generator.side_of(family_of(row), row.target) == row.id.split("-")[0]


def test_both_sides_of_the_default_size_have_the_numbers_asked_for() -> None:
    sides = [side for side, _ in generator.generate(seed=3, train=150, test=30)]
    assert sides == ["train"] * 150 + ["test"] * 30


def test_every_prefix_mixes_families_and_kinds(
    train: list[Example], held_out: list[Example]
) -> None:
    names = {family.name for family in generator.FAMILIES}
    assert len(names) == len(generator.FAMILIES) >= 12
    for rows in (train, held_out):
        assert {family_of(row) for row in rows[: len(names)]} == names
    assert {row.kind for row in train} == {""}
    for end in range(8, 97):
        kinds = [row.kind for row in held_out[:end]]
        assert set(kinds) == {"seen-family", "unseen-phrasing"}
        assert abs(kinds.count("seen-family") - kinds.count("unseen-phrasing")) <= 1
    both = {(family_of(row), row.kind) for row in held_out[: 2 * len(names)]}
    assert len(both) == 2 * len(names)


def test_training_and_seen_rows_never_use_a_reserved_phrasing(
    train: list[Example], held_out: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    def reserved(content: object) -> str:
        return f"RESERVED {content}"

    changed = tuple(replace(family, reserved=(reserved,)) for family in generator.FAMILIES)
    monkeypatch.setattr(generator, "FAMILIES", changed)
    assert rows_of("train", 0, 300) == train[:300]
    for row, before in zip(rows_of("test", 0, 300), held_out, strict=False):
        assert row.prompt.startswith("RESERVED") == (row.kind == "unseen-phrasing")
        assert row == before or row.kind == "unseen-phrasing"


def test_phrasings_of_a_family_differ_by_more_than_a_word() -> None:
    for family in generator.FAMILIES:
        phrasings = family.trained + family.reserved
        assert len(family.trained) >= 4
        assert len(family.reserved) >= 2
        content = family.draw(choices.Choices(family.name))
        scaffolds = [set(re.findall(r"\w+", phrasing(content))) for phrasing in phrasings]
        for i, one in enumerate(scaffolds):
            for two in scaffolds[:i]:
                assert len(one ^ two) >= 6, family.name


def test_combinations_number_in_the_tens_of_thousands_and_are_distinct() -> None:
    counts = generator.combinations()
    assert set(counts) == {family.name for family in generator.FAMILIES}
    assert sum(counts.values()) >= 20_000
    for family in generator.FAMILIES:
        assert counts[family.name] >= 10**9
        drawn = {family.write(family.draw(choices.Choices(f"distinct/{i}"))) for i in range(150)}
        assert len(drawn) == 150, family.name


def test_a_family_that_runs_out_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    first = generator.FAMILIES[0]
    stuck = replace(first, draw=lambda c: first.draw(choices.Choices("always the same")))
    monkeypatch.setattr(generator, "FAMILIES", (stuck,))
    monkeypatch.setattr(generator, "_ATTEMPTS", 20)
    with pytest.raises(ValueError, match=f"no new '{first.name}'.*ask for fewer rows"):
        list(generator.generate(seed=0, train=2, test=2))


# --- references -------------------------------------------------------------------------------


def witness(page: BeautifulSoup, assertion: Assertion) -> bool:
    """A second, independent reading of an assertion, on another parser's tree."""
    found = page.select(assertion.selector)
    if len(found) != assertion.count if assertion.count is not None else not found:
        return False
    texts = [" ".join(element.get_text().split()) for element in found]
    if assertion.text is not None and assertion.text not in texts:
        return False
    if assertion.attribute is None:
        return True
    values = [element.get(assertion.attribute) for element in found]
    values = [" ".join(value) if isinstance(value, list) else value for value in values]
    present = [value for value in values if value is not None]
    return bool(present) if assertion.value is None else assertion.value in present


def errors(page: str) -> list[str]:
    parser = html5lib.HTMLParser()
    parser.parse(page)
    return [code for _, code, _ in parser.errors]


def test_every_reference_passes_its_own_assertions(sample: list[Example]) -> None:
    assert len(sample) == 2000
    some = sample[::3]
    assert {family_of(row) for row in some} == {family.name for family in generator.FAMILIES}
    for row in some:
        assert 3 <= len(row.assertions) <= 8, row.id
        soup = BeautifulSoup(row.target, "html.parser")
        for assertion in row.assertions:
            assert check(row.target, assertion), (row.id, assertion)
            assert witness(soup, assertion), (row.id, assertion)


def test_every_reference_is_valid(sample: list[Example]) -> None:
    pages = 0
    for row in sample:
        found = errors(row.target)
        if row.target.startswith("<!DOCTYPE html>\n"):
            pages += 1
            assert found == [], row.id
        else:
            assert found == ["expected-doctype-but-got-start-tag"], row.id
        ids = re.findall(r' id="([^"]*)"', row.target)
        assert len(set(ids)) == len(ids), row.id
        assert "\t" not in row.target
        assert all(line and line == line.rstrip() for line in row.target.split("\n")), row.id
    assert pages > len(sample) / 20


def test_empty_and_plain_answers_fail(sample: list[Example]) -> None:
    for row in sample[::7]:
        text = " ".join(BeautifulSoup(row.target, "html.parser").get_text().split())
        for answer in ("", "I am sorry, I cannot do that.", html.escape(text)):
            assert not all(check(answer, assertion) for assertion in row.assertions), row.id


def test_the_answer_to_another_prompt_fails(sample: list[Example]) -> None:
    by_family: dict[str, list[Example]] = {}
    for row in sample[:520]:
        by_family.setdefault(family_of(row), []).append(row)
    for rows in by_family.values():
        for row, other in pairwise(rows):
            assert not all(check(other.target, assertion) for assertion in row.assertions), row.id


def edits() -> Iterator[Any]:
    family = next(family for family in generator.FAMILIES if family.name == "edit")
    for i in range(150):
        yield family, family.draw(choices.Choices(f"edits/{i}"))


def test_the_page_before_an_edit_fails_and_stands_in_every_prompt() -> None:
    for family, edit in edits():
        assertions = family.check(edit)
        assert not all(check(edit["before"], assertion) for assertion in assertions), edit
        assert all(check(edit["after"], assertion) for assertion in assertions), edit
        assert all(edit["before"] in say(edit) for say in family.trained + family.reserved)
        # The draft may lack an alt text, but never a tag: it parses as the answer does.
        assert errors(edit["before"]) == errors(edit["after"])


def test_each_change_is_checked_by_itself() -> None:
    """Of two changes made, leaving out either is noticed: its own checks fail on the old page."""
    for _, edit in edits():
        for change in edit["changes"]:
            if change["checks"]:
                assert not all(check(edit["before"], a) for a in change["checks"]), change


def test_the_prompt_says_all_that_the_reference_holds(sample: list[Example]) -> None:
    """Each word of the reference's texts and attribute values is in the prompt: exact match is
    attainable. What the house style or another wording settles is listed here."""
    settled = {"lazy", "utf", "8", "submit", "page"}
    for row in sample:
        said = set(re.findall(r"\w+", html.unescape(row.prompt)))
        soup = BeautifulSoup(row.target, "html.parser")
        wanted = set(re.findall(r"\w+", soup.get_text(" ")))
        for element in soup.find_all(True):
            for name, value in element.attrs.items():
                if name not in ("rowspan", "colspan"):
                    value = " ".join(value) if isinstance(value, list) else value
                    wanted |= set(re.findall(r"\w+", value))
        assert wanted - said <= settled, (row.id, wanted - said)


def test_assertions_ask_only_for_what_the_prompt_says(sample: list[Example]) -> None:
    settled = {"lazy", "page"}
    for row in sample:
        said = set(re.findall(r"\w+", html.unescape(row.prompt)))
        for assertion in row.assertions:
            wanted = set(re.findall(r"\w+", assertion.text or ""))
            if assertion.attribute not in ("rowspan", "colspan"):
                wanted |= set(re.findall(r"\w+", assertion.value or ""))
            assert wanted - said <= settled, (row.id, assertion)


def test_lengths_fit_the_default_run(sample: list[Example]) -> None:
    targets = sorted(len(row.target) for row in sample)
    prompts = sorted(len(row.prompt) for row in sample)
    assert 250 <= targets[len(targets) // 2] <= 350
    assert targets[len(targets) * 95 // 100] < 600
    assert targets[-1] < 700
    assert prompts[len(prompts) // 2] < 350
    assert prompts[-1] < 900


def test_unusual_content_comes_at_times_and_is_escaped(sample: list[Example]) -> None:
    unusual = [row for row in sample if any(text in row.prompt for text in banks.UNUSUAL)]
    assert len(sample) / 20 < len(unusual) < len(sample) / 2
    for text in ("&lt;br&gt; tag", "salt &amp; pepper", "寿司", "قهوة"):
        assert any(text in row.target for row in sample), text


# --- banks and style --------------------------------------------------------------------------


def test_banks_keep_what_counting_and_quoting_rely_on() -> None:
    items = [item for theme in banks.THEMES for item in theme.items]
    places = [place for theme in banks.THEMES for place in theme.places]
    assert len(set(items)) == len(items) == 10 * len(banks.THEMES)
    assert len(set(places)) == len(places) == 4 * len(banks.THEMES)
    assert {len(theme.states) for theme in banks.THEMES} == {6}
    for bank in (banks.UNUSUAL, banks.PEOPLE, banks.COLOURS, banks.WORDS, banks.ACTIONS):
        assert len(set(bank)) == len(bank)
    for text in (*items, *places, *banks.UNUSUAL, *banks.PEOPLE, *banks.ACTIONS):
        assert not set(text) & set('",;|[]{}()\n'), text
        assert text == text.strip()


def written(markup_of_values: str, **values: str) -> str:
    return family_module.reference(markup_of_values)(values)


def test_the_house_style() -> None:
    item = '<li class="{a}" hidden>{b}<b>!</b></li>'
    assert written(f'<ul>{item}</ul><img src="{{c}}">', a='a"b', b="x < y & z", c="/a&b") == (
        '<ul>\n  <li class="a&quot;b" hidden>x &lt; y &amp; z<b>!</b></li>\n</ul>\n'
        '<img src="/a&amp;b">'
    )


@hypothesis_settings
@given(st.text(st.characters(exclude_categories=("Cs", "Cc"))))
def test_any_text_survives_rendering(text: str) -> None:
    page = written('<p title="{text}">{text}</p>', text=text)
    paragraph = BeautifulSoup(page, "html5lib").p
    assert paragraph is not None
    assert paragraph.get_text() == text
    assert paragraph["title"] == text


# --- the grammar ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{name}, {pairs.0.1}, {pairs.-1.0}, {an tag}", "Ada, x, b, an ol"),
        ("{quoted names}; {commas names}; {count names}", '"a", "b" and "c"; a, b, c; 3'),
        ("{for n in names}{number}{n}{join}, {end}.", "1a, 2b, 3c."),
        ("{for n in names}{n}{join}, {at last} or {end}", "a, b or c"),
        ("{for n in names}{if n is b}{else}{n}{end}{join}+{end}", "a+c"),
        (
            "{for a, b in pairs}{a}{b} {end}{for n, m in names.1:, names.1:}{n}{m}{end}",
            "ax by bbcc",
        ),
        ("{if none}never{end}{if lacking}never{else}else{end}", "else"),
        ("{if tag is ol}yes{end}{if tag is name}never{end}", "yes"),
        ("list:\n{for n in names}\n  {if n is a}\n- {n}\n{end}\n{end}\nend", "list:\n- a\nend"),
        ("p { color: {name} }", "p { color: Ada }"),
    ],
)
def test_templates(text: str, filled: str) -> None:
    values = {"name": "Ada", "tag": "ol", "names": ["a", "b", "c"], "none": ""}
    values |= {"pairs": [("a", "x"), ("b", "y")]}
    assert template.Template(text)(values) == filled


@pytest.mark.parametrize("text", ["{if a}b", "{for a in b}{if a}{end}", "a{end}"])
def test_a_template_with_an_end_too_few_or_too_many_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="end"):
        template.Template(text)


def test_rules_draw_in_their_order() -> None:
    rules = {
        "theme": "<theme>",
        "sort, *sizes": "<a, 1, 2|b, 3, 4>",
        "few": "<sizes Items>",
        "one": {"by": "sort", "a": "<1..3> {sort}", "else": "none"},
        "each": {"for": "few in few", "text": "{few}", "day": "<day>"},
        "at, it": "<pick few>",
        "all": ["{few}", {"by": "sort", "else": "{sort}"}],
        "two": "<2 of x|y>",
    }
    values = draws.draw(choices.CountingChoices(), rules, {})
    assert values["sizes"] == ["1", "2"]
    assert values["one"] == "1 a"
    assert values["few"] == ["Rye loaf", "Almond croissant"]
    assert values["each"][1] == {"text": "Almond croissant", "day": "Monday"}
    assert (values["at"], values["it"]) == (1, "Rye loaf")
    assert values["all"] == [*values["few"], "a"]
    assert values["two"] == ["x", "y"]


def test_the_example_of_the_docstring_is_a_family() -> None:
    text, _, _ = sys.modules[PACKAGE].__doc__.partition("\n[draw]  ")
    example = [line.removeprefix("    ") for line in text.splitlines() if not line[:1].strip()]
    lists = family_module.family("lists", tomllib.loads("\n".join(example)))
    contents = [lists.draw(choices.Choices(f"example/{i}")) for i in range(40)]
    assert {bool(content["price"]) for content in contents} == {True, False}
    for content in contents:
        page, prompt = lists.write(content), lists.trained[0](content)
        assert all(check(page, assertion) for assertion in lists.check(content))
        assert errors(page) == ["expected-doctype-but-got-start-tag"]
        assert all(thing in prompt for thing in content["things"])


def test_the_identity_of_the_rows_covers_the_files_that_they_are_made_of() -> None:
    covered = {file.relative_to(FOLDER).as_posix() for file in generator_files(FOLDER)}
    names = {family.name for family in generator.FAMILIES}
    assert {f"families/{name}.toml" for name in names} | {"words.toml", "template.py"} <= covered
    assert {file.stem for file in FOLDER.glob("families/*")} == names
    assert {file.relative_to(FOLDER).as_posix() for file in FOLDER.glob("drafts/*")} <= covered


@hypothesis_settings
@given(st.text(), st.integers(1, 12))
def test_some_draws_options_once_each(key: str, size: int) -> None:
    drawn = choices.Choices(key.encode("utf-8", "replace").decode()).some(range(size), size)
    assert sorted(drawn) == list(range(size))
