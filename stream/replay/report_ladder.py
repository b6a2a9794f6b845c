"""The contenders of a replay against each other: plots, tables, and what each one is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from stream.replay.report_axis import linear
from stream.replay.report_plots import Mark, ladder, legend
from stream.replay.report_tables import Column, interval_cell, row_head, table, words_cell
from stream.replay.report_text import interval, number, short, text, unit
from stream.replay.result import HEADLINE, Contender, Result
from stream.replay.verdict import HITS, PLACES, Finding, finding, ranked

SIGNS: Final = {Finding.BETTER: "▲", Finding.WORSE: "▼", Finding.OPEN: "≈"}
KINDS: Final = ("live", "variant", "baseline")
_CLASSES: Final = {Finding.BETTER: "better", Finding.WORSE: "worse", Finding.OPEN: "open"}
#: Up to so many, what each contender is stands open.
_OPEN: Final = 8
_TITLES: Final = {
    HITS: ("Hits in the first ten (HR@10)", "of 100 questions, with 95 % intervals"),
    PLACES: ("Hits, the higher the better (NDCG@10)", "0 to 1, with 95 % intervals"),
}
#: On a plot; a table has more.
_DECIMALS: Final = {HITS: 1, PLACES: 3}
_FAMILIES: Final = (
    ("Found in the first k: HR and recall", ("hr", "recall")),
    ("Placed high: NDCG, MRR and MAP", ("ndcg", "mrr", "map")),
)
_BESIDES: Final = "Beyond hits: reach, novelty, diversity and bias"


def kind(contender: Contender) -> str:
    """Its kind, one of ``KINDS``: the shape of its marks."""
    return contender.kind if contender.kind in KINDS else "variant"


def ticks(metric: str) -> Callable[[float], str]:
    """How a number on the axis of that metric is written: no more digits than it has."""
    scale = unit(metric).scale
    return lambda value: f"{value * scale:g}"


def ladders(result: Result) -> str:
    """Both headline metrics, the best first, and what the marks mean."""
    plots = "".join(_ladder(result, metric) for metric in HEADLINE)
    kinds = [each for each in KINDS if any(kind(c) == each for c in result.contenders)]
    signs = (
        "<li>▲ better than the reference</li><li>▼ worse</li><li>≈ the data cannot tell</li>"
        f"<li>┊ the reference, {text(result.reference, 40)}</li>"
    )
    return f'<div class="pair">{plots}</div>{legend(kinds, signs)}'


def _ladder(result: Result, metric: str) -> str:
    shown = [each for each in ranked(result) if metric in each.metrics]
    heading, hint = _TITLES[metric]
    if not shown:
        return f"<p>{text(metric)} was not measured.</p>"
    marks = [
        Mark(
            _signed(each, metric, result.reference), each.metrics[metric],
            interval(each.metrics[metric], replace(unit(metric), decimals=_DECIMALS[metric])),
            kind(each),
        )
        for each in shown
    ]  # fmt: skip
    axis = linear(0, max(each.metrics[metric].high for each in shown))
    at = next((c.metrics[metric].mean for c in shown if c.name == result.reference), None)
    label = f"{heading}, {hint}: " + "; ".join(f"{mark.label} {mark.words}" for mark in marks)
    return (
        f"<figure><figcaption>{text(heading)}<small>{text(hint)}</small></figcaption>"
        f"{ladder(marks, axis, label, ticks(metric), at)}</figure>"
    )


def _signed(contender: Contender, metric: str, reference: str) -> str:
    """The name, with the sign of what was found, or of the reference."""
    if contender.name == reference:
        return f"┊ {contender.name}"
    gain = contender.gains.get(metric)
    return f"{SIGNS[finding(gain)]} {contender.name}" if gain else contender.name


def headline_table(result: Result) -> str:
    """Both metrics, the differences from the reference, and what follows."""
    over = f"over {short(result.reference, 24)}"
    columns = (
        Column("Contender", words=True), Column("Finding", "by HR@10", words=True),
        Column(HITS, "of 100"), Column("Gain in HR@10", over), Column(PLACES),
        Column("Gain in NDCG@10", over),
    )  # fmt: skip
    rows = [
        [
            row_head(each.name, f'<span class="tag">{kind(each)}</span>'),
            _finding_cell(each, result.reference),
            interval_cell(each.metrics.get(HITS), HITS),
            interval_cell(each.gains.get(HITS), HITS, signed=True),
            interval_cell(each.metrics.get(PLACES), PLACES),
            interval_cell(each.gains.get(PLACES), PLACES, signed=True),
        ]
        for each in ranked(result)
    ]
    return table("t-headline", "All contenders", columns, rows, (2, "descending"))


def _finding_cell(contender: Contender, reference: str) -> str:
    gain = contender.gains.get(HITS)
    if contender.name == reference or gain is None:
        return words_cell("the reference" if contender.name == reference else "not compared")
    found = finding(gain)
    return (
        f'<td class="words {_CLASSES[found]}" data-v="{found.value}">'
        f'<span aria-hidden="true">{SIGNS[found]}</span> {found.value}</td>'
    )


def chance(result: Result) -> str:
    """What many comparisons at 95 % mean; nothing where there are few."""
    compared = sum(HITS in each.gains for each in result.contenders) - 1
    if compared < 5:
        return ""
    return (
        f"<p>Each interval holds at 95 % by itself. Of {compared} comparisons about "
        f"{number(compared * 0.05, 1)} may look decided by chance alone.</p>"
    )


def descriptions(result: Result) -> str:
    """One line each: what it is, and what tuning chose."""
    told = "".join(
        f"<dt><bdi>{text(each.name, 60)}</bdi></dt><dd>{text(each.words) or '–'}</dd>"
        for each in result.contenders
    )
    unfolded = " open" if len(result.contenders) <= _OPEN else ""
    return f"<details{unfolded}><summary>What each contender is</summary><dl>{told}</dl></details>"


def metric_tables(result: Result) -> str:
    """Every metric of every contender, a table a family, folded."""
    names = list(dict.fromkeys(name for each in result.contenders for name in each.metrics))
    parts, left = [], names
    for place, (heading, stems) in enumerate(_FAMILIES):
        mine = [name for name in left if name.partition("@")[0].lower() in stems]
        left = [name for name in left if name not in mine]
        parts.append(_metrics(result, f"t-family-{place}", heading, mine))
    parts.append(_metrics(result, "t-besides", _BESIDES, left))
    return "".join(parts)


def _metrics(result: Result, key: str, heading: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    columns = [Column("Contender", words=True)]
    columns += [Column(name, "of 100" if unit(name).scale == 100 else "") for name in names]
    rows = [
        [row_head(each.name), *(interval_cell(each.metrics.get(name), name) for name in names)]
        for each in ranked(result)
    ]
    meanings = dict.fromkeys(
        f"<li>{text(name.partition('@')[0])}: {text(unit(name).words)}.</li>"
        for name in names
        if unit(name).words
    )
    return (
        f"<details><summary>{text(heading)}</summary>{table(key, heading, columns, rows)}"
        f'<ul class="plainlist">{"".join(meanings)}</ul></details>'
    )
