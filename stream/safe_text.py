"""Outside words made harmless: titles, ids and queries on a terminal, in a log or on a page."""

from __future__ import annotations

import unicodedata
from typing import Final

#: Categories of characters that say something to a terminal and nothing to a reader; the joiners
#: that some scripts are written with are kept.
_MUTE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_JOINERS: Final = frozenset("\u200c\u200d")


def clean(text: str) -> str:
    """The text on one line without control and direction characters, so that it shows as it is."""
    spaced = " ".join(text.split())
    if spaced.isascii() and spaced.isprintable():
        return spaced
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in _MUTE and c not in _JOINERS else c
        for c in spaced
    )
