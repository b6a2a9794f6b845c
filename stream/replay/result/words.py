"""Words, numbers and times of a report, and how outside words are made harmless.

Titles come from outside catalogues: markup in them is text, and marks that turn the direction of
writing or move a terminal's cursor are shown as what they are, a character that says nothing.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from markupsafe import Markup, escape

from models.evaluation.intervals import Interval
from stream.replay.result.result import Protocol
from stream.safe_text import clean

NOTHING: Final = "–"
_DAY: Final = re.compile(r"\b\d{4}-\d\d-\d\d\b")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Unit:
    """How a metric is written: times ``scale``, with ``decimals``; ``words`` say what it is."""

    scale: float
    decimals: int
    words: str


_OF_100: Final = 100.0
#: By the part of a metric's name before its "@", in lower case.
_UNITS: Final = {
    "hr": Unit(_OF_100, 1, "of 100 questions, those with a next item in the first k"),
    "recall": Unit(_OF_100, 1, "of 100 next items, those in the first k"),
    "ndcg": Unit(1, 4, "0 to 1: a hit counts more, the higher it stands"),
    "mrr": Unit(1, 4, "0 to 1: one over the place of the first hit"),
    "map": Unit(1, 4, "0 to 1: precision at each hit, averaged"),
    "coverage": Unit(_OF_100, 1, "of 100 items, those that anyone was shown"),
    "cold": Unit(_OF_100, 1, "of 100 items never seen in training, those found"),
    "head": Unit(_OF_100, 1, "of 100 places, those given to the most popular items"),
    "repeat": Unit(_OF_100, 1, "of 100 places, those given to items the shopper had already"),
    "novelty": Unit(1, 2, "bits: how rarely the shown items are met"),
    "diversity": Unit(1, 3, "0 to 1: how unlike the items of one list are"),
    "gini": Unit(1, 3, "0: all items shown alike; 1: always the same one"),
}
_OTHER: Final = Unit(1, 4, "")


def short(value: str, longest: int = 0) -> str:
    """One clean line, not escaped; cut to ``longest`` characters (0: whole)."""
    words = clean(value)
    return words if not longest or len(words) <= longest else words[: longest - 1] + "…"


def lines(value: str) -> Markup:
    """Several lines for a ``pre``: each is clean and escaped, and its indent is kept."""
    told = []
    for line in value.splitlines():
        indent = len(line) - len(line.lstrip(" "))
        told.append(" " * indent + escape(clean(line)))
    return Markup("\n").join(told)


def whole_days(value: str) -> Markup:
    """The text, escaped, in which no date is broken at a hyphen."""
    return Markup(_DAY.sub(r'<span class="whole">\g<0></span>', str(escape(clean(value)))))


def unit(metric: str) -> Unit:
    """How the metric of that name is written; an unknown one with four decimals."""
    stem = metric.partition("@")[0].lower()
    first = stem.replace("-", " ").replace("_", " ").split(" ")[0]
    return _UNITS.get(stem) or _UNITS.get(first) or _OTHER


def number(value: float, decimals: int, *, signed: bool = False) -> str:
    """A number with a true minus; "–" where there is none."""
    if not math.isfinite(value):
        return NOTHING
    rounded = f"{value:{'+' if signed else ''},.{decimals}f}"
    if not any(digit in "123456789" for digit in rounded):
        rounded = rounded.lstrip("+-")
    return rounded.replace("-", "\N{MINUS SIGN}")


def measured(value: Interval, of: Unit, *, signed: bool = False) -> tuple[str, str]:
    """A mean and its bounds, "9.0" and "[8.6, 9.4]"; no bounds where one number is all there is.

    A bound that is not 0 never shows as 0: then there are more decimals.
    """
    low, mean, high = (bound * of.scale for bound in (value.low, value.mean, value.high))
    decimals = of.decimals
    if signed:
        while decimals < of.decimals + 3 and any(
            bound and not round(bound, decimals) for bound in (low, high)
        ):
            decimals += 1
    said = number(mean, decimals, signed=signed)
    if value.low == value.high == value.mean or not (math.isfinite(low) and math.isfinite(high)):
        return said, ""
    return said, f"[{number(low, decimals)}, {number(high, decimals)}]"


def interval(value: Interval, of: Unit, *, signed: bool = False) -> str:
    """The same in one string: "+0.5 [0.2, 0.8]"."""
    return " ".join(part for part in measured(value, of, signed=signed) if part)


def moment(ts: int) -> str:
    """Epoch ms as a date, with the minute where it is not midnight; the number if it is no date."""
    try:
        when = _EPOCH + timedelta(milliseconds=ts)
    except OverflowError:
        return str(ts)
    return f"{when:%Y-%m-%d}" if when.hour == when.minute == 0 else f"{when:%Y-%m-%d %H:%M}"


def span(asked: Protocol) -> str:
    """When questions are asked."""
    return f"{moment(asked.asked_from)} until {moment(asked.asked_until)}"


def made_at(told: str) -> str:
    """An ISO 8601 time to the minute, in UTC; as it is, if it is no time."""
    try:
        return f"{datetime.fromisoformat(told).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError):
        return told


def seconds(value: float) -> str:
    """A length of time as people say it: "42 s", "3 min 5 s", "2 h 10 min"."""
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def milliseconds(value: float) -> str:
    """A latency: "0.4 ms", "34 ms", "1,200 ms"."""
    return f"{number(value, 1 if abs(value) < 10 else 0)} ms"


def counted(count: int, one: str, many: str = "") -> str:
    """A number with its noun: "1 question", "1,200 questions"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def listed(names: list[str], most: int = 5) -> str:
    """Names in a sentence: "a, b and c"; of many, the first ``most``."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
