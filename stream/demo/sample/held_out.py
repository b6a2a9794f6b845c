"""The wording of the products that enter after the training log: a model has to read them anew.

No template, house or model's name is shared with ``sample_words.TRAINED``, and half of the nouns
and a third of the colours are new too. Materials, cuts, details and occasions are the shop's own:
they are what tastes are about, so a model that has learnt what they mean finds the new products.
"""

from __future__ import annotations

from typing import Final

from stream.demo.sample.words import CATEGORIES, TRAINED, Brand, Wording

_FAMILIES: Final[dict[str, tuple[str, ...]]] = {
    "worded": (
        "The {name}: {cut} {noun} made of {material} ({colour})",
        "The {name}: {detail} {noun} for {occasion} ({colour})",
        "The {name}: {detail} {cut} {noun} ({colour} {material})",
    ),
    "colour": (
        "{Colour} {noun}: {cut}, {material}",
        "{Colour} {detail} {cut} {noun}",
        "{Colour} {noun}: {detail}, {occasion}",
    ),
}

_BRANDS: Final[tuple[Brand, ...]] = (
    Brand("Ferrin Atelier", ("evening", "romantic"), 1.9, "worded"),
    Brand("Plainsong", ("minimal",), 0.9, "worded"),
    Brand("Harrowgate Mill", ("classic",), 1.5, "worded"),
    Brand("Dunegrass", ("boho", "minimal"), 1.0, "worded"),
    Brand("Kitebird", ("sporty", "street"), 0.8, "colour"),
    Brand("Orsolane", ("romantic", "classic"), 1.0, "colour"),
    Brand("Nightjar Lane", ("evening", "street"), 1.1, "colour"),
    Brand("Fieldnote", ("minimal", "boho"), 0.7, "colour"),
)

_NAMES: Final = "Quilla Rhea Sunna Tova Umbra Vela Wanda Xenia Yara Zelie Arlo Bram Cosmo Dario"

#: Other words for what is on a shelf; as many products have one as an old one.
_NOUNS: Final[dict[str, tuple[str, ...]]] = {
    "dress": ("sundress", "shift dress"),
    "jumpsuit": ("romper",),
    "blouse": ("camisole", "peplum top"),
    "shirt": ("shacket", "Henley"),
    "tee": ("tee", "vest top"),
    "hoodie": ("pullover", "zip-up"),
    "sweater": ("turtleneck", "crew-neck knit"),
    "cardigan": ("bolero",),
    "trousers": ("slacks", "palazzos"),
    "jeans": ("denims",),
    "joggers": ("sweatpants", "yoga tights"),
    "skirt": ("kilt", "skort"),
    "shorts": ("hot pants", "city shorts"),
    "blazer": ("sport coat", "tuxedo jacket"),
    "coat": ("parka", "overcoat"),
    "jacket": ("windbreaker", "gilet"),
    "boots": ("booties", "desert boots"),
    "sneakers": ("plimsolls", "runners"),
    "sandals": ("sliders", "flip-flops"),
    "heels": ("court shoes", "peep-toes"),
    "loafers": ("moccasins", "Derby shoes"),
    "bag": ("backpack", "satchel"),
    "belt": ("waist belt",),
    "scarf": ("stole", "snood"),
    "hat": ("beret", "fedora"),
    "jewellery": ("pendant", "bangle"),
    "socks": ("stockings", "leg warmers"),
}

#: One more colour of each palette.
_COLOURS: Final = ("graphite", "taupe", "indigo", "terracotta", "peach", "turquoise")

#: The wording of what only held-out events know.
HELD_OUT: Final = Wording(
    _FAMILIES,
    _BRANDS,
    tuple(_NAMES.split()),
    {
        shelf: (*_NOUNS[shelf], *category.nouns[: len(_NOUNS[shelf])])
        for shelf, category in CATEGORIES.items()
    },
    tuple((new, *palette[:2]) for new, palette in zip(_COLOURS, TRAINED.palettes, strict=True)),
)
