"""Quality on some of the questions: by an item's age, a shopper's events, and whatever else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from stream.replay.report_axis import Axis, linear
from stream.replay.report_ladder import KINDS, kind, ticks
from stream.replay.report_plots import Mark, ladder, legend
from stream.replay.report_tables import Column, interval_cell, row_head, table
from stream.replay.report_text import counted, interval, short, text, unit
from stream.replay.result import HEADLINE, Contender, Result, Slice
from stream.replay.verdict import HITS, PLACES, ranked

#: Contenders in a plot, and slices that have one each; tables have all.
_PLOTTED: Final = 7
_PANELS: Final = 4
#: Columns of a table: the rest is in result.json.
_COLUMNS: Final = 24
_HEADINGS: Final = {
    "item's age": ("By the item’s age", "Cold items have no event in training, young ones few."),
    "shopper's events": (
        "By the shopper’s events", "How many events the shopper had before the question."),
    "category": ("By category", ""),
    "query": ("With and without a search", ""),
}  # fmt: skip


def slices(result: Result) -> str:
    """One part for each thing that questions are cut by, in the result's order."""
    cuts = list(dict.fromkeys(each.of for c in result.contenders for each in c.slices))
    if not cuts:
        return "<p>This replay was not cut into slices.</p>"
    return "".join(_cut(result, of, place) for place, of in enumerate(cuts))


def _cut(result: Result, of: str, place: int) -> str:
    sizes = {s.name: s.questions for c in result.contenders for s in c.slices if s.of == of}
    heading, hint = _HEADINGS.get(of, (f"By {of}", ""))
    said = f"<p>{text(hint)}</p>" if hint else ""
    plots = _panels(result, of, sizes) if len(sizes) <= _PANELS else ""
    hits, places = (_table(result, of, sizes, each, f"t-slice-{place}") for each in HEADLINE)
    shown, folded = ("", hits + places) if plots else (hits, places)
    return (
        f"<h3>{text(heading)}</h3>{said}{plots}{shown}<details><summary>{text(heading)}, "
        f"{'in figures' if plots else PLACES}</summary>{folded}</details>"
    )


def _panels(result: Result, of: str, sizes: dict[str, int]) -> str:
    shown = _plotted(result)
    values = [s.metrics[HITS].high for c in shown for s in c.slices
              if s.of == of and HITS in s.metrics]  # fmt: skip
    if not values:
        return ""
    axis = linear(0, max(values))
    panels = "".join(_panel(shown, of, name, count, axis) for name, count in sizes.items())
    kinds = [each for each in KINDS if any(kind(c) == each for c in shown)]
    left = len(result.contenders) - len(shown)
    more = f"<li>{counted(left, 'other')} in the table</li>" if left else ""
    return f'<div class="trio">{panels}</div>{legend(kinds, more)}'


def _panel(shown: Sequence[Contender], of: str, name: str, count: int, axis: Axis) -> str:
    marks = []
    for each in shown:
        found = _found(each, of, name)
        if found is not None and HITS in found.metrics:
            value = found.metrics[HITS]
            marks.append(Mark(each.name, value, interval(value, unit(HITS)), kind(each)))
    label = f"HR@10 of {name}: " + "; ".join(f"{mark.label} {mark.words}" for mark in marks)
    return (
        f"<figure><figcaption><bdi>{text(name, 40)}</bdi><small>HR@10 of "
        f"{counted(count, 'question')}</small></figcaption>"
        f"{ladder(marks, axis, label, ticks(HITS), None)}</figure>"
    )


def _plotted(result: Result) -> list[Contender]:
    """Live ones and variants, the reference, then the best baselines; in the ladder's order."""
    order = ranked(result)
    first = sorted(order, key=lambda c: (c.name != result.reference, c.kind == "baseline"))
    chosen = {each.name for each in first[:_PLOTTED]}
    return [each for each in order if each.name in chosen]


def _table(result: Result, of: str, sizes: dict[str, int], metric: str, key: str) -> str:
    """Contenders down, slices across: the largest, where there are too many."""
    names = list(sizes)
    if len(names) > _COLUMNS:
        names = sorted(names, key=lambda name: -sizes[name])[:_COLUMNS]
    columns = [Column("Contender", f"{metric}{', of 100' if metric == HITS else ''}", words=True)]
    columns += [Column(short(name, 28), counted(sizes[name], "question")) for name in names]
    rows = []
    for each in ranked(result):
        of_name = {s.name: s.metrics.get(metric) for s in each.slices if s.of == of}
        cells = [interval_cell(of_name.get(name), metric) for name in names]
        rows.append([row_head(each.name), *cells])
    left = len(sizes) - len(names)
    more = f"<p>{left} smaller ones are in <code>result.json</code>.</p>" if left else ""
    return table(f"{key}-{metric.partition('@')[0]}", f"{metric} by {of}", columns, rows) + more


def _found(contender: Contender, of: str, name: str) -> Slice | None:
    return next((s for s in contender.slices if s.of == of and s.name == name), None)
