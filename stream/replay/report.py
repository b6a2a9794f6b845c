"""The report of a replay for people: one HTML file, the verdict first.

It needs no network and runs no script but its own. What it says stands in ``result.json`` too.
"""

from __future__ import annotations

from stream.replay.report_cost import coverage, latency
from stream.replay.report_examples import examples
from stream.replay.report_ladder import (
    SIGNS,
    chance,
    descriptions,
    headline_table,
    ladders,
    metric_tables,
)
from stream.replay.report_made import facts, made, protocol
from stream.replay.report_page import Section, page
from stream.replay.report_slices import slices
from stream.replay.report_text import text
from stream.replay.result import Result
from stream.replay.verdict import HITS, Finding, finding, subjects, verdict

_FINDINGS = {
    Finding.BETTER: ("better", "Better"),
    Finding.WORSE: ("worse", "Worse"),
    Finding.OPEN: ("open", "The data cannot tell"),
}


def report(result: Result) -> str:
    """The whole file. Linear in the contenders' metrics and slices; questions do not enter."""
    hits = ladders(result) + headline_table(result) + chance(result)
    sections = [
        Section("verdict", "Verdict", _verdict(result), "Verdict"),
        Section("protocol", "How it was asked", protocol(result), "Protocol"),
        Section("ladder", "Who finds what comes next", hits + descriptions(result)
                + metric_tables(result), "Contenders"),
        Section("slices", "Where it helps", slices(result), "Slices"),
        Section("reach", "Accuracy and reach", coverage(result), "Reach"),
        Section("time", "Time", latency(result), "Time"),
        Section("examples", "Example shoppers", examples(result.examples), "Shoppers"),
        Section("made", "How it was made", made(result), "Command"),
    ]  # fmt: skip
    return page(result.title or "Replay", "Weft replay", facts(result), sections)


def _verdict(result: Result) -> str:
    sentences = verdict(result)
    lead, rest = sentences[0], sentences[1:]
    about = subjects(result)[:1]
    sign = ""
    if about:
        found = finding(about[0].gains[HITS])
        name, words = _FINDINGS[found]
        sign = (
            f'<p class="finding {name}"><span aria-hidden="true">{SIGNS[found]}</span> {words}</p>'
        )
    more = "".join(f"<li>{text(each)}</li>" for each in rest)
    return (
        f'{sign}<p class="lead">{text(lead)}</p>{f"<ul>{more}</ul>" if more else ""}'
        '<p class="how">Intervals in brackets hold 95 % of the resampled means; shoppers are '
        "drawn, not questions. “Better” and “worse” are said only where the paired difference’s "
        "interval leaves out 0.</p>"
    )
