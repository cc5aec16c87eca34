"""The prompt that a model sees: the task's template around one instruction."""

from __future__ import annotations

PLACEHOLDER = "{}"


def render(template: str, prompt: str) -> str:
    """The template with its one `{}` replaced by `prompt`.

    A plain replacement, not `str.format`: braces in the prompt or elsewhere in the template
    (style sheets, scripts) stay as they are.
    """
    return template.replace(PLACEHOLDER, prompt, 1)
