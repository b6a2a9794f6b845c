"""The vocabulary of the sample shop: every brand, name and shopper in it is invented.

``TRAINED`` words the products that the training log knows; ``stream.demo.sample.held_out`` those
that enter after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Category:
    """One shelf. ``group`` says which details fit, ``goes_with`` what is bought next."""

    path: str
    group: str
    nouns: tuple[str, ...]
    materials: tuple[str, ...]
    cuts: tuple[str, ...]
    price: float
    goes_with: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Brand:
    """A house: its styles, its level of price, and the family of templates that it titles with."""

    name: str
    styles: tuple[str, ...]
    level: float
    family: str


@dataclass(frozen=True, slots=True)
class Wording:
    """What one part of the catalogue is worded with.

    ``families`` are the templates that houses title with, ``nouns`` what is on each shelf;
    ``palettes`` are colours that are liked together, those of two wordings in one order.
    """

    families: Mapping[str, tuple[str, ...]]
    brands: tuple[Brand, ...]
    names: tuple[str, ...]
    nouns: Mapping[str, tuple[str, ...]]
    palettes: tuple[tuple[str, ...], ...]


CATEGORIES: Final[dict[str, Category]] = {
    "dress": Category(
        "Clothing > Dresses", "top",
        ("dress", "wrap dress", "shirt dress", "slip dress"),
        ("linen", "cotton", "viscose", "silk", "satin", "crêpe"), ("mini", "midi", "maxi"),
        70, ("sandals", "heels", "bag", "cardigan", "jewellery"),
    ),
    "jumpsuit": Category(
        "Clothing > Jumpsuits", "top", ("jumpsuit", "playsuit"),
        ("linen", "cotton", "viscose", "denim"), ("wide-leg", "cropped", "belted"),
        80, ("sandals", "belt", "bag"),
    ),
    "blouse": Category(
        "Clothing > Blouses", "top", ("blouse", "tunic", "top"),
        ("silk", "viscose", "cotton voile", "satin"), ("short-sleeve", "long-sleeve", "sleeveless"),
        45, ("trousers", "skirt", "jewellery"),
    ),
    "shirt": Category(
        "Clothing > Shirts", "top", ("shirt", "Oxford shirt", "overshirt"),
        ("cotton", "linen", "flannel", "poplin"), ("slim", "relaxed", "oversized"),
        45, ("trousers", "jeans", "blazer"),
    ),
    "tee": Category(
        "Clothing > T-shirts", "top", ("T-shirt", "tank top", "polo shirt"),
        ("cotton", "organic cotton", "jersey", "merino"), ("slim", "boxy", "cropped"),
        22, ("jeans", "shorts", "sneakers", "hoodie"),
    ),
    "hoodie": Category(
        "Clothing > Sweatshirts", "top", ("hoodie", "sweatshirt"),
        ("cotton fleece", "French terry", "recycled cotton"), ("boxy", "regular", "cropped"),
        50, ("joggers", "sneakers", "hat"),
    ),
    "sweater": Category(
        "Clothing > Knitwear", "top", ("sweater", "jumper", "roll-neck", "knitted vest"),
        ("merino", "lambswool", "cashmere", "alpaca", "cotton knit"), ("slim", "chunky", "fine"),
        65, ("trousers", "skirt", "scarf", "boots"),
    ),
    "cardigan": Category(
        "Clothing > Cardigans", "top", ("cardigan", "knitted jacket"),
        ("merino", "mohair", "alpaca", "cotton knit"), ("long", "cropped", "chunky"),
        60, ("dress", "jeans", "tee"),
    ),
    "trousers": Category(
        "Clothing > Trousers", "bottom", ("trousers", "chinos", "culottes"),
        ("wool", "linen", "cotton twill", "corduroy"), ("wide-leg", "straight", "tapered"),
        60, ("shirt", "blouse", "belt", "loafers"),
    ),
    "jeans": Category(
        "Clothing > Jeans", "bottom", ("jeans",),
        ("rigid denim", "stretch denim", "organic denim"),
        ("skinny", "straight", "wide-leg", "bootcut", "mom-fit"), 65, ("tee", "sneakers", "belt"),
    ),
    "joggers": Category(
        "Clothing > Activewear", "bottom", ("joggers", "leggings", "track pants"),
        ("jersey", "French terry", "recycled nylon"), ("tapered", "high-waist", "cropped"),
        40, ("hoodie", "sneakers", "tee"),
    ),
    "skirt": Category(
        "Clothing > Skirts", "bottom", ("skirt", "wrap skirt", "pencil skirt"),
        ("denim", "linen", "satin", "wool", "suede"), ("mini", "midi", "maxi"),
        48, ("blouse", "sweater", "boots", "heels"),
    ),
    "shorts": Category(
        "Clothing > Shorts", "bottom", ("shorts", "Bermuda shorts"),
        ("linen", "denim", "cotton twill"), ("high-waist", "relaxed", "tailored"),
        35, ("tee", "sandals", "hat"),
    ),
    "blazer": Category(
        "Clothing > Blazers", "top", ("blazer", "waistcoat", "suit jacket"),
        ("wool", "linen", "crêpe", "velvet"), ("slim", "relaxed", "cropped"),
        120, ("trousers", "shirt", "loafers"),
    ),
    "coat": Category(
        "Clothing > Coats", "top", ("coat", "trench coat", "duffle coat", "wrap coat"),
        ("wool", "cashmere blend", "cotton gabardine", "bouclé"), ("long", "mid-length", "cocoon"),
        180, ("scarf", "boots", "hat"),
    ),
    "jacket": Category(
        "Clothing > Jackets", "top", ("jacket", "bomber jacket", "puffer jacket", "biker jacket"),
        ("leather", "denim", "nylon", "waxed cotton"), ("cropped", "boxy", "fitted"),
        130, ("jeans", "tee", "boots"),
    ),
    "boots": Category(
        "Shoes > Boots", "shoe", ("ankle boots", "Chelsea boots", "knee-high boots"),
        ("leather", "suede", "vegan leather"), ("flat", "block-heel", "chunky-sole"),
        140, ("jeans", "coat", "skirt"),
    ),
    "sneakers": Category(
        "Shoes > Sneakers", "shoe", ("sneakers", "trainers", "slip-ons"),
        ("canvas", "leather", "mesh", "suede"), ("low-top", "high-top", "platform"),
        85, ("jeans", "joggers", "tee"),
    ),
    "sandals": Category(
        "Shoes > Sandals", "shoe", ("sandals", "mules", "espadrilles"),
        ("leather", "raffia", "suede", "jute"), ("flat", "platform", "wedge"),
        60, ("dress", "shorts", "bag"),
    ),
    "heels": Category(
        "Shoes > Heels", "shoe", ("pumps", "slingbacks", "heeled sandals"),
        ("leather", "satin", "suede", "patent leather"), ("kitten-heel", "block-heel", "stiletto"),
        95, ("dress", "bag", "jewellery"),
    ),
    "loafers": Category(
        "Shoes > Loafers", "shoe", ("loafers", "brogues", "ballet flats"),
        ("leather", "suede", "patent leather"), ("flat", "chunky-sole", "penny"),
        95, ("trousers", "blazer", "socks"),
    ),
    "bag": Category(
        "Accessories > Bags", "accessory", ("tote bag", "shoulder bag", "crossbody bag", "clutch"),
        ("leather", "canvas", "raffia", "suede"), ("small", "medium", "large"),
        90, ("scarf", "jewellery", "belt"),
    ),
    "belt": Category(
        "Accessories > Belts", "accessory", ("belt",),
        ("leather", "suede", "vegan leather"), ("slim", "wide", "reversible"),
        30, ("trousers", "jeans"),
    ),
    "scarf": Category(
        "Accessories > Scarves", "accessory", ("scarf", "shawl", "bandana"),
        ("silk", "merino", "cashmere", "cotton"), ("square", "long", "oversized"),
        35, ("coat", "hat", "sweater"),
    ),
    "hat": Category(
        "Accessories > Hats", "accessory", ("beanie", "bucket hat", "cap", "sun hat"),
        ("wool", "cotton", "straw", "corduroy"), ("soft", "wide-brim", "fitted"),
        25, ("scarf", "coat", "shorts"),
    ),
    "jewellery": Category(
        "Accessories > Jewellery", "accessory", ("earrings", "necklace", "bracelet", "ring"),
        ("silver", "brass", "gold-plated", "freshwater pearl"), ("fine", "bold", "layered"),
        28, ("dress", "blouse", "bag"),
    ),
    "socks": Category(
        "Clothing > Socks", "accessory", ("socks", "tights"),
        ("merino", "cotton", "bamboo"), ("ankle", "crew", "knee-high"),
        9, ("sneakers", "loafers"),
    ),
}  # fmt: skip

#: What makes a style, by what it is put on.
DETAILS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "minimal": {
        "top": ("clean-cut", "seamless", "collarless", "concealed-button"),
        "bottom": ("flat-front", "clean-cut", "side-zip"),
        "shoe": ("plain", "sleek", "square-toe"),
        "accessory": ("plain", "structured", "unlined"),
    },
    "classic": {
        "top": ("tailored", "double-breasted", "button-down", "pinstriped"),
        "bottom": ("pleated", "tailored", "pinstriped"),
        "shoe": ("polished", "hand-stitched", "almond-toe"),
        "accessory": ("monogrammed", "checked", "polished"),
    },
    "boho": {
        "top": ("embroidered", "tiered", "crochet", "paisley"),
        "bottom": ("tiered", "embroidered", "drawstring"),
        "shoe": ("woven", "fringed", "braided"),
        "accessory": ("fringed", "beaded", "woven"),
    },
    "street": {
        "top": ("graphic", "colour-block", "logo-print", "distressed"),
        "bottom": ("cargo", "ripped", "utility"),
        "shoe": ("chunky", "colour-block", "lace-up"),
        "accessory": ("utility", "logo-print", "studded"),
    },
    "romantic": {
        "top": ("floral", "ruffled", "puff-sleeve", "lace-trimmed"),
        "bottom": ("floral", "ruffled", "bow-tie"),
        "shoe": ("bow-front", "ankle-strap", "scalloped"),
        "accessory": ("floral", "heart-shaped", "bow"),
    },
    "sporty": {
        "top": ("ribbed", "half-zip", "striped", "quick-dry"),
        "bottom": ("side-stripe", "ribbed", "quick-dry"),
        "shoe": ("cushioned", "lightweight", "trail"),
        "accessory": ("reflective", "lightweight", "striped"),
    },
    "evening": {
        "top": ("sequinned", "draped", "one-shoulder", "open-back"),
        "bottom": ("sequinned", "draped", "slit"),
        "shoe": ("metallic", "crystal", "pointed-toe"),
        "accessory": ("crystal", "metallic", "pearl-set"),
    },
}

OCCASIONS: Final[dict[str, tuple[str, ...]]] = {
    "minimal": ("every day", "the office"),
    "classic": ("the office", "interviews"),
    "boho": ("festivals", "the beach"),
    "street": ("the city", "concerts"),
    "romantic": ("garden parties", "date night"),
    "sporty": ("weekends", "training"),
    "evening": ("weddings", "parties"),
}

_PALETTES: Final[tuple[tuple[str, ...], ...]] = (
    ("black", "white", "charcoal", "grey"),
    ("sand", "camel", "ivory", "chocolate"),
    ("navy", "light blue", "white", "burgundy"),
    ("olive", "rust", "mustard", "cream"),
    ("blush pink", "lilac", "mint", "ivory"),
    ("red", "cobalt blue", "emerald", "fuchsia"),
)

_FAMILIES: Final[dict[str, tuple[str, ...]]] = {
    "plain": (
        "{Material} {cut} {noun}, {colour}",
        "{Detail} {material} {noun}, {colour}",
        "{Cut} {noun}, {detail}, {colour}",
    ),
    "house": (
        "{brand} {colour} {cut} {noun} in {material}",
        "{brand} {detail} {noun} in {colour} {material}",
        "{brand} {cut} {noun} for {occasion}, {colour}",
    ),
    "named": (
        "{name} {noun} – {detail} {material}, {colour}",
        "{name} {cut} {noun} – {colour}",
        "{name} – {detail} {cut} {noun} in {material}",
    ),
    "piped": (
        "{Noun} | {cut} | {material} | {colour}",
        "{Noun} | {detail} | {colour} {material}",
        "{Colour} | {cut} {noun} | {detail}",
    ),
}

_BRANDS: Final[tuple[Brand, ...]] = (
    Brand("Aldry & Fenn", ("classic", "minimal"), 1.3, "plain"),
    Brand("Nordlund Row", ("minimal",), 1.1, "plain"),
    Brand("Pellamo", ("romantic", "boho"), 0.8, "plain"),
    Brand("Quay Seventeen", ("street", "sporty"), 0.7, "plain"),
    Brand("Tindrella", ("romantic", "evening"), 1.0, "house"),
    Brand("Okkerhaus", ("minimal", "classic"), 1.6, "house"),
    Brand("Basalt Club", ("street",), 0.9, "house"),
    Brand("Marrowick", ("classic",), 1.2, "house"),
    Brand("Saltgrove", ("boho",), 0.9, "named"),
    Brand("Vesper Ine", ("evening",), 1.7, "named"),
    Brand("Lumaro", ("minimal", "sporty"), 0.8, "named"),
    Brand("Petalier", ("romantic",), 1.1, "named"),
    Brand("Runnel", ("sporty",), 1.0, "piped"),
    Brand("Brickyard 9", ("street", "sporty"), 0.6, "piped"),
    Brand("Cassonde", ("classic", "evening"), 1.4, "piped"),
    Brand("Wildehem", ("boho", "romantic"), 0.7, "piped"),
)

_NAMES = "Alba Bina Calla Delphi Edda Fiora Gilda Hedra Inka Juno Kaia Lotte Mirel Nives Odile Pia"
_SHOPPERS = (
    "nora amir lena tomas ines kofi mila jonas zara pavel freya diego hana oskar leila mateo "
    "ada yusuf clara bruno sana emil rosa viktor nina samir eva luca maya anton greta ravi "
    "iris hugo tara felix alma idris elsa marco vera omar lucia sven dina nico yuna karl "
    "asha paul wren theo mina jakob livia said edith bela noor otto"
)
#: The wording of everything that the training log knows.
TRAINED: Final = Wording(
    _FAMILIES,
    _BRANDS,
    tuple(_NAMES.split()),
    {shelf: category.nouns for shelf, category in CATEGORIES.items()},
    _PALETTES,
)
#: The shoppers' given names.
SHOPPERS: Final = tuple(_SHOPPERS.split())
