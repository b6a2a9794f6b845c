"""The prompt of a history, and the candidate that is to follow it: both ends in one file.

A shopper's newest steps, one title a line with how it was reached, the newest last, and an open
line that a candidate completes::

    One customer's way through a shop, one product a line, the newest last.
    bought: Strap top, Black Vest top
    searched for: "linen midi dress"
    clicked: Tilda dress, White Dress
    next: ▁

The general line is the same without the steps, so that what a title owes to the history alone is
the difference of two likelihoods. Texts are the shop's and the shopper's: they are held to their
line and to a number of tokens, so that none can end its line or crowd out the others.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from models.domain import Item, Kind
from models.llm.scorer import Tokens
from models.ports import Read

#: The newest steps that are read, and the tokens of each text; trials gained nothing from more.
STEPS: Final = 10
TEXT_TOKENS: Final = 16

OPENING: Final = "One customer's way through a shop, one product a line, the newest last.\n"
GENERAL: Final = "One customer's way through a shop.\n"
NEXT: Final = "next:"
END: Final = "\n"

Tokenize = Callable[[str], Tokens]


def history_prefix(history: Sequence[Read], tokenize: Tokenize) -> Tokens:
    """The prompt up to where a candidate goes; empty where the history has nothing to read.

    ``history`` is oldest first; a step without any text is passed over.
    """
    lines = [line for _, line in _lines(history, tokenize)]
    if not lines:
        return ()
    return tokenize(OPENING) + tuple(t for line in lines for t in line) + tokenize(NEXT)


def general_prefix(tokenize: Tokenize) -> Tokens:
    """The prompt of a shopper of whom nothing is known."""
    return tokenize(GENERAL) + tokenize(NEXT)


def candidate(item: Item, tokenize: Tokenize) -> Tokens:
    """What completes the open line, its end included; empty for an item without a text.

    The end counts: it says that the title is whole, not the begin of another.
    """
    text = _text(item.text, tokenize)
    return text + tokenize(END) if text else ()


@dataclass(frozen=True, slots=True)
class Taught:
    """A history and what followed it, to learn from.

    ``titles`` are the places in ``tokens`` of titles that stand below at least one line, that of
    what followed the last: each is to be foretold by what stands before it.
    """

    tokens: Tokens = ()
    titles: tuple[int, ...] = ()


def taught(history: Sequence[Read], then: Item, tokenize: Tokenize) -> Taught:
    """The prompt of the history, completed; without tokens where either has nothing to read."""
    answer, lines = candidate(then, tokenize), _lines(history, tokenize)
    if not answer or not lines:
        return Taught()
    tokens, titles = list(tokenize(OPENING)), list[int]()
    for place, (item, line) in enumerate(lines):
        tokens += line
        if place and item is not None:
            titles += range(len(tokens) - len(candidate(item, tokenize)), len(tokens))
    tokens += tokenize(NEXT)
    titles += range(len(tokens), len(tokens) + len(answer))
    return Taught((*tokens, *answer), tuple(titles))


def one_line(text: str) -> str:
    """The text without control, format and line characters, blanks collapsed, quotes single."""
    return " ".join(text.translate(_CLEAN).split())


class _Clean(dict[int, str]):
    """What each character becomes, looked up once: every title of a history is cleaned anew."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = " " if _breaks(character) else "'" if character == '"' else character
        return self[code]


_CLEAN: Final = _Clean()


def _breaks(character: str) -> bool:
    """Control, format, surrogate and private characters, line and paragraph separators."""
    category = unicodedata.category(character)
    return category.startswith("C") or category in {"Zl", "Zp"}


def _lines(history: Sequence[Read], tokenize: Tokenize) -> list[tuple[Item | None, Tokens]]:
    """The newest lines, each with its item; None for a search.

    A query that led to a click is a line of its own, unless the step before said it: so a shop that
    sends its searches, one that only says what a click came from, and a log of either read alike.
    """
    lines: list[tuple[Item | None, Tokens]] = []
    said: str | None = None
    for read in history:
        query = read.step.query
        if query and query != said and (words := _text(query, tokenize, quoted=True)):
            lines.append((None, tokenize(f"{Kind.SEARCH.verb}:") + words + tokenize(END)))
        said = query
        item = read.item if read.step.kind.of_item else None
        if item is not None and (title := candidate(item, tokenize)):
            verb = tokenize(read.step.kind.verb) + tokenize(":")
            lines.append((item, verb + title))
    return lines[-STEPS:]


def _text(text: str, tokenize: Tokenize, *, quoted: bool = False) -> Tokens:
    """At most ``TEXT_TOKENS`` of the text; the blank before it belongs to its first token."""
    if not (clean := one_line(text)):
        return ()
    if quoted:
        return tokenize(' "') + tokenize(clean)[:TEXT_TOKENS] + tokenize('"')
    return tokenize(f" {clean}")[:TEXT_TOKENS]
