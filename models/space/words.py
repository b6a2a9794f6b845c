"""The words of titles, as numbers: what a title says letter by letter, beside what it means.

A title encoder places titles that mean alike side by side, and blurs what shoppers go by: a brand,
a shade, a size, a model's name. A vector of its own for each word keeps these apart, and a new item
has them at once. (An item as the sum of its features' vectors: Rendle 2010, doi
10.1109/ICDM.2010.127; Kula 2015, arXiv 1507.08439.)
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Words of a title that are read; a title has about ten.
LENGTH: Final = 24
#: Words that are told apart at most, and the titles that a word must stand in to be one of them.
MOST: Final = 50_000
_LEAST: Final = 2
#: Distinct words that are counted; where there are more, those met once so far are forgotten.
_COUNTED: Final = 2_000_000
#: Letters of a word that are read: what is longer is no word.
_LETTERS: Final = 40


class Vocabulary:
    """Words by number: the first is 1, 0 is no word. The same words make the same numbers.

    ``weights`` say how much each word tells: the inverse document frequency, log(texts / its texts)
    (Spärck Jones 1972, doi 10.1108/eb026526).
    """

    def __init__(self, words: Sequence[str] = (), weights: Sequence[float] = ()) -> None:
        self.words, self.weights = tuple(words), tuple(weights)
        self._numbers = {word: number for number, word in enumerate(self.words, 1)}

    @classmethod
    def of(cls, texts: Iterable[str], most: int = MOST) -> Vocabulary:
        """The words of the texts, those of the most texts first; rare ones are left out."""
        counts: Counter[str] = Counter()
        total, room = 0, _COUNTED
        for text in texts:
            total += 1
            counts.update(set(_split(text)))
            if len(counts) > room:
                counts = Counter({word: count for word, count in counts.items() if count > 1})
                room = max(_COUNTED, 2 * len(counts))  # or each text would have them counted out
        # of equally many texts by the alphabet
        known = sorted((-count, word) for word, count in counts.items() if count >= _LEAST)[:most]
        weights = [round(math.log((total + 1) / -count), 4) for count, _ in known]
        return cls([word for _, word in known], weights)

    def __len__(self) -> int:
        return len(self.words)

    def numbers(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """The distinct known words (k, ``LENGTH``) of texts (k), each text's first ones, then 0."""
        found = np.zeros((len(texts), LENGTH), dtype=np.int32)
        for row, text in enumerate(texts):
            known = filter(None, map(self._numbers.get, dict.fromkeys(_split(text))))
            for place, number in zip(range(LENGTH), known, strict=False):
                found[row, place] = number
        return found


def _split(text: str) -> list[str]:
    folded = text.casefold()
    if not folded.isascii():  # one spelling of each letter, with the marks that belong to it
        folded = unicodedata.normalize("NFC", folded)
    return [word[:_LETTERS] for word in folded.translate(_PARTS).split()]


class _Parts(dict[int, str]):
    """What each character becomes, looked up once: itself in a word, a blank between words."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        inside = character.isalnum() or unicodedata.category(character).startswith("M")
        self[code] = character if inside else " "
        return self[code]


_PARTS: Final = _Parts()
