r"""HTML as a flat list of tokens, in linear time and whatever the text holds: no parser.

The tokens of `<a class="x y" HREF=/z>Grüße, 世界</a>`:

    <a  @class  "x  "y  @href  "/z  Grüße  ,  世  界  </a

Tags. `<name` and `</name`, the name in lower case (`<!doctype` is a tag too). The bracket that
closes a tag, a slash before it, and white space anywhere, are no tokens. A quote that is not
closed runs to the next of its kind or to the end of the text, a tag that is not closed to the
end of the text: browsers read them so.

Attributes. The name in lower case with an @, then the value with a quote before it, where it
is not empty. HTML gives neither the order of attributes nor that of classes a
meaning, so attributes are sorted by name. A value is one token, a run of white space one space
and none at its ends, as a browser takes an address, an id or a number as a whole. Two hold
lists: `class` gives a token for each name, sorted, and `style` is cut up as text is, as a style
sheet would be.

Text, and what script, style, title and textarea hold. A word is a run of letters, digits,
marks and underscores in its own case; of scripts that put no spaces between words (Han,
kana, Thai, Lao, Burmese, Khmer, Tibetan), and of emoji, each character is a word. Every other
sign is a token, and `<!--`, `-->` and a character reference (`&nbsp;`, not decoded) are one
each. Comments are cut up like the text around them.

The first character tells the sorts apart: `a` as a word, a tag, an attribute and a value is
four tokens, none equal to another. Source: our own definition.
"""

from __future__ import annotations

import re
from operator import itemgetter

MAX_CHARACTERS = 400_000

# An equals sign makes the quote behind it one that hides ">": HTML standard, 13.2.5.35.
_INSIDE = r"""(?:[^=>]++|=\s*+(?:"[^"]*+"?+|'[^']*+'?+)?+)*+"""
_ENDS_NAME = r"(?=[\s/>]|\Z)"
_RAW = "script|style|title|textarea"
_TAG = re.compile(
    rf"<({_RAW}){_ENDS_NAME}({_INSIDE})>?+((?:[^<]++|<(?!/(?:{_RAW}){_ENDS_NAME}))*+)"
    rf"|<(/?+!?+[a-z][^\s/>]*+)({_INSIDE})>?+",
    re.I | re.ASCII,
)
_ATTRIBUTE = re.compile(
    r"""([^\s/=][^\s/=]*+)(?:\s*+=\s*+(?:"([^"]*+)"?+|'([^']*+)'?+|(\S++))?+)?+""", re.ASCII
)
_SPACE = re.compile(r"[ \t\n\f\r]++")
# Signs and spaces other than ASCII's, by blocks of Unicode, so that no version of it matters.
_SIGNS = (
    "\x00-\x20!-/:-@\\[-^`{-\x7f"
    "\x80-\xa9\xab-\xb1\xb4\xb6-\xb8\xbb\xbf\xd7\xf7"
    "\u2000-\u200b\u200e-\u206f\u20a0-\u20cf\u2100-\u2bff\u2e00-\u2e7f"
    "\u3000-\u3004\u3008-\u3020\u3030\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
)
_ALONE = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fff"
    "\u3005-\u3007\u3021-\u302f\u3031-\u312f\u3190-\u4dbf\u4e00-\ua4cf\uf900-\ufaff\uff66-\uff9f"
    "\ud800-\udfff\U0001b000-\U0001b16f\U0001f000-\U0001faff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[^{_SIGNS}{_ALONE}\s]++|&\#?+[0-9A-Za-z]{{1,32}}+;|<!--|-->|[^\s]")


def tokens(text: str) -> list[str]:
    """The tokens of `text`, as the module says. Raises nothing."""
    found: list[str] = []
    # split() gives text, then the five groups of a tag, then text, and so on.
    parts = _TAG.split(text)
    found += _WORD.findall(parts[0])
    for at in range(1, len(parts), 6):
        raw, raw_inside, held, name, inside, behind = parts[at : at + 6]
        if raw:
            name, inside, behind = raw, raw_inside, held + behind
        found.append("<" + name.lower())
        if inside and not inside.isspace():
            found += _attributes(inside)
        if behind:
            found += _WORD.findall(behind)
    return found


def _attributes(inside: str) -> list[str]:
    read = [(name.lower(), a or b or c) for name, a, b, c in _ATTRIBUTE.findall(inside)]
    if len(read) > 1:
        read.sort(key=itemgetter(0))
    found = []
    for name, value in read:
        found.append("@" + name)
        if name == "class":
            found += ['"' + each for each in sorted(value.split())]
        elif name == "style":
            found += _WORD.findall(value)
        elif value := _SPACE.sub(" ", value).strip():
            found.append('"' + value)
    return found
