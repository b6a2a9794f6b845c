"""The page of two replays side by side, made of a report's parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from stream.replay.report_axis import linear
from stream.replay.report_ladder import ticks
from stream.replay.report_made import command, definitions, made_at, warning
from stream.replay.report_page import Section, page
from stream.replay.report_plots import Mark, ladder
from stream.replay.report_tables import Column, interval_cell, row_head, table
from stream.replay.report_text import (
    counted,
    interval,
    moment,
    seconds,
    short,
    text,
    unit,
    whole_days,
)
from stream.replay.result import HEADLINE, Result
from stream.replay.verdict import HITS, PLACES

if TYPE_CHECKING:
    from stream.replay.compare import Comparison

_SIDES: Final = ("a", "b")
_HINTS: Final = {
    HITS: "of 100 questions; right of 0 B is better",
    PLACES: "right of 0 B is better",
}


def page_of(found: Comparison) -> str:
    """The whole file."""
    title = f"{found.name('a')} and {found.name('b')}"
    facts = (
        f"A: {short(found.a.result.title, 60)} · B: {short(found.b.result.title, 60)} · paired on "
        f"{counted(found.questions, 'question')} of {counted(found.shoppers, 'shopper')}"
    )
    sections = [
        Section("verdict", "Verdict", _verdict(found), "Verdict"),
        Section("differences", "The difference", _plots(found), "Difference"),
        Section("contenders", "All contenders of both", _contenders(found), "Contenders"),
        Section("runs", "The two runs", _runs(found), "Runs"),
    ]
    return page(title, "Weft replay, compared", facts, sections)


def _verdict(found: Comparison) -> str:
    lead, *rest = found.words()
    sign, words = {
        "": ("≈", "No verdict"),
        "a": ("◀", "A is better"),
        "b": ("▶", "B is better"),
    }[found.better]
    kind = "better" if found.better else "open"
    more = "".join(f"<li>{text(each)}</li>" for each in rest)
    return (
        f'<p class="finding {kind}"><span aria-hidden="true">{sign}</span> {words}</p>'
        f'<p class="lead">{text(lead)}</p><ul>{more}</ul>'
        '<p class="how">Better is said only where a paired difference’s 95 % interval leaves out '
        "0 and the other metric does not say the reverse. Shoppers are drawn, not questions.</p>"
    )


def _plots(found: Comparison) -> str:
    return f'<div class="pair">{"".join(_plot(found, metric) for metric in HEADLINE)}</div>'


def _plot(found: Comparison, metric: str) -> str:
    """The difference's interval, and 0: right of it B is better."""
    value = found.differences[metric]
    heading, hint = f"{metric}, B less A", _HINTS[metric]
    axis = linear(min(value.low, 0.0), max(value.high, 0.0))
    words = interval(value, unit(metric), signed=True)
    plot = ladder(
        [Mark("B less A", value, words, "difference")], axis,
        f"{heading}, {hint}: {words}", _signed(ticks(metric)), 0.0,
    )  # fmt: skip
    return f"<figure><figcaption>{heading}<small>{hint}</small></figcaption>{plot}</figure>"


def _signed(tick: Callable[[float], str]) -> Callable[[float], str]:
    return lambda value: tick(value).replace("-", "\N{MINUS SIGN}")


def _contenders(found: Comparison) -> str:
    """By name: what both have stands in one row."""
    runs = found.a.result, found.b.result
    held = [{each.name: each.metrics for each in run.contenders} for run in runs]
    columns = [Column("Contender", words=True)]
    columns += [
        Column(f"{metric}, {side.upper()}", "of 100" if metric == HITS else "")
        for metric in HEADLINE
        for side in _SIDES
    ]
    rows = []
    for name in dict.fromkeys([*held[0], *held[1]]):
        cells = [
            interval_cell(metrics.get(name, {}).get(metric), metric)
            for metric in HEADLINE
            for metrics in held
        ]
        rows.append([row_head(name), *cells])
    return (
        "<p>Each run’s own means over all its questions, with their own intervals: not paired.</p>"
        + table("t-both", "All contenders of both runs", columns, rows)
    )


def _runs(found: Comparison) -> str:
    parts = []
    for side, of in zip(_SIDES, (found.a, found.b), strict=True):
        told = of.result
        parts.append(
            f"<div><h3>{side.upper()}: <bdi>{text(told.title, 80)}</bdi></h3>"
            f"{warning(told.protocol.warning)}{definitions(_facts(told, of.contender))}"
            f"{command(told.command, f'command-{side}')}</div>"
        )
    return f'<div class="pair">{"".join(parts)}</div>'


def _facts(told: Result, contender: str) -> list[tuple[str, str]]:
    versions = ", ".join(f"{text(name)} {text(of)}" for name, of in told.versions.items())
    asked = told.protocol
    words = next((each.words for each in told.contenders if each.name == contender), "")
    span = f"{moment(asked.asked_from)} until {moment(asked.asked_until)}"
    return [
        ("Compared", f"<bdi>{text(short(contender, 60))}</bdi>"),
        ("Which is", text(words) or "–"),
        ("Protocol", f"{text(asked.name)}, {whole_days(text(span))}"),
        ("Questions", f"{asked.questions:,}"),
        ("Fingerprint", f"<code>{text(told.data.fingerprint)}</code>"),
        ("Made at", text(made_at(told.made_at))),
        ("Took", seconds(told.seconds)),
        ("Seed", str(told.seed)),
        ("Machine", text(told.machine) or "–"),
        ("Versions", versions or "–"),
        ("Notes", "<br>".join(map(text, told.notes)) or "–"),
    ]
