"""What an importer says of a public log: its files, and what a row of each is.

An importer reads the shape that the publisher documents and adds nothing to it: a product has a
``ts`` only where the source tells when it was published, which none of these does.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from stream.contracts.declaration import PRODUCT
from stream.contracts.fields import Json, Text
from stream.files.row_file import Shape

_LIMITS: Final = {field.name: field.kind.high for field in PRODUCT if isinstance(field.kind, Text)}


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a log that hold one thing: ``pattern`` (a regular expression) is their names.

    ``example`` is a name to show; ``several``: there may be more than one.
    """

    pattern: str
    example: str
    shape: Shape
    several: bool = False


class Source(ABC):
    """A public log. One object reads it once, from the first row to the last.

    ``event`` and ``item`` raise ``ValueError`` in words where a row is not what was published.
    ``catalogue`` is None where the products are known from the events alone.
    """

    words: ClassVar[str]
    home: ClassVar[str]
    notes: ClassVar[tuple[str, ...]]
    events: ClassVar[Files]
    catalogue: ClassVar[Files | None]

    @abstractmethod
    def event(self, row: Json) -> Json:
        """``{"type", "user_id", "item_id", "ts"}`` of a row of the events, not checked yet."""

    @abstractmethod
    def item(self, row: Json) -> Json | None:
        """The product that a row of the catalogue tells, None where it tells no new one.

        Where there is no catalogue the rows are the events'.
        """

    def rest(self) -> Iterator[Json]:
        """Products that are known only when every row was read."""
        return iter(())


def text(name: str, value: object) -> str | None:
    """A product's optional text, without space around it, cut to the contract's length.

    None where it is empty or no text.
    """
    if not isinstance(value, str):
        return None
    short = value.strip()
    high = _LIMITS[name]
    if len(short) * 4 > high or not short.isascii():
        # What is no Unicode (a lone surrogate of a literal) goes, and no character is cut in two.
        short = short.encode("utf-8", "ignore")[:high].decode("utf-8", "ignore")
    return short or None


def price(value: object) -> float | None:
    """A price, None where there is none or it is no amount."""
    try:
        amount = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        return None
    return amount if math.isfinite(amount) and amount >= 0 else None


def path(parts: object) -> str | None:
    """A list of categories, widest first, as ``Ladieswear > Dresses``."""
    if not isinstance(parts, list | tuple):
        return None
    named = [part.strip() for part in parts if isinstance(part, str) and part.strip()]
    return text("category", " > ".join(named))


def kind(kinds: dict[str, str], told: Any) -> str:
    """Weft's type for the source's own. Raises ``ValueError``."""
    found = kinds.get(told) if isinstance(told, str) else None
    if found is None:
        raise ValueError(f"the event must be one of {', '.join(kinds)}")
    return found


def present(row: Json) -> Json:
    """The row without what is None."""
    return {name: value for name, value in row.items() if value is not None}
