"""What quality costs: the time of a list, and the items that nobody is shown."""

from __future__ import annotations

from typing import Final

from stream.replay.report_axis import decades, linear
from stream.replay.report_ladder import KINDS, kind, ticks
from stream.replay.report_plots import legend, percentiles, scatter
from stream.replay.report_tables import Column, number_cell, row_head, table
from stream.replay.report_text import milliseconds, number, seconds, text, unit
from stream.replay.result import Contender, Result
from stream.replay.verdict import HITS, ranked

_PERCENTILES: Final = ("p50", "p95", "p99")


def latency(result: Result) -> str:
    """Percentiles of a list's time; then what each contender took in all."""
    return _latency_plot(result) + _time_table(result)


def _latency_plot(result: Result) -> str:
    rows = []
    for each in ranked(result):
        values = [each.latency_ms.get(name, 0.0) for name in _PERCENTILES]
        if all(value > 0 for value in values):
            told = " · ".join(number(value, 1 if value < 10 else 0) for value in values)
            rows.append((each.name, told, values))
    if not rows:
        return "<p>No list’s latency was measured: lists were made many at once.</p>"
    axis = decades(min(v for *_, vs in rows for v in vs), max(v for *_, vs in rows for v in vs))
    label = "Time of a list in ms, p50, p95 and p99: " + "; ".join(
        f"{name} {told}" for name, told, _values in rows
    )
    return (
        "<figure><figcaption>Time of one list<small>p50 · p95 · p99 in ms; each grid line is ten "
        "times the one before</small></figcaption>"
        f"{percentiles(rows, axis, label, lambda value: f'{value:,g} ms')}</figure>"
        f"{legend((), '<li>● p50</li><li>│ p95</li><li>┃ p99, at the end</li>')}"
    )


def _time_table(result: Result) -> str:
    columns = [Column("Contender", words=True)]
    columns += [Column(name, "of a list") for name in _PERCENTILES]
    columns += [
        Column("In all"), Column("Reranked", "of 100 lists"), Column("Ties", "of 100 targets")
    ]  # fmt: skip
    rows = []
    for each in ranked(result):
        times = [each.latency_ms.get(name, float("nan")) for name in _PERCENTILES]
        cells = [number_cell(milliseconds(value), value) for value in times]
        cells += [
            number_cell(seconds(each.seconds), each.seconds or float("nan")),
            number_cell(number(each.reranked * 100, 1), each.reranked),
            number_cell(number(each.ties * 100, 1), each.ties),
        ]
        rows.append([row_head(each.name), *cells])
    return table("t-time", "Time, reranking and ties", columns, rows)


def coverage(result: Result) -> str:
    """Coverage against hits, each point numbered as in the list beside it."""
    metric = _coverage_name(result)
    shown = [c for c in ranked(result) if HITS in c.metrics and metric in c.metrics]
    if not shown:
        return "<p>Coverage was not measured.</p>"
    points = [
        (str(place), kind(c), c.metrics[metric].mean, c.metrics[HITS].mean)
        for place, c in enumerate(shown, 1)
    ]
    across = linear(0, max(point[2] for point in points))
    up = linear(0, max(point[3] for point in points))
    told = [(c.name, _place_words(c, metric)) for c in shown]
    label = f"{metric} against HR@10: " + "; ".join(f"{name}: {words}" for name, words in told)
    key = "".join(
        f"<li><bdi>{text(name, 60)}</bdi> <small>{text(words)}</small></li>" for name, words in told
    )
    kinds = [each for each in KINDS if any(kind(c) == each for c in shown)]
    plot = scatter(points, across, up, label, (ticks(metric), ticks(HITS)))
    return (
        f"<figure><figcaption>Hits and reach<small>Up: HR@10, of 100 questions. Across: "
        f"{text(metric)}, of 100 items those that anyone was shown.</small></figcaption>{plot}"
        f'</figure>{legend(kinds)}<ol class="key">{key}</ol>'
    )


def _place_words(contender: Contender, metric: str) -> str:
    hits, reach = contender.metrics[HITS].mean, contender.metrics[metric].mean
    return (
        f"HR@10 {number(hits * unit(HITS).scale, 1)}, "
        f"coverage {number(reach * unit(metric).scale, 1)}"
    )


def _coverage_name(result: Result) -> str:
    names = [n for c in result.contenders for n in c.metrics if n.lower().startswith("coverage")]
    return "coverage@10" if "coverage@10" in names else next(iter(names), "coverage@10")
