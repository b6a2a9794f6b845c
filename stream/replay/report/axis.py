"""Where a value lies on a plot's axis, and the ticks.

Places are in per cent of a drawing's width, so that a plot fits a phone and a desk without its
letters shrinking: only what is drawn moves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

#: Per cent left free at either end, so that a mark at the edge is whole.
_EDGE: Final = 2.0


@dataclass(frozen=True, slots=True)
class Axis:
    """From ``low`` to ``high``; ``log``: decades are equally long, and ``low`` is above 0."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def share(self, value: float) -> float:
        """0 at ``low`` to 1 at ``high``; what lies outside is drawn at the end."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = (math.log10(max(each, 1e-9)) for each in (value, low, high))
        return min(max((value - low) / (high - low), 0.0), 1.0)

    def x(self, value: float) -> str:
        """The place, as an attribute's value: "41.20%"."""
        return f"{_EDGE + (100 - 2 * _EDGE) * self.share(value):.2f}%"


def linear(low: float, high: float, about: int = 4) -> Axis:
    """Round ticks around the values; an empty range becomes 0 to 1."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        low, high = min(low, 0.0) if math.isfinite(low) else 0.0, 1.0
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(place * step, 12) for place in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks)


def decades(low: float, high: float) -> Axis:
    """Ticks at powers of ten around values above 0; at least one decade."""
    first = math.floor(math.log10(max(low, 1e-3)))
    last = max(math.ceil(math.log10(max(high, 1e-3))), first + 1)
    ticks = tuple(10.0**power for power in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks, log=True)
