"""Addresses as pages write them: in attributes, in lists of images, in style sheets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urljoin

# The C0 controls and the space are cut from both ends, tabs and line ends are taken out
# (URL Standard, 4.4); http(s) may have any number of slashes, of either kind.
_ENDS = "".join(map(chr, range(0x21)))
_DROPPED = dict.fromkeys(map(ord, "\t\n\r"))
_ABSOLUTE = re.compile(r"(?:https?:[/\\]*+|[/\\]{2,}+)[^/\\?#]", re.I)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*+:", re.I)

_CANDIDATE = re.compile(r"[\s,]*+(\S++)")
_REFRESH = re.compile(
    r"\s*+[\d.]++(?:\s*+[;,]\s*+|\s++)(?:url\s*+=\s*+)?+(?:\"([^\"]*+)|'([^']*+)|(.*+))",
    re.I | re.S,
)
# In one pass, so that a url( in a comment or in a string is none. @namespace fetches nothing.
_CSS = re.compile(
    r"""
    /\*.*?(?:\*/|\Z)
    | @namespace\b[^;{}]*+
    | @import\s++(?: "([^"\n]*+)"?+ | '([^'\n]*+)'?+ )
    | \burl\(\s*+(?: "([^"\n]*+)"?+ | '([^'\n]*+)'?+ | ([^\s"'()\\]++) )
    | "[^"\n]*+"?+
    | '[^'\n]*+'?+
    """,
    re.I | re.S | re.X,
)


def is_external(address: str, base: str = "") -> bool:
    """Whether `address` names another host: http:, https:, //, or relative to such a `base`.

    An address with another scheme (data:, blob:, about:, javascript:) is not fetched from a
    host; an empty one, or a fragment alone, is the page itself.
    """
    address = _clean(address)
    if _ABSOLUTE.match(address):
        return True
    if not address or address[0] == "#" or _SCHEME.match(address):
        return False
    return bool(base) and _ABSOLUTE.match(_clean(base)) is not None


def resolve(address: str, base: str = "") -> str:
    """The address without its fragment, joined to `base` where it is relative to it."""
    address = _clean(address).partition("#")[0]
    if base and not _ABSOLUTE.match(address):
        try:
            return urljoin(_clean(base), address)
        except ValueError:  # a base such as "http://[": as it stands is better than nothing
            return address
    return address


def candidates(srcset: str) -> Iterator[str]:
    """The addresses of a srcset (HTML Living Standard, 4.8.4.3.10), in order."""
    at = 0
    while found := _CANDIDATE.match(srcset, at):
        address, at = found.group(1), found.end()
        if address.endswith(","):
            address = address.rstrip(",")
        else:
            comma = srcset.find(",", at)
            at = len(srcset) if comma < 0 else comma
        yield address


def refresh(content: str) -> str:
    """The address of a meta refresh's content ("5; url=x"), "" where it has none."""
    found = _REFRESH.match(content)
    return next((part for part in found.groups() if part is not None), "") if found else ""


def in_css(sheet: str) -> Iterator[str]:
    """The addresses of url() and @import in a style sheet or a style attribute."""
    for found in _CSS.finditer(sheet):
        if found.lastindex:
            yield found.group(found.lastindex)


def _clean(address: str) -> str:
    return address.strip(_ENDS).translate(_DROPPED)
