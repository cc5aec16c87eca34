"""Made-up markup that no author would write."""

from __future__ import annotations

import random

TAG_NAMES = (
    "p div li ul b i a table tr td tbody svg g option select form h1 dd dt title script body html "
    "button math mi template ruby rt col caption foreignObject br img"
)
TAGS = TAG_NAMES.split()
BITS = ["x", " ", "&amp;", "&", "<!-- c -->", "<!DOCTYPE html>", "\0", "é", "<?x", "\n", "<a b='"]


def soup_of_tags(rng: random.Random) -> str:
    """Up to 25 start tags, end tags and bits of other things, in no order."""

    def bit() -> str:
        kind, tag = rng.random(), rng.choice(TAGS)
        if kind < 0.45:
            return f"<{tag} class='u v'>" if kind < 0.1 else f"<{tag}>"
        return f"</{tag}>" if kind < 0.8 else rng.choice(BITS)

    return rng.choice(["", "<!DOCTYPE html>"]) + "".join(bit() for _ in range(rng.randint(0, 25)))
