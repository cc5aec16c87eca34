"""Groups, the split, what leaks, the nearest answer and the prompt: properties and known cases."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import tomllib
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config.schema import SplitConfig, TaskConfig
from harness.data.load import load
from harness.data.nearest import nearest
from harness.data.prompt import render
from harness.data.similarity import alike_pairs
from harness.data.split import Split, contamination, near_duplicate_groups, split, split_notes
from harness.data.words import Sets, hashed_sets, words
from harness.errors import DataError
from harness.records import Example
from tests.support.limits import cpu_limit

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "data"
PROPERTY = settings(derandomize=True, deadline=None, max_examples=60, database=None)

WORDS = ["div", "p", "table", "list", "blue", "red", "A", "a", "li", "ß", "你好", "?", "<b>"]
texts = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)
example_lists = st.lists(st.tuples(texts, texts), min_size=2, max_size=40).map(
    lambda rows: [Example(f"{i:06d}", p or "?", t or "?") for i, (p, t) in enumerate(rows)]
)
sets = st.lists(st.frozensets(st.integers(0, 12), max_size=8), max_size=25)
thresholds = st.sampled_from([0.1, 0.3, 0.5, 0.6, 0.7, 0.75, 0.9, 1.0])


def jaccard(a: frozenset[object], b: frozenset[object]) -> Fraction:
    return Fraction(len(a & b), len(a | b)) if a and b else Fraction(0)


def word_ngrams(text: str) -> frozenset[tuple[str, ...]]:
    """The definition: distinct runs of three words; of a text with fewer, its single words."""
    found = words(text)
    n = 3 if len(found) >= 3 else 1
    return frozenset(zip(*(found[start:] for start in range(n)), strict=False))


def alike(a: Example, b: Example) -> bool:
    """The definition, by brute force."""
    return (
        a.prompt == b.prompt
        or a.target == b.target
        or jaccard(frozenset(words(a.prompt)), frozenset(words(b.prompt))) >= Fraction("0.6")
        or jaccard(word_ngrams(a.target), word_ngrams(b.target)) >= Fraction("0.5")
    )


def real_examples(name: str, folder: str) -> list[Example]:
    if not (REAL / folder).is_dir():
        pytest.skip(f"the real rows are not here: ../shared/data/{folder}")
    with (ROOT / "tasks" / name / "task.toml").open("rb") as file:
        task = TaskConfig(**tomllib.load(file))
    return load(task, task_dir=ROOT, path=str(REAL / folder)).examples


def distinct_examples(count: int) -> list[Example]:
    return [Example(f"{i:06d}", f"p{i}", f"t{i} u{i} v{i}") for i in range(count)]


def ids(examples: list[Example]) -> list[str]:
    return [example.id for example in examples]


# --- words and the search --------------------------------------------------------------------


def test_words_and_ngrams() -> None:
    assert words('<P class="a-b">Größe 你好</p>') == ["p", "class", "a", "b", "größe", "你好", "p"]
    assert word_ngrams("a b c d") == {("a", "b", "c"), ("b", "c", "d")}
    assert word_ngrams("a B a b a") == {("a", "b", "a"), ("b", "a", "b")}
    assert word_ngrams("<b>Hi</b>"[:5]) == {("b",), ("hi",)}
    assert word_ngrams("...") == frozenset()


ZH = (
    "请为一家位于北京的小型咖啡店设计一个简单的网页包含标题营业时间和联系方式并使用温暖的颜色和图片"
)
ZH_OTHER = (
    "写一段关于火星探测历史的文章列出主要任务发射年份以及科学家从岩石样本中得到的重要结论与问题"
)
JA = (
    "東京の小さな喫茶店のために営業時間と連絡先を載せた簡単なホームページを作ってください温かい色で"
)
JA_OTHER = (
    "火星探査の歴史について主な計画と打ち上げの年を並べた表を書き科学者が得た結論を説明しなさい"
)
TH = "สร้างหน้าเว็บสำหรับร้านกาแฟเล็กในกรุงเทพพร้อมเวลาเปิดและข้อมูลติดต่อ"
TH_OTHER = "เขียนบทความเกี่ยวกับประวัติการสำรวจดาวอังคารและรายชื่อภารกิจสำคัญทั้งหมด"
KM = "បង្កើតគេហទំព័រសម្រាប់ហាងកាហ្វេតូចមួយនៅភ្នំពេញជាមួយម៉ោងបើក"
KM_OTHER = "សរសេរអត្ថបទអំពីប្រវត្តិនៃការរុករកភពអង្គារនិងបញ្ជីបេសកកម្ម"
MY = "ရန်ကုန်ရှိကော်ဖီဆိုင်ငယ်တစ်ခုအတွက်ဝဘ်စာမျက်နှာတစ်ခုဖန်တီးပါ"
MY_OTHER = "အင်္ဂါဂြိုဟ်စူးစမ်းလေ့လာမှုသမိုင်းအကြောင်းဆောင်းပါးရေးပါ"
BO = "པེ་ཅིན་གྱི་ཇ་ཁང་ཆུང་ངུ་ཞིག་གི་ཆེད་དུ་དྲ་ངོས་སྟབས་བདེ་ཞིག་བཟོས་"
BO_OTHER = "གཟའ་མིག་དམར་བརྟག་དཔྱད་ཀྱི་ལོ་རྒྱུས་སྐོར་རྩོམ་ཡིག་ཅིག་འབྲི་རོགས་"


@pytest.mark.parametrize(
    ("text", "other"),
    [
        (ZH, ZH_OTHER),
        ("".join(chr(0x20000 + ord(c) % 5000) for c in ZH), ZH_OTHER),  # beyond 16 bits
        (JA, JA_OTHER),
        (TH, TH_OTHER),
        (KM, KM_OTHER),
        (MY, MY_OTHER),
        (BO, BO_OTHER),
    ],
)
def test_one_changed_sign_is_near_where_words_have_no_spaces(text: str, other: str) -> None:
    for at in (0, len(text) // 2, len(text) - 1):
        twin = text[:at] + ZH[0 if text is not ZH else 9] + text[at + 1 :]
        assert twin != text
        for pair in ((text, twin), (twin, text)):
            examples = [Example("0", pair[0], "a b c"), Example("1", pair[1], "d e f")]
            assert near_duplicate_groups(examples) == [0, 0]
            examples = [
                Example("0", "a", f"<p>{pair[0]}</p>"),
                Example("1", "b", f"<p>{pair[1]}</p>"),
            ]
            assert near_duplicate_groups(examples) == [0, 0]
            assert contamination(examples[:1], examples[1:]).near_target == 1
        found = [Example("0", other, ""), Example("1", twin, ""), Example("2", ZH_OTHER[::-1], "")]
        assert nearest([Example("9", text, "")], found)[0].id == "1"
    assert jaccard(frozenset(words(text)), frozenset(words(other))) < Fraction("0.2")
    assert jaccard(word_ngrams(text), word_ngrams(other)) < Fraction("0.1")


def test_words_where_scripts_are_mixed() -> None:
    assert words("使用HTML5制作，一页") == ["使用", "html5", "制作", "一页"]
    assert words("网页设计 的 page") == ["网页", "页设", "设计", "的", "page"]
    assert words("ｺｰﾋｰ") == words("コーヒー") == ["コー", "ーヒ", "ヒー"]
    assert words("ガギ") == words("カ\u3099キ\u3099") == words("ｶﾞｷﾞ") == ["ガギ"]
    assert words("豈更") == words("\uf900\uf901")  # compatibility ideographs
    assert words("𠀀𠀁𠀂") == ["𠀀𠀁", "𠀁𠀂"]
    assert words("ร้าน ok") == ["ร้า", "้าน", "ok"]


@PROPERTY
@given(st.text(st.characters(max_codepoint=0x0DFF), max_size=40))
def test_words_of_scripts_with_spaces_are_runs_of_word_characters(text: str) -> None:
    assert words(text) == re.findall(r"\w+", text.lower())


def test_korean_has_spaces() -> None:
    assert words("작은 카페의 웹페이지, 만들기") == ["작은", "카페의", "웹페이지", "만들기"]


def as_sets(members: list[frozenset[int]]) -> Sets:
    """The sets as hashed ones; numbers differ in bits all over."""
    ordered = [sorted(e * 0x9E3779B97F4A7C15 % (1 << 64) for e in one) for one in members]
    starts = np.cumsum([0, *map(len, ordered)])
    return Sets(starts, np.array([e for one in ordered for e in one], dtype=np.uint64))


class Everything:
    """All pairs are of interest."""

    def wanted(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.ones(len(left), dtype=bool)

    def settled(self, members: np.ndarray) -> bool:
        return False


def found_pairs(members: list[frozenset[int]], threshold: float) -> set[tuple[int, int]]:
    every = np.arange(len(members))
    return {
        (min(a, b), max(a, b))
        for left, right in alike_pairs(as_sets(members), every, threshold, Everything())
        for a, b in zip(left.tolist(), right.tolist(), strict=True)
    }


def pairs_by_definition(members: list[frozenset[int]], threshold: float) -> set[tuple[int, int]]:
    return {
        (i, j)
        for j, b in enumerate(members)
        for i, a in enumerate(members[:j])
        if jaccard(a, b) >= Fraction(repr(threshold))
    }


@PROPERTY
@given(sets, thresholds)
def test_the_search_equals_brute_force(members: list[frozenset[int]], threshold: float) -> None:
    assert found_pairs(members, threshold) == pairs_by_definition(members, threshold)


def test_the_search_in_small_pieces_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(0)
    many = [frozenset(draw.sample(range(40), draw.randint(1, 20))) for _ in range(80)]
    many += [frozenset(draw.sample(range(900), draw.randint(40, 50))) for _ in range(9)]
    many += [one - {min(one)} for one in many[-9:]]
    whole = found_pairs(many, 0.4)
    assert whole == pairs_by_definition(many, 0.4)
    for name in ("_ENTRIES", "_CANDIDATES", "_COMPARED", "_COMPARED_ELEMENTS", "_PIECE"):
        monkeypatch.setattr(f"harness.data.similarity.{name}", 50)
    monkeypatch.setattr("harness.data.similarity._LONG_LIST", 2)
    assert found_pairs(many, 0.4) == whole


@PROPERTY
@given(st.lists(texts, max_size=12), st.sampled_from([1, 3]))
def test_hashed_sets_are_as_large_as_the_sets_they_stand_for(some: list[str], n: int) -> None:
    exact = [word_ngrams(text) if n == 3 else frozenset(words(text)) for text in some]
    hashed = hashed_sets(some, n)
    assert hashed.sizes.tolist() == [len(one) for one in exact]
    pieces = np.split(hashed.elements, hashed.starts[1:-1])
    for a, x in zip(exact, pieces, strict=False):
        for b, y in zip(exact, pieces, strict=False):
            assert len(np.intersect1d(x, y)) == len(a & b)


# --- groups ----------------------------------------------------------------------------------


@PROPERTY
@given(example_lists)
def test_groups_are_the_connected_components(examples: list[Example]) -> None:
    group = list(range(len(examples)))
    changed = True
    while changed:
        changed = False
        for i, a in enumerate(examples):
            for j, b in enumerate(examples):
                if alike(a, b) and group[i] != group[j]:
                    group[i] = group[j] = min(group[i], group[j])
                    changed = True
    assert near_duplicate_groups(examples) == group


def test_thousands_of_rows() -> None:
    draw = random.Random(0)
    examples = []
    for i in range(6_000):
        varied = [f"w{draw.randrange(300)}" for _ in range(24)]
        page = f"<div class='card big'><h1>{' '.join(varied[:12])}</h1></div><p>always the same</p>"
        examples.append(Example(f"{i:06d}", f"make a card of {' '.join(varied[12:])}", page))
    with cpu_limit():
        groups = near_duplicate_groups(examples)
    assert 3_000 < len(set(groups)) <= 6_000
    alike_rows = [Example(f"{i:06d}", "the same", "a b c d") for i in range(10_000)]
    assert set(near_duplicate_groups(alike_rows)) == {0}


def test_groups_of_the_real_data() -> None:
    alpaca = Counter(near_duplicate_groups(real_examples("html_alpaca", "ttbui_html_alpaca")))
    assert (len(alpaca), max(alpaca.values())) == (554, 36)


def test_groups_of_the_scraped_data() -> None:
    examples = real_examples("html_dataset", "jawerty_html_dataset")
    groups = near_duplicate_groups(examples)
    assert len(examples) - len(set(groups)) >= 4  # four pairs are known to be almost identical


# --- the split -------------------------------------------------------------------------------


@PROPERTY
@given(
    example_lists,
    st.sampled_from(["groups", "random"]),
    st.integers(0, 5),
    st.sampled_from([0.1, 0.2, 0.5, 0.8]),
    st.sampled_from([0.0, 0.05, 0.3]),
)
def test_every_example_is_in_one_part_and_no_group_in_two(
    examples: list[Example], method: str, seed: int, test: float, validation: float
) -> None:
    config = SplitConfig(method=method, seed=seed, test=test, validation=validation)  # type: ignore[arg-type]
    try:
        parts = split(examples, config)
    except DataError:
        assert len(set(near_duplicate_groups(examples))) == 1
        return
    every = [*parts.train, *parts.validation, *parts.test]
    assert sorted(ids(every)) == ids(examples)
    assert parts.train
    assert parts.test
    sides: dict[str, set[int]] = {}
    for side, part in enumerate((parts.train, parts.validation, parts.test)):
        for example in part:
            sides.setdefault(example.group, set()).add(side)
    assert all(len(found) == 1 for found in sides.values())
    assert split(examples, config) == parts
    by_id = {example.id: example for example in examples}
    assert all(by_id[e.id].prompt == e.prompt and by_id[e.id].target == e.target for e in every)
    largest = Counter(e.group for e in every).most_common(1)[0][1]
    wish = test * len(examples)
    assert len(parts.test) <= max(wish + 1e-9, largest)
    if wish >= 1:
        assert len(parts.test) > wish - largest - 1
    if method == "groups" and parts.raised is None:
        held_out = {*parts.test}
        rest = [e for e in every if e not in held_out]
        assert not any(alike(a, b) for a in held_out for b in rest)


@pytest.mark.parametrize(("rows", "test"), [(100, 20), (636, 127), (10, 2), (5, 1), (2, 1), (3, 1)])
def test_the_share_is_approached_from_below(rows: int, test: int) -> None:
    for method in ("groups", "random"):
        parts = split(distinct_examples(rows), SplitConfig(method=method))  # type: ignore[arg-type]
        assert len(parts.test) == test
        assert len(parts.validation) == int(0.05 * (rows - test))
    parts = split(distinct_examples(10), SplitConfig(test=0.7, validation=0.0))
    assert (len(parts.test), len(parts.validation)) == (7, 0)


def test_seeds_matter_and_the_order_is_shuffled() -> None:
    examples = distinct_examples(200)
    chosen = [set(ids(split(examples, SplitConfig(seed=seed)).test)) for seed in range(4)]
    assert len({frozenset(one) for one in chosen}) == 4
    order = ids(split(examples, SplitConfig()).train)
    assert order != sorted(order)
    # the first half of the source and the second are met alike at the beginning
    assert 10 < sum(one < "000100" for one in order[:40]) < 30


def test_the_order_of_the_rows_does_not_change_a_random_split() -> None:
    examples = distinct_examples(50)
    config = SplitConfig(method="random")
    assert split(examples[::-1], config) == split(examples, config)


def test_the_split_is_the_same_in_any_process() -> None:
    code = (
        "import json, random\n"
        "from harness.config.schema import SplitConfig\n"
        "from harness.data.nearest import nearest\n"
        "from harness.data.split import split\n"
        "from harness.records import Example\n"
        "ids = lambda examples: [example.id for example in examples]\n"
        f"WORDS = {WORDS!r}\n"
        "draw = random.Random(1)\n"
        "rows = [Example(f'{i:06d}', ' '.join(draw.choices(WORDS, k=4)),\n"
        "                ' '.join(draw.choices(WORDS, k=9))) for i in range(60)]\n"
        "parts = split(rows, SplitConfig(seed=7, prompt_jaccard=0.8))\n"
        "print(json.dumps([ids(parts.train), ids(parts.validation), ids(parts.test),\n"
        "                  ids(nearest(parts.test, parts.train))]))\n"
    )
    printed = []
    for seed in ("0", "12345"):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": str(ROOT),
        }
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, check=True
        )
        printed.append(json.loads(done.stdout))
    assert printed[0] == printed[1]


def test_a_known_split_never_changes() -> None:
    """Pinned: a change here makes old runs' held-out rows other rows."""
    parts = split(distinct_examples(20), SplitConfig(seed=0))
    assert ids(parts.test) == ["000015", "000013", "000018", "000005"]
    assert ids(parts.train)[:4] == ["000007", "000001", "000010", "000008"]
    assert parts.validation == []


def test_provided_sides_are_kept_in_order() -> None:
    examples = distinct_examples(30)
    sides = ["test" if i % 3 == 0 else "train" for i in range(30)]
    config = SplitConfig(method="provided", validation=0.1)
    parts = split(examples, config, sides)  # type: ignore[arg-type]
    assert ids(parts.test) == [f"{i:06d}" for i in range(0, 30, 3)]
    assert ids(parts.train) == sorted(ids(parts.train))
    assert (len(parts.train), len(parts.validation)) == (18, 2)
    assert parts.test[0].group == "000000"


@pytest.mark.parametrize(
    ("examples", "config", "sides", "why"),
    [
        (distinct_examples(1), SplitConfig(), None, "has 1 row that can be used; at least 2"),
        ([], SplitConfig(method="random"), None, "has 0 rows that can be used; at least 2"),
        (
            [Example(f"{i}", "the same", "<p>same</p>") for i in range(9)],
            SplitConfig(),
            None,
            "all 9 rows of task x are near-duplicates",
        ),
        (distinct_examples(3), SplitConfig(method="provided"), None, "does not say which side"),
        (distinct_examples(2), SplitConfig(method="provided"), ["train"] * 2, "has no test row"),
        (distinct_examples(2), SplitConfig(method="provided"), ["test"] * 2, "has no train row"),
    ],
)
def test_splits_that_cannot_be(
    examples: list[Example], config: SplitConfig, sides: list[str] | None, why: str
) -> None:
    with pytest.raises(DataError) as caught:
        split(examples, config, sides, name="task x")  # type: ignore[arg-type]
    sentence = str(caught.value)
    assert why in sentence
    assert "task x" in sentence
    assert sentence.isprintable()


def test_rows_all_alike_still_split_at_random() -> None:
    same = [Example(f"{i:06d}", "p", "t") for i in range(10)]
    parts = split(same, SplitConfig(method="random"))
    assert (len(parts.train), len(parts.test)) == (8, 2)
    assert contamination(parts.train, parts.test).same_prompt == 2


def test_rows_of_one_template_are_grouped_more_strictly_and_it_is_said() -> None:
    """Twenty pairs of twins; what a pair shares with the others is most of each text."""
    shared = (
        "请为一家位于北京的小型咖啡店设计一个简单的网页包含标题营业时间和联系方式并使用温暖的颜色"
    )
    rows = [
        Example(f"{at:06d}", f"{chr(0x4E00 + 41 * (at // 2)) * 6}{shared}{last}", f"<p>{at}</p>")
        for at, last in enumerate("甲乙" * 20)
    ]
    config = SplitConfig(validation=0.0)
    assert len(set(near_duplicate_groups(rows))) == 1
    parts = split(rows, config)
    assert (len(parts.train), len(parts.test)) == (32, 8)
    group = {e.id: e.group for e in (*parts.train, *parts.test)}
    assert all(group[f"{at:06d}"] == group[f"{at ^ 1:06d}"] for at in range(40))
    assert len(set(group.values())) == 20
    (note,) = split_notes(parts, config)
    assert note.startswith("by split.target_jaccard = 0.5 and split.prompt_jaccard = 0.6 all 40 ")
    assert "from a Jaccard index of 0.92 on instead" in note
    near = contamination(parts.train, parts.test)
    assert (near.same_prompt, near.near_prompt) == (0, 8)  # by what was asked for, not by 0.8


def test_a_split_that_grouping_bends_is_said() -> None:
    """60 of 100 rows alike: they are too many to be held out, and enough others are there."""
    same = [Example(f"{i:06d}", "the same", f"t{i} u{i} v{i}") for i in range(90)]
    some = [Example(f"{i:06d}", f"p{i}", f"t{i} u{i} v{i}") for i in range(90, 100)]
    config = SplitConfig(validation=0.0)
    (note,) = split_notes(split([*same, *some[:5]], config), config)
    assert note.startswith("5 of 95 rows are held out (5%) where split.test asks for 20%")
    assert "the largest has 90 rows; raise split.target_jaccard" in note
    assert "split.method = 'random'" in note
    plain = SplitConfig(method="random", validation=0.0)
    assert split_notes(split([*same, *some], plain), plain) == []
    assert split_notes(split(distinct_examples(3), config), config) == []  # 1 of 3: no nearer


def test_a_validation_part_without_rows_is_said() -> None:
    config = SplitConfig()
    (note,) = split_notes(split(distinct_examples(20), config), config)
    assert note.startswith("no row is left to validate on: split.validation = 0.05 of 16 rows")
    assert "raise split.validation to 0.07" in note
    config = SplitConfig(validation=0.07)
    assert len(split(distinct_examples(20), config).validation) == 1
    assert split_notes(split(distinct_examples(20), config), config) == []
    config = SplitConfig(validation=0.0)
    assert split_notes(split(distinct_examples(20), config), config) == []


# --- contamination ---------------------------------------------------------------------------


@PROPERTY
@given(example_lists, example_lists)
def test_contamination_equals_brute_force(train: list[Example], test: list[Example]) -> None:
    found = contamination(train, test)
    assert found.n_test == len(test)
    assert found.same_prompt == sum(any(a.prompt == b.prompt for b in train) for a in test)
    assert found.same_target == sum(any(a.target == b.target for b in train) for a in test)
    assert found.near_target == sum(
        any(jaccard(word_ngrams(a.target), word_ngrams(b.target)) >= Fraction(1, 2) for b in train)
        for a in test
    )
    assert found.near_prompt == sum(
        any(
            jaccard(frozenset(words(a.prompt)), frozenset(words(b.prompt))) >= Fraction(3, 5)
            for b in train
        )
        for a in test
    )


def test_contamination_as_json() -> None:
    train = [Example("0", "make a red list", "<ul><li>red</li></ul>")]
    test = [Example("1", "make a red list", "<p>other text here</p>"), Example("2", "x", "y")]
    row = contamination(train, test).to_json()
    assert row["n_test"] == 2
    assert (row["same_prompt"], row["same_prompt_share"]) == (1, 0.5)
    assert (row["near_target"], row["near_target_share"]) == (0, 0.0)
    assert json.loads(json.dumps(row)) == row
    assert contamination([], test).to_json()["near_prompt"] == 0
    assert contamination(train, []).to_json()["same_prompt_share"] == 0.0


def test_groups_leave_no_contamination_in_real_data_and_random_does() -> None:
    examples = real_examples("html_alpaca", "ttbui_html_alpaca")

    def measured(parts: Split) -> tuple[int, int]:
        found = contamination([*parts.train, *parts.validation], parts.test)
        return found.near_prompt, found.near_target

    assert measured(split(examples, SplitConfig())) == (0, 0)
    assert measured(split(examples, SplitConfig(method="random")))[1] >= 6  # about 9.5 % of 127


# --- the nearest training answer -------------------------------------------------------------


def test_the_nearest_prompt_is_found_by_its_rare_words() -> None:
    train = [
        Example("2", "make a page with a table of prices", "table"),
        Example("1", "make a page with a list of cities", "list"),
        Example("0", "make a page with a form", "form"),
    ]
    test = [
        Example("9", "Please write: TABLE, prices!", ""),
        Example("8", "make a page with a list of something else", ""),
        Example("7", "???", ""),
        Example("6", "words of which none was seen", ""),
    ]
    assert [e.target for e in nearest(test, train)] == ["table", "list", "form", "list"]
    assert nearest([], train) == []
    with pytest.raises(ValueError, match="at least one"):
        nearest(test, [])


def test_equals_go_to_the_lowest_id_in_any_order() -> None:
    train = [Example(f"{i:06d}", "make a list", str(i)) for i in range(20)]
    random.Random(3).shuffle(train)
    assert nearest([Example("t", "make a list", "")], train)[0].id == "000000"


@PROPERTY
@given(example_lists)
def test_a_prompt_that_was_trained_on_finds_an_equal_one(train: list[Example]) -> None:
    for asked, found in zip(train, nearest(train, train), strict=True):
        if words(asked.prompt):
            assert set(words(found.prompt)) == set(words(asked.prompt))


# --- the prompt ------------------------------------------------------------------------------


@PROPERTY
@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_the_prompt_is_put_in_as_it_is(before: str, after: str, prompt: str) -> None:
    before, after = before.replace("{}", ""), after.replace("{}", "")
    if (before + "{}" + after).count("{}") == 1:
        assert render(before + "{}" + after, prompt) == before + prompt + after


def test_braces_are_safe() -> None:
    assert render("p { } {x} {}!", "a {} {0} %s \\1 {") == "p { } {x} a {} {0} %s \\1 {!"
