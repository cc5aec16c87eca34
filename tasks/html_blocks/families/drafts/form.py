"""A form with two inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from harness.records import Assertion

from ... import content
from ...banks import ACTIONS
from ...choices import Choices
from ...family import quote
from ...markup import el, render
from ..forms import draw_inputs
from .draft import Change, Draft


class FormDraft(Draft):
    def __init__(self, c: Choices) -> None:
        one, two, self.new = draw_inputs(c, 3, 0)
        self.fields = [one, two]
        self.action = f"/{content.word(c)}"
        self.method = "get"
        self.button, self.new_button = c.some(ACTIONS, 2)

    def write(self) -> str:
        inside = [node for field in self.fields for node in field.nodes()]
        inside.append(el("button", {"type": "submit"}, self.button))
        return render([el("form", {"action": self.action, "method": self.method}, *inside)])

    def changes(self) -> Sequence[Callable[[Choices], Change]]:
        return (self._post, self._button, self._require, self._add)

    def _require(self, c: Choices) -> Change:
        i = c.below(2)
        self.fields[i] = replace(self.fields[i], required=True)
        name = self.fields[i].name
        return Change(
            f"Make the input {name} required.",
            f"the input {name} is required",
            f"{name} must not be left empty (required)",
            (Assertion(f'input[name="{name}"]', attribute="required"),),
        )

    def _add(self, c: Choices) -> Change:
        self.fields.append(self.new)
        new = self.new
        label = quote(new.label)
        return Change(
            f"Before the button add the label {label} and its input of type {new.detail}, id and "
            f"name {quote(new.name)}.",
            f"before the button stand a label {label} and its input (type {new.detail}, id and "
            f"name {quote(new.name)})",
            f"last field missing: label {label}, input type {new.detail}, id = name = {new.name}",
            (
                Assertion(new.selector, 1, attribute="id", value=new.name),
                Assertion("label", count=3, text=new.label),
            ),
        )

    def _button(self, c: Choices) -> Change:
        self.button = self.new_button
        text = quote(self.button)
        return Change(
            f"Let the button say {text}.",
            f"the button says {text}",
            f"button text, better {text}",
            (Assertion("button", count=1, text=self.button),),
        )

    def _post(self, c: Choices) -> Change:
        self.method = "post"
        return Change(
            "Change the method to post.",
            "the method is post",
            "get is wrong here, post it",
            (Assertion("form", attribute="method", value="post"),),
        )

    def kept(self) -> Sequence[Assertion]:
        return (
            Assertion("form", count=1, attribute="action", value=self.action),
            Assertion("form input", count=len(self.fields)),
        )
