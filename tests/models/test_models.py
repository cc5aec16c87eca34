"""Loading: quantised as asked, converted as pinned, refused in one sentence."""

from __future__ import annotations
