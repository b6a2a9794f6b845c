"""Made-up fashion titles: what encoders are compared on before any shop's titles are known."""

from __future__ import annotations

import random

_BRANDS = ("Aldgate", "Brisa", "Corvo & Daughters", "Dunefield", "Everly", "Fjordsen", "Hana K.")
_FITS = (
    "slim fit",
    "relaxed",
    "cropped",
    "oversized",
    "high-waisted",
    "petite",
    "tailored",
    "A-line",
)
_COLOURS = ("black", "off-white", "dusty rose", "navy blue", "sage green", "rust", "light denim")
_CLOTHS = ("linen", "organic cotton", "ribbed jersey", "wool blend", "satin", "denim", "leather")
_PIECES = (
    "midi dress", "trousers", "cardigan", "blouse", "trench coat", "ankle boots", "T-shirt",
    "bikini top", "pleated skirt", "hoodie", "tote bag", "belt", "jumpsuit", "polo shirt",
    "3-pack socks", "sports bra", "sneakers", "padded jacket", "silk scarf", "swim shorts",
)  # fmt: skip
_EXTRAS = ("", "with pockets", "V-neck", "for women", "men's", "girls 4-8 y", "size 38", "(2 pcs)")


def titles(count: int, seed: int = 7) -> list[str]:
    """``count`` different titles of about ten tokens, shorter and longer ones among them."""
    chosen = random.Random(seed)
    made: dict[str, None] = {}
    while len(made) < count:
        parts = [
            chosen.choice(_BRANDS) if chosen.random() < 0.6 else "",
            chosen.choice(_FITS) if chosen.random() < 0.5 else "",
            chosen.choice(_COLOURS) if chosen.random() < 0.7 else "",
            chosen.choice(_CLOTHS) if chosen.random() < 0.6 else "",
            chosen.choice(_PIECES),
            chosen.choice(_EXTRAS),
        ]
        made[" ".join(part for part in parts if part)] = None
    return list(made)
