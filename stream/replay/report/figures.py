"""What the plots of a report show: which contenders, on which axes, and the same in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from markupsafe import Markup

from models.evaluation.intervals import Interval
from stream.replay.report.axis import decades, linear
from stream.replay.report.plots import Mark, ladder, percentiles, scatter
from stream.replay.report.plots import timeline as drawn
from stream.replay.result.result import Contender, Result
from stream.replay.result.verdict import HITS, PLACES, Finding, finding, ranked
from stream.replay.result.words import (
    counted,
    interval,
    milliseconds,
    moment,
    number,
    short,
    span,
    unit,
)

SIGNS: Final = {Finding.BETTER: "▲", Finding.WORSE: "▼", Finding.OPEN: "≈"}
_KINDS: Final = ("live", "variant", "baseline")
_PROTOCOLS: Final = {
    "prequential": "Prequential: every question is asked before it is learnt from",
    "time": "Global time split: learn before, ask after",
    "last": "Leave-one-out: each shopper’s last events",
}
_TITLES: Final = {
    HITS: ("Hits in the first ten (HR@10)", "of 100 questions, with 95 % intervals"),
    PLACES: ("Hits, the higher the better (NDCG@10)", "0 to 1, with 95 % intervals"),
}
#: On a plot; a table has more.
_DECIMALS: Final = {HITS: 1, PLACES: 3}
#: Contenders in a slice's plot, and slices that have one each; tables have all.
_PLOTTED: Final = 7
_PANELS: Final = 4
#: Slices across a table: the rest is in result.json.
_ACROSS: Final = 24
_CUTS: Final = {
    "item's age": ("By the item’s age", "Cold items have no event in training, young ones few."),
    "shopper's events": (
        "By the shopper’s events", "How many events the shopper had before the question."),
    "category": ("By category", ""),
    "query": ("With and without a search", ""),
}  # fmt: skip
_PERCENTILES: Final = ("p50", "p95", "p99")


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot under a heading, with a hint at how to read it."""

    heading: str
    hint: str
    plot: Markup


@dataclass(frozen=True, slots=True)
class Cut:
    """Slices of one kind: ``across`` a table those that it has, ``left`` how many it has not.

    ``sizes`` are questions by slice. ``panels``: one a slice, of the ``plotted`` contenders; none
    where there are many.
    """

    of: str
    heading: str
    hint: str
    sizes: dict[str, int]
    across: list[str]
    plotted: list[Contender]
    panels: list[Figure]

    @property
    def left(self) -> int:
        """Slices that the table lacks."""
        return len(self.sizes) - len(self.across)

    def cells(self, contender: Contender, metric: str) -> list[tuple[Interval | None, str]]:
        """A row of the table."""
        held = _by_slice(contender, self.of, metric)
        return [(held.get(name), metric) for name in self.across]


@dataclass(frozen=True, slots=True)
class Reach:
    """Coverage against hits: numbered points, and what each number means."""

    figure: Figure
    contenders: list[Contender]
    key: list[tuple[str, str]]


def kind(contender: Contender) -> str:
    """Its kind, one of three: the shape of its marks."""
    return contender.kind if contender.kind in _KINDS else "variant"


def kinds(contenders: Iterable[Contender]) -> list[str]:
    """Those that there are, for a legend."""
    there = {kind(each) for each in contenders}
    return [each for each in _KINDS if each in there]


def _ticks(metric: str) -> Callable[[float], str]:
    """How a number on the axis of that metric is written: no more digits than it has."""
    scale = unit(metric).scale
    return lambda value: f"{value * scale:g}".replace("-", "\N{MINUS SIGN}")


def _said(words: str, told: Iterable[str]) -> str:
    """A plot's figures, for those who do not see it."""
    return f"{words}: {'; '.join(told)}"


def _marks(heading: str, words: str, hint: str, metric: str, marks: Sequence[Mark],
           values: Iterable[Interval], at: float | None = None) -> Figure:  # fmt: skip
    """A ladder whose axis holds 0 and all ``values``."""
    bounds = [0.0, *(bound for each in values for bound in (each.low, each.high))]
    label = _said(words, (f"{mark.label} {mark.words}" for mark in marks))
    plot = ladder(marks, linear(min(bounds), max(bounds)), label, _ticks(metric), at)
    return Figure(heading, hint, plot)


def timeline(result: Result) -> Figure:
    """The log, and the part of it that is asked."""
    asked, data = result.protocol, result.data
    first, last = moment(data.first_ts), moment(data.last_ts)
    label = f"The log runs from {first} to {last}; questions are asked from {span(asked)}."
    plot = drawn(
        (data.first_ts, data.last_ts), (asked.asked_from, asked.asked_until), label,
        (first[:10], last[:10]),
    )  # fmt: skip
    hint = "The log, and in the stronger colour the part that is asked"
    return Figure(_PROTOCOLS.get(asked.name, asked.name), hint, plot)


def headline(result: Result, metric: str) -> Figure | None:
    """Every contender by one metric, the best first; None where none was measured."""
    shown = [each for each in ranked(result) if metric in each.metrics]
    if not shown:
        return None
    heading, hint = _TITLES[metric]
    of = replace(unit(metric), decimals=_DECIMALS[metric])
    values = [each.metrics[metric] for each in shown]
    marks = [
        Mark(_signed(each, metric, result.reference), value, interval(value, of), kind(each))
        for each, value in zip(shown, values, strict=True)
    ]
    at = next((c.metrics[metric].mean for c in shown if c.name == result.reference), None)
    return _marks(heading, f"{heading}, {hint}", hint, metric, marks, values, at)


def difference(metric: str, value: Interval) -> Figure:
    """B less A with its interval, and 0."""
    heading = f"{metric}, B less A"
    hint = f"{'of 100 questions; ' if metric == HITS else ''}right of 0 B is better"
    mark = Mark("B less A", value, interval(value, unit(metric), signed=True), "difference")
    return _marks(heading, f"{heading}, {hint}", hint, metric, [mark], [value], 0.0)


def _signed(contender: Contender, metric: str, reference: str) -> str:
    """The name, with the sign of what was found, or of the reference."""
    if contender.name == reference:
        return f"┊ {contender.name}"
    gain = contender.gains.get(metric)
    return f"{SIGNS[finding(gain)]} {contender.name}" if gain else contender.name


def cuts(result: Result) -> list[Cut]:
    """One for each thing that questions are cut by, in the result's order."""
    every = dict.fromkeys(each.of for c in result.contenders for each in c.slices)
    return [_cut(result, of) for of in every]


def _cut(result: Result, of: str) -> Cut:
    sizes = {s.name: s.questions for c in result.contenders for s in c.slices if s.of == of}
    across = list(sizes)
    if len(across) > _ACROSS:
        across = sorted(across, key=lambda name: -sizes[name])[:_ACROSS]
    plotted = _plotted(result)
    held = [(each, _by_slice(each, of, HITS)) for each in plotted]
    values = [value for _, found in held for value in found.values()]
    panels = []
    for name, count in sizes.items() if values and len(sizes) <= _PANELS else ():
        marks = [
            Mark(each.name, value, interval(value, unit(HITS)), kind(each))
            for each, found in held
            if (value := found.get(name)) is not None
        ]
        hint = f"HR@10 of {counted(count, 'question')}"
        panels.append(_marks(short(name, 40), f"HR@10 of {name}", hint, HITS, marks, values))
    heading, hint = _CUTS.get(of, (f"By {of}", ""))
    return Cut(of, heading, hint, sizes, across, plotted, panels)


def _by_slice(contender: Contender, of: str, metric: str) -> dict[str, Interval]:
    return {
        s.name: s.metrics[metric] for s in contender.slices if s.of == of and metric in s.metrics
    }


def _plotted(result: Result) -> list[Contender]:
    """Live ones and variants, the reference, then the best baselines; in the ladder's order."""
    order = ranked(result)
    first = sorted(order, key=lambda c: (c.name != result.reference, c.kind == "baseline"))
    chosen = {each.name for each in first[:_PLOTTED]}
    return [each for each in order if each.name in chosen]


def reach(result: Result) -> Reach | None:
    """None where no coverage was measured."""
    names = [n for c in result.contenders for n in c.metrics if n.lower().startswith("coverage")]
    metric = "coverage@10" if "coverage@10" in names else next(iter(names), "")
    shown = [c for c in ranked(result) if HITS in c.metrics and metric in c.metrics]
    if not shown:
        return None
    points = [
        (str(place), kind(c), c.metrics[metric].mean, c.metrics[HITS].mean)
        for place, c in enumerate(shown, 1)
    ]
    across = linear(0, max(point[2] for point in points))
    up = linear(0, max(point[3] for point in points))
    scales = unit(metric).scale, unit(HITS).scale
    key = [
        (c.name, f"HR@10 {number(y * scales[1], 1)}, coverage {number(x * scales[0], 1)}")
        for c, (*_, x, y) in zip(shown, points, strict=True)
    ]
    label = _said(f"{metric} against HR@10", (f"{name}: {words}" for name, words in key))
    hint = (
        f"Up: HR@10, of 100 questions. Across: {metric}, of 100 items those that anyone was shown."
    )
    plot = scatter(points, across, up, label, (_ticks(metric), _ticks(HITS)))
    return Reach(Figure("Hits and reach", hint, plot), shown, key)


def latency(result: Result) -> Figure | None:
    """Percentiles of a list's time; None where none was measured."""
    rows = []
    for each in ranked(result):
        values = [each.latency_ms.get(name, 0.0) for name in _PERCENTILES]
        if all(value > 0 for value in values):
            told = " · ".join(milliseconds(value).removesuffix(" ms") for value in values)
            rows.append((each.name, told, values))
    if not rows:
        return None
    every = [value for *_, values in rows for value in values]
    label = _said("Time of a list in ms, p50, p95 and p99", (f"{n} {told}" for n, told, _ in rows))
    hint = "p50 · p95 · p99 in ms; each grid line is ten times the one before"
    plot = percentiles(
        rows, decades(min(every), max(every)), label, lambda value: f"{value:,g} ms"
    )  # fmt: skip
    return Figure("Time of one list", hint, plot)


#: The families of metrics that have a table each: a heading, and their names' stems.
_FAMILIES: Final = (
    ("Found in the first k: HR and recall", ("hr", "recall")),
    ("Placed high: NDCG, MRR and MAP", ("ndcg", "mrr", "map")),
)


def families(result: Result) -> dict[str, list[str]]:
    """Every metric of any contender, by the heading of its table."""
    names = list(dict.fromkeys(name for each in result.contenders for name in each.metrics))
    told = {}
    for heading, stems in _FAMILIES:
        told[heading] = [name for name in names if _stem(name).lower() in stems]
        names = [name for name in names if _stem(name).lower() not in stems]
    return told | {"Beyond hits: reach, novelty, diversity and bias": names}


def cells(contender: Contender, metrics: Iterable[str]) -> list[tuple[Interval | None, str]]:
    """A row of such a table."""
    return [(contender.metrics.get(name), name) for name in metrics]


def meanings(metrics: Iterable[str]) -> dict[str, str]:
    """What each metric's stem means, where that is known."""
    return {_stem(name): unit(name).words for name in metrics if unit(name).words}


def _stem(metric: str) -> str:
    return metric.partition("@")[0]
