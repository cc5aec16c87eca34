"""The family of edits: a draft (drafts/) is given in the prompt, and changes to it are asked.

A draft is drawn and written, changed and written again. A change sets values anew, in `set`;
changes touch different parts of a draft, so that they go together in any order. A change is told
as an `order`, as the `state` after it and in a `terse` note. One or two are made, among them
always the one that is `needed`, since the draft is not valid without. What is `kept` holds once
they are made and nothing else was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .choices import Choices
from .draws import draw
from .family import Family, checks, phrasings, read, reference
from .template import Template, Values


def load_edits(*drafts: str) -> Family:
    """The family that changes the drafts of these names."""
    drawn = [_edit(read(f"drafts/{name}.toml")) for name in drafts]
    return Family(
        "edit",
        draw=lambda c: c.one(drawn)(c),
        write=lambda edit: edit["after"],
        check=lambda edit: [
            *(check for change in edit["changes"] for check in change["checks"]),
            *edit["kept"],
        ],
        **phrasings(read("families/edit.toml")),
    )


def _edit(draft: Mapping[str, Any]) -> Callable[[Choices], Values]:
    """What draws an edit of this draft."""
    write, kept = reference(draft["markup"]), checks(draft["kept"])
    needed, others = (
        [_change(change) for change in draft.get(sort, {}).values()]
        for sort in ("needed", "changes")
    )

    def edit(c: Choices) -> Values:
        values: Values = draw(c, draft["draw"], {})
        before = write(values)
        asked = (*needed, *c.some(others, c.between(1, 2) - len(needed)))
        changes = []
        for change in asked:
            values, made = change(c, values)
            changes.append(made)
        return {
            "before": before,
            "after": write(values),
            "changes": changes,
            "kept": kept(values),
            "made": "one change" if len(changes) == 1 else f"{len(changes)} changes",
        }

    return edit


def _change(file: Mapping[str, Any]) -> Callable[[Choices, Values], tuple[Values, Values]]:
    """What makes this change: gives the values after it, its wordings and its checks."""
    wordings = {name: Template(file[name]) for name in ("order", "state", "terse")}
    hold = checks(file["checks"])

    def change(c: Choices, values: Values) -> tuple[Values, Values]:
        values = draw(c, file["set"], values)
        told = {name: wording(values) for name, wording in wordings.items()}
        return values, {**told, "checks": hold(values)}

    return change
