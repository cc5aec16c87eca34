"""Words of any script, and texts as sets of hashed words or word n-grams.

A word is a maximal run of `\\w` (letters, digits and underscores of any script) of the text in
lower case, so that tag names, attribute names and values are words while brackets and other
punctuation are not. By this definition html_alpaca's 636 rows fall into 554 groups (see
`harness.data.split`), the number known for that data set.

Scripts that put no space between words would make one word of a whole sentence, so that two
sentences which differ in one sign shared nothing. A run of such a script is read as its
overlapping character n-grams instead, in NFKC (halfwidth katakana, compatibility ideographs and
decomposed marks are then what they look like):

- pairs in ideographs and kana (the line-breaking classes ID and CJ of UAX #14, without Hangul,
  which has spaces): a Chinese or Japanese word has about two characters, so that the thresholds,
  which are for words, keep their meaning. Single characters would not do: a language's commonest
  few hundred stand in unrelated texts alike;
- triples in Thai, Lao, Khmer, Myanmar and the other scripts of class SA, and in Tibetan, Balinese
  and Javanese: their letters are few, three signs are about a syllable.

One changed character of 45 changes 2 of 44 pairs (Jaccard index 0.91), 4 of 42 runs of three
pairs (0.83), 3 of 43 triples (0.87) and 5 of 41 runs of three triples (0.78): far above 0.6 and
0.5, while unrelated sentences lie below 0.2.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]
Elements = npt.NDArray[np.uint64]

_IDEOGRAPHS_AND_KANA = (
    "\u2e80-\u2fd5\u3005-\u3007\u3021-\u3029\u3031-\u3035\u303b\u303c"
    "\u3041-\u3096\u3099\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\uff66-\uff9f"
    "\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua48c\uf900-\ufaff"
    "\U00016fe0-\U00018d7f\U0001aff0-\U0001b2ff\U00020000-\U0003fffd"
)
_SOUTH_EAST_ASIAN = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e50-\u0e59\u0e81-\u0edf"  # Thai, Lao
    "\u0f00\u0f0b\u0f0c\u0f18-\u0f39\u0f3e-\u0fbc"  # Tibetan, with the dot between syllables
    "\u1000-\u1049\u1050-\u109f\ua9e0-\ua9fe\uaa60-\uaa7f"  # Myanmar
    "\u1780-\u17d3\u17d7\u17dc\u17dd\u17e0-\u17e9"  # Khmer
    "\u1950-\u1974\u1980-\u19da\u1a20-\u1a99\u1aa7\uaa80-\uaadd"  # Tai Le, Lue, Tham, Viet
    "\u1b00-\u1b59\ua980-\ua9c0\ua9cf-\ua9d9\U00011700-\U0001173b"  # Balinese, Javanese, Ahom
)
_WORD = re.compile(r"\w+")
_UNSPACED = re.compile(f"[{_IDEOGRAPHS_AND_KANA}{_SOUTH_EAST_ASIAN}]")
_PIECE = re.compile(
    f"([{_IDEOGRAPHS_AND_KANA}]+)|([{_SOUTH_EAST_ASIAN}]+)"
    rf"|[^\W{_IDEOGRAPHS_AND_KANA}{_SOUTH_EAST_ASIAN}]+"
)

_BLOCK = 1_000_000  # words that are turned into elements at once: bounds the memory
_MIX = tuple(
    np.uint64(odd)
    for odd in (
        0x9E3779B97F4A7C15,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0xBF58476D1CE4E5B9,
        0x94D049BB133111EB,
    )
)


def words(text: str) -> list[str]:
    """The words of `text`, in order, in lower case."""
    lowered = text.lower()
    if lowered.isascii() or not _UNSPACED.search(lowered):
        return _WORD.findall(lowered)
    found: list[str] = []
    for piece in _PIECE.finditer(lowered):
        run, group = piece.group(), piece.lastindex
        if group is None:
            found.append(run)
            continue
        run, n = unicodedata.normalize("NFKC", run), group + 1
        found.extend(run[at : at + n] for at in range(max(1, len(run) - n + 1)))
    return found


@dataclass(slots=True)
class Sets:
    """Sets of 64-bit hashes, one a text; set i is elements[starts[i]:starts[i + 1]], ascending.

    The hashes are Python's own of strings (SipHash, keyed anew in each process) and 64 bits wide:
    that two of a million rows' n-grams share one is not to be expected, and would change a
    Jaccard index by one element.
    """

    starts: Positions
    elements: Elements

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def sizes(self) -> Positions:
        return np.diff(self.starts)


def hashed_sets(
    texts: Iterable[str], n: int = 1, advance: Callable[[int], None] = lambda rows: None
) -> Sets:
    """Each text's distinct words (n = 1), or its runs of three (n = 3), hashed.

    A text of fewer than three words has its single words where n is 3. advance: told how many
    more texts are done.
    """
    elements = np.empty(1024, dtype=np.uint64)
    sizes = array("q")
    filled = 0
    hashes, counts = array("q"), array("q")

    def flush() -> None:
        nonlocal filled
        block, of_text = _distinct(np.array(hashes, dtype=np.int64).view(np.uint64), counts, n)
        if filled + len(block) > len(elements):
            # In place: the system moves the pages, and those not yet written take no memory.
            elements.resize((filled + len(block)) * 5 // 4, refcheck=False)
        elements[filled : filled + len(block)] = block
        filled += len(block)
        sizes.extend(of_text.tolist())
        advance(len(counts))
        del hashes[:], counts[:]

    for text in texts:
        found = words(text)
        hashes.extend(map(hash, found))
        counts.append(len(found))
        if len(hashes) >= _BLOCK:
            flush()
    flush()
    elements.resize(filled, refcheck=False)
    starts = np.concatenate(([0], np.cumsum(np.array(sizes, dtype=np.int64))))
    return Sets(starts.astype(np.int64), elements)


def _distinct(hashes: Elements, counts: array[int], n: int) -> tuple[Elements, Positions]:
    """The texts' elements, distinct and ascending within each, and how many each has."""
    lengths = np.array(counts, dtype=np.int64)
    if n == 3 and len(hashes):
        text = np.repeat(np.arange(len(lengths)), lengths)
        values = _mixed(hashes)
        whole = np.zeros(len(hashes), dtype=bool)
        whole[:-2] = text[2:] == text[:-2]
        runs = hashes[:-2] * _MIX[0] + hashes[1:-1] * _MIX[1] + hashes[2:] * _MIX[2]
        values[:-2][whole[:-2]] = _mixed(runs[whole[:-2]])
        kept = whole | (lengths < 3)[text]
        hashes = values[kept]
        lengths = np.where(lengths < 3, lengths, lengths - 2)
    sort_each(hashes, lengths)
    text = np.repeat(np.arange(len(lengths)), lengths)
    first = np.ones(len(hashes), dtype=bool)
    first[1:] = (hashes[1:] != hashes[:-1]) | (text[1:] != text[:-1])
    return hashes[first], np.bincount(text[first], minlength=len(lengths)).astype(np.int64)


def sort_each(elements: Elements, lengths: Positions) -> None:
    """Sort, in place, each of the consecutive pieces of these lengths."""
    start = 0
    for length in lengths.tolist():
        if length > 1:
            elements[start : start + length].sort()
        start += length


def _mixed(values: Elements) -> Elements:
    """The finalising steps of SplitMix64: each bit of the result depends on all of the value."""
    values = (values ^ (values >> np.uint64(30))) * _MIX[3]
    values = (values ^ (values >> np.uint64(27))) * _MIX[4]
    mixed: Elements = values ^ (values >> np.uint64(31))
    return mixed
