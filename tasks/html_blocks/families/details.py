"""Details: a question to unfold, its answer, and a second one, of which one is open."""

from __future__ import annotations

from dataclasses import dataclass

from harness.records import Assertion

from .. import content
from ..choices import Choices
from ..family import Family, lines, quote, quoted
from ..markup import Node, el, render


@dataclass(frozen=True)
class Details:
    """Two foldable blocks; the first holds a text, the second a text and a list."""

    first: tuple[str, str]
    second: tuple[str, str]
    entries: tuple[str, ...]
    open: int
    id: str

    @property
    def open_summary(self) -> str:
        return (self.first, self.second)[self.open][0]


def _draw(c: Choices) -> Details:
    of = content.theme(c)
    one, two = content.titles(c, of, 2)
    text, other = content.sentences(c, of, 2)
    entries = content.entries(c, of, c.between(2, 3))
    return Details((one, text), (two, other), entries, c.below(2), content.word(c))


def _write(x: Details) -> str:
    listed = el("ul", None, *(el("li", None, entry) for entry in x.entries))
    bodies: list[list[Node]] = [[el("p", None, x.first[1])], [el("p", None, x.second[1]), listed]]
    blocks = []
    for i, (summary, _) in enumerate((x.first, x.second)):
        attributes: dict[str, str | None] = {"id": x.id} if i == 0 else {}
        if i == x.open:
            attributes["open"] = None
        blocks.append(el("details", attributes, el("summary", None, summary), *bodies[i]))
    return render(blocks)


def _check(x: Details) -> list[Assertion]:
    return [
        Assertion("details > summary", count=2, text=x.first[0]),
        Assertion("details > summary", text=x.second[0]),
        Assertion(f"details#{x.id} > p", count=1, text=x.first[1]),
        Assertion("details > p", count=2, text=x.second[1]),
        Assertion("details[open] > summary", count=1, text=x.open_summary),
        Assertion("details > ul > li", count=len(x.entries), text=x.entries[-1]),
    ]


def _order(x: Details) -> str:
    return (
        f"Write two details elements. The first has the id {quote(x.id)}, the summary "
        f"{quote(x.first[0])} and the paragraph {quote(x.first[1])} The second has the summary "
        f"{quote(x.second[0])}, the paragraph {quote(x.second[1])} and a ul of "
        f"{quoted(x.entries)}. Only the {('first', 'second')[x.open]} one is open."
    )


def _question(x: Details) -> str:
    return (
        f"How can readers unfold {quote(x.first[0])} to see the paragraph {quote(x.first[1])}, and "
        f"{quote(x.second[0])} to see {quote(x.second[1])} and a ul with {quoted(x.entries)}? Use "
        f"details and summary, id {quote(x.id)} on the first, and the open attribute on "
        f"the {('first', 'second')[x.open]}."
    )


def _spec(x: Details) -> str:
    flags = [", open" if i == x.open else "" for i in range(2)]
    return (
        f"details 1, id={x.id}{flags[0]}\nsummary: {x.first[0]}\np: {x.first[1]}\n"
        f"details 2{flags[1]}\nsummary: {x.second[0]}\np: {x.second[1]}\nul:\n{lines(x.entries)}"
    )


def _story(x: Details) -> str:
    return (
        f"Our help page folds its answers away with details. Someone clicks the summary "
        f"{quote(x.first[0])} (that block has the id {quote(x.id)}) and finds a p: "
        f"{quote(x.first[1])} Under the summary {quote(x.second[0])} they find a p "
        f"{quote(x.second[1])} and a ul: {'; '.join(x.entries)}. {quote(x.open_summary)} is open "
        "from the start."
    )


def _chat(x: Details) -> str:
    return (
        f"Q1: {x.first[0]}\nA1: {x.first[1]}\nQ2: {x.second[0]}\nA2: {x.second[1]}\n"
        f"{lines(x.entries, 'A2, bullet: ')}\n\nEvery Q is the summary of its own details, every "
        f"A a paragraph, bullets a ul. Q1's details: id {x.id}. Initially open: Q{x.open + 1}."
    )


def _state_first(x: Details) -> str:
    states = ["open" if i == x.open else "shut" for i in range(2)]
    return (
        f"One block {states[0]}, one block {states[1]}, both details. Summaries: "
        f"{quote(x.first[0])} for the block with id {quote(x.id)}, then {quote(x.second[0])}. "
        f"Paragraph in the former: {quote(x.first[1])} In the latter: {quote(x.second[1])} The "
        f"latter also lists (ul) {quoted(x.entries)}."
    )


DETAILS = Family(
    "details", _draw, _write, _check, (_order, _question, _spec, _story), (_chat, _state_first)
)
