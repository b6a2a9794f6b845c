"""The prompt that the history reader reads: a shopper's steps, one a line, oldest first.

::

    Shopping history, oldest first:
    Bought:
    Strap top, Black Vest top
    Linen shirt
    Searched for:
    linen midi dress
    Clicked:
    Tilda dress, White Dress

How a line was reached stands above it, and only where it differs from the line before, so that a
line costs its own words and little more. A new event only appends: what was read before stays as
it is, token for token, and can be kept. The state at each step's end (its newline) is what the
head reads; it does not know yet how the next step will be reached.

**Which steps are read** depends on the steps alone, never on what a cache holds, so that a replay
repeats. Up to 2 * lines - 1 steps are all read. Of more, the first line is the step of the least
hash among those that leave between lines and 2 * lines - 1 steps to read (winnowing: Schleimer,
Wilkerson and Aiken, SIGMOD 2003). While the window slides by one step an event its least hash
mostly stays where it is, so the prompt keeps its beginning for (lines + 1) / 2 events on average;
reading just the newest ``lines`` would begin anew with every event.

Texts are the shop's and the shopper's: each is held to its line and to a number of tokens, and
none can pass for a heading.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Final

from models.domain import Item, Kind, Step
from models.llm import Tokens
from models.ports import Read
from models.prompt import Tokenize, one_line

OPENING: Final = "Shopping history, oldest first:\n"
END: Final = "\n"
ATTRIBUTES: Final = ("category", "brand", "colour", "price_band")
#: Of an attribute, which follows the title's own tokens.
ATTRIBUTE_TOKENS: Final = 6

_HEADINGS: Final = {
    Kind.CLICK: "Clicked:\n",
    Kind.PURCHASE: "Bought:\n",
    Kind.SEARCH: "Searched for:\n",
}


@dataclass(frozen=True, slots=True)
class ReaderFormat:
    """What decides a prompt's tokens, beside the tokenizer; kept in a bundle's manifest.

    ``lines``: at least so many steps are read where there are as many, and less than twice that;
    ``text_tokens``: of a title or a query; ``attributes``: of ``ATTRIBUTES``, in the order in which
    they follow a title that does not say them.
    """

    lines: int = 12
    text_tokens: int = 12
    attributes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ``ValueError`` for what is no format."""
        for name in ("lines", "text_tokens"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= 256:
                raise ValueError(f"{name} is {value!r}: it can be 1 to 256")
        if unknown := set(self.attributes) - set(ATTRIBUTES):
            known = ", ".join(ATTRIBUTES)
            raise ValueError(f"attributes {sorted(unknown)} are not known; there are {known}")

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> ReaderFormat:
        """The format as ``told`` by a manifest. Raises ``ValueError``."""
        try:
            return cls(**{**told, "attributes": tuple(map(str, told.get("attributes", ())))})
        except TypeError as error:
            raise ValueError(f"no format of a reader's prompt: {error}") from error

    def told(self) -> dict[str, Any]:
        """The same as JSON takes it."""
        return {**asdict(self), "attributes": list(self.attributes)}


@dataclass(frozen=True, slots=True)
class ReaderPrompt:
    """A history in tokens. Empty throughout where it has nothing to read.

    ``ends``: for each step that is read, the position of its last token, where the state is read;
    ``steps``: the same steps as indices of the history.
    """

    tokens: Tokens = ()
    ends: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()


def reader_prompt(history: Sequence[Read], form: ReaderFormat, tokenize: Tokenize) -> ReaderPrompt:
    """The prompt of a history, oldest first; steps without a text are passed over."""
    spoken = [n for n, read in enumerate(history) if _says_something(read)]
    spoken = spoken[_first([history[n].step for n in spoken], form.lines) :]
    if not spoken:
        return ReaderPrompt()
    tokens, ends = list(tokenize(OPENING)), []
    before: Read | None = None
    for n in spoken:
        tokens += reader_line(history[n], before, form, tokenize)
        ends.append(len(tokens) - 1)
        before = history[n]
    return ReaderPrompt(tuple(tokens), tuple(ends), tuple(spoken))


def reader_line(read: Read, before: Read | None, form: ReaderFormat, tokenize: Tokenize) -> Tokens:
    """What a step adds to the prompt, its end included; nothing for one without a text.

    ``before`` is the step read before it. A query that led to a click is a searched line of its
    own, unless the step before said it.
    """
    if not _says_something(read):
        return ()
    step = read.step
    known = None if before is None else before.step.kind
    tokens: Tokens = ()
    query = _clean(step.query)
    if query and (before is None or _clean(before.step.query) != query):
        tokens += _heading(Kind.SEARCH, known, tokenize)
        tokens += tokenize(query)[: form.text_tokens] + tokenize(END)
        known = Kind.SEARCH
    if step.kind is Kind.SEARCH or read.item is None:
        # the same search once more: a line of its own all the same, so that its state can be read
        return tokens or tokenize(query)[: form.text_tokens] + tokenize(END)
    tokens += _heading(step.kind, known, tokenize)
    return tokens + _product(read.item, form, tokenize) + tokenize(END)


def price_band(item: Item) -> str:
    """The price between two of 1, 2, 5, 10, 20, 50 …, e.g. ``20-50 EUR``; empty without a price."""
    price = item.price
    if price is None or not math.isfinite(price) or price <= 0:
        return ""
    decade = 10.0 ** math.floor(math.log10(price))
    marks = [decade * step for step in (0.5, 1, 2, 5, 10, 20)]
    low = max(mark for mark in marks if mark <= price)
    high = marks[marks.index(low) + 1]
    return f"{low:g}-{high:g} {item.currency or ''}".strip()


def _first(steps: Sequence[Step], lines: int) -> int:
    """Where reading begins: the step of the least hash in the window, the newest of equal ones."""
    if len(steps) < 2 * lines:
        return 0
    window = range(len(steps) - 2 * lines + 1, len(steps) - lines + 1)
    return min(window, key=lambda n: (_hash(steps[n]), -n))


def _hash(step: Step) -> bytes:
    content = f"{step.kind}\0{step.ts}\0{step.item_id or ''}\0{step.query or ''}"
    return blake2b(content.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _says_something(read: Read) -> bool:
    if read.step.kind is Kind.SEARCH:
        return bool(_clean(read.step.query))
    return read.item is not None and bool(_clean(read.item.text))


def _heading(kind: Kind, before: Kind | None, tokenize: Tokenize) -> Tokens:
    return () if kind is before else tokenize(_HEADINGS[kind])


def _product(item: Item, form: ReaderFormat, tokenize: Tokenize) -> Tokens:
    """The title, and behind it the attributes that it does not say."""
    title = _clean(item.text)
    tokens = tokenize(title)[: form.text_tokens]
    said = set(title.lower().replace(",", " ").split())
    for name in form.attributes:
        value = _clean(price_band(item) if name == "price_band" else getattr(item, name))
        words = set(value.lower().replace(",", " ").split())
        if words - said:
            tokens += tokenize(f", {value}")[:ATTRIBUTE_TOKENS]
            said |= words
    return tokens


def _clean(text: str | None) -> str:
    """One line that is no heading: headings end in a colon, texts do not."""
    return one_line(text or "").rstrip(": ")
