"""The report of a replay for people: one HTML file, the verdict first.

It needs no network and runs no script but its own. What it says stands in ``result.json`` too.
"""

from __future__ import annotations

from itertools import zip_longest

from stream.replay.report import figures as figures
from stream.replay.report.page import page
from stream.replay.result.result import HEADLINE, Example, ExampleList, Result
from stream.replay.result.verdict import HITS, PLACES, finding, ranked, subjects, verdict
from stream.replay.result.words import counted, made_at, moment


def report(result: Result) -> str:
    """The whole file. Linear in the contenders' metrics and slices; questions do not enter."""
    about = subjects(result)
    facts = (
        counted(result.protocol.questions, "question"),
        counted(len(result.contenders), "contender"),
        f"{moment(result.data.first_ts)[:10]} to {moment(result.data.last_ts)[:10]}",
        f"made {made_at(result.made_at)}",
    )
    return page(
        "report.html",
        title=result.title or "Replay",
        facts=" · ".join(facts),
        result=result,
        hits=HITS,
        places=PLACES,
        sentences=verdict(result),
        found=finding(about[0].gains[HITS]) if about else None,
        finding_of=finding,
        signs=figures.SIGNS,
        contenders=ranked(result),
        compared=sum(HITS in each.gains for each in result.contenders) - 1,
        kind=figures.kind,
        kinds=figures.kinds,
        timeline=figures.timeline(result),
        ladders={metric: figures.headline(result, metric) for metric in HEADLINE},
        families=figures.families(result),
        cells=figures.cells,
        meanings=figures.meanings,
        cuts=figures.cuts(result),
        reach=figures.reach(result),
        latency=figures.latency(result),
        found_by=_found_by,
        rows_of=_rows,
    )


def _found_by(example: Example) -> int:
    """Contenders whose list held a target."""
    return sum(any(each.hits) for each in example.lists)


def _rows(shown: ExampleList) -> list[tuple[int, str, str | None, bool | None]]:
    """(place, title, reason, hit) of each line; there may be fewer reasons and hits than titles."""
    count = len(shown.titles)
    rows = zip_longest(shown.titles, shown.reasons[:count], shown.hits[:count])
    return [(place, *row) for place, row in enumerate(rows, 1)]
