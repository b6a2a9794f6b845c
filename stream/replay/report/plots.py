"""The plots of a report, as SVG inside the page.

Nothing is told by colour alone: kinds differ by shape, findings by a sign. Each plot has a text
that says what it shows, and its figures stand in a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

from models.evaluation.intervals import Interval
from stream.replay.report.axis import Axis
from stream.replay.result.words import short

_ROW: Final = 42
_TOP: Final = 6
_AXIS: Final = 26
#: Letters of a label and its figures that fit side by side on a phone.
_LETTERS: Final = 44

_SHAPES: Final = {
    "live": '<circle r="5.5"/>',
    "variant": '<path d="M0-7 7 0 0 7-7 0z"/>',
    "baseline": '<circle r="4.75"/>',
    "difference": '<path d="M-5-5H5V5H-5z"/>',
}


@dataclass(frozen=True, slots=True)
class Mark:
    """One row of a ladder: ``words`` are its figures, ``kind`` gives its shape."""

    label: str
    value: Interval
    words: str
    kind: str = "live"


def mark(kind: str) -> Markup:
    """The mark of a kind in a legend."""
    drawn = _shape(kind, "7", 7)
    return Markup(f'<svg width="14" height="14" aria-hidden="true">{drawn}</svg>')


def ladder(
    marks: Sequence[Mark], axis: Axis, label: str, tick: Callable[[float], str], at: float | None
) -> Markup:
    """Rows of a mark with its interval; a broken line runs through ``at``.

    ``label``: what the plot shows, for those who do not see it.
    """
    height = _TOP + _ROW * len(marks) + _AXIS
    parts = [_grid(axis, height - _AXIS, tick)]
    if at is not None and math.isfinite(at):
        x = axis.x(at)
        parts.append(f'<line class="at" x1="{x}" x2="{x}" y1="0" y2="{height - _AXIS}"/>')
    for place, mark in enumerate(marks):
        parts.append(_row(mark, axis, _TOP + _ROW * place))
    return _drawing(label, height, parts)


def percentiles(
    rows: Sequence[tuple[str, str, Sequence[float]]], axis: Axis, label: str,
    tick: Callable[[float], str],
) -> Markup:  # fmt: skip
    """Rows of label, words and three values, the least first: a dot, a bar and a cross-bar."""
    height = _TOP + _ROW * len(rows) + _AXIS
    parts = [_grid(axis, height - _AXIS, tick)]
    for place, (name, words, values) in enumerate(rows):
        y = _TOP + _ROW * place
        low, middle, high = (axis.x(value) for value in values)
        parts.append(
            _label(name, words, y)
            + f'<g class="live"><line class="span" x1="{low}" x2="{high}" y1="{y + 29}" '
            f'y2="{y + 29}"/><line class="stop" x1="{middle}" x2="{middle}" y1="{y + 24}" '
            f'y2="{y + 34}"/><line class="stop" x1="{high}" x2="{high}" y1="{y + 22}" '
            f'y2="{y + 36}"/></g>' + _shape("live", low, y + 29)
        )
    return _drawing(label, height, parts)


def scatter(
    points: Sequence[tuple[str, str, float, float]], across: Axis, up: Axis, label: str,
    ticks: tuple[Callable[[float], str], Callable[[float], str]],
) -> Markup:  # fmt: skip
    """Points of (name, kind, x, y); names are numbers or letters, the key stands beside the plot.

    ``ticks``: how a number on the axis across, and on the one up, is written.
    """
    height = 340
    floor = height - _AXIS
    parts = [_grid(across, floor, ticks[0])]
    for value in up.ticks:
        y = _up(up, value, floor)
        parts.append(f'<line class="grid" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>')
        if value > up.low:
            parts.append(
                f'<text class="tick" x="0" y="{y - 4:.1f}">{_text(ticks[1](value))}</text>'
            )
    places = [(across.share(x) * 320, _up(up, y, floor)) for _name, _kind, x, y in points]
    for (name, kind, x, value), (dx, dy) in zip(points, _names(points, places), strict=True):
        y = _up(up, value, floor)
        parts.append(_shape(kind, across.x(x), y))
        parts.append(
            f'<svg x="{across.x(x)}" y="{y:.1f}" overflow="visible"><text class="name" '
            f'x="{dx:.0f}" y="{dy:.0f}">{_text(name)}</text></svg>'
        )
    return _drawing(label, height, parts)


def timeline(
    whole: tuple[int, int], asked: tuple[int, int], label: str, words: Sequence[str]
) -> Markup:
    """The log's span (epoch ms) with the part that was asked; ``words``: first and last day."""
    axis = Axis(whole[0], max(whole[1], whole[0] + 1), ())
    low, high = (f"{100 * axis.share(ts):.2f}%" for ts in asked)
    parts = [
        '<line class="span log" x1="0" x2="100%" y1="14" y2="14"/>',
        f'<line class="span asked" x1="{low}" x2="{high}" y1="14" y2="14"/>',
        f'<text class="tick" x="0" y="38">{_text(words[0])}</text>',
        f'<text class="tick end" x="100%" y="38">{_text(words[1])}</text>',
    ]
    return _drawing(label, 44, parts)


def _drawing(label: str, height: int, parts: Sequence[str]) -> Markup:
    return Markup(
        f'<svg class="plot" role="img" aria-label="{_text(label)}" width="100%" '
        f'height="{height}">{"".join(parts)}</svg>'
    )


def _grid(axis: Axis, floor: int, tick: Callable[[float], str]) -> str:
    parts = []
    for place, value in enumerate(axis.ticks):
        x = axis.x(value)
        kind = (
            "tick" if 0 < place < len(axis.ticks) - 1 else "tick first" if not place else "tick end"
        )
        parts.append(
            f'<line class="grid" x1="{x}" x2="{x}" y1="0" y2="{floor}"/>'
            f'<text class="{kind}" x="{x}" y="{floor + 18}">{_text(tick(value))}</text>'
        )
    return "".join(parts)


def _row(mark: Mark, axis: Axis, y: int) -> str:
    middle = y + 29
    parts = [_label(mark.label, mark.words, y)]
    value = mark.value
    if not math.isfinite(value.mean):
        return parts[0]
    if math.isfinite(value.low) and math.isfinite(value.high) and value.low < value.high:
        low, high = axis.x(value.low), axis.x(value.high)
        ends = "".join(
            f'<line class="stop" x1="{x}" x2="{x}" y1="{middle - 5}" y2="{middle + 5}"/>'
            for x in (low, high)
        )
        parts.append(
            f'<g class="{mark.kind}"><line class="span" x1="{low}" x2="{high}" y1="{middle}" '
            f'y2="{middle}"/>{ends}</g>'
        )
    parts.append(_shape(mark.kind, axis.x(value.mean), middle))
    return "".join(parts)


def _label(name: str, words: str, y: int) -> str:
    shown = _text(_fitting(name, _LETTERS - len(words)))
    return (
        f'<text class="label" x="0" y="{y + 15}">{shown}</text>'
        f'<text class="figure end" x="100%" y="{y + 15}">{_text(words)}</text>'
    )


def _fitting(name: str, longest: int) -> str:
    """Names often differ at their end: what is cut is the middle."""
    name, head = short(name), longest // 2
    return name if len(name) <= longest else f"{name[:head]}…{name[head + 1 - longest :]}"


def _shape(kind: str, x: str, y: float) -> str:
    return f'<svg x="{x}" y="{y:.1f}" overflow="visible" class="shape {kind}">{_SHAPES[kind]}</svg>'


def _text(value: str) -> str:
    """One line for markup, in content and in quoted attributes."""
    return str(escape(short(value)))


def _up(axis: Axis, value: float, floor: int) -> float:
    return floor - axis.share(value) * (floor - 18)


def _names(
    points: Sequence[tuple[str, str, float, float]], places: Sequence[tuple[float, float]]
) -> list[tuple[float, float]]:
    """Where each point's name stands beside it, so that it covers no other on a phone."""
    taken = [(x - 6.0, y - 6.0, x + 6.0, y + 6.0) for x, y in places]
    chosen = []
    for (name, *_), (x, y) in zip(points, places, strict=True):
        wide = 7.5 * len(name)
        tries = ((9.0, 4.0), (-9 - wide, 4.0), (-wide / 2, -10.0), (-wide / 2, 19.0), (8.0, -8.0),
                 (8.0, 16.0), (-8 - wide, -8.0), (-8 - wide, 16.0), (9.0, 28.0))  # fmt: skip
        boxes = [(x + dx, y + dy - 10, x + dx + wide, y + dy + 1) for dx, dy in tries]
        crossed = [sum(_cross(box, other) for other in taken) for box in boxes]
        best = crossed.index(min(crossed))
        taken.append(boxes[best])
        chosen.append(tries[best])
    return chosen


def _cross(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
