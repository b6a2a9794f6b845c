"""What a replay says, in sentences.

A contender is called better or worse only where the interval of its paired difference leaves out
0; else the data cannot tell. The sentences are plain text, for a page and for a terminal.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from models.evaluation.intervals import Interval
from stream.replay.result.result import HEADLINE, Contender, Protocol, Result, Slice
from stream.replay.result.words import counted, interval, listed, number, short, unit

HITS, PLACES = HEADLINE
#: Contenders with a sentence of their own.
_OWN: Final = 3
#: Fewer questions than these show large differences only.
_FEW: Final = 200
_NAME: Final = 60


class Finding(StrEnum):
    """What a paired difference says."""

    BETTER = "better"
    WORSE = "worse"
    OPEN = "cannot tell"


def finding(difference: Interval) -> Finding:
    """By whether the interval leaves out 0, and on which side."""
    if difference.low > 0:
        return Finding.BETTER
    return Finding.WORSE if difference.high < 0 else Finding.OPEN


def ranked(result: Result) -> list[Contender]:
    """The contenders by hits in their first ten, the best first; those without come last."""
    return sorted(
        result.contenders,
        key=lambda each: each.metrics[HITS].mean if HITS in each.metrics else -1.0,
        reverse=True,
    )


def subjects(result: Result) -> list[Contender]:
    """Those that the replay is about: neither baselines nor the reference, the best first."""
    return [
        each
        for each in ranked(result)
        if each.kind != "baseline" and each.name != result.reference and HITS in each.gains
    ]


def verdict(result: Result) -> list[str]:
    """The sentences, the most important first; at least one."""
    reference = next((c for c in result.contenders if c.name == result.reference), None)
    about = subjects(result)[:_OWN]
    told = []
    for place, each in enumerate(about):
        told.append(_compared(each, reference, result))
        if place:
            told[-1] += f" {_places(each)}"
        else:  # the first thing to read is short
            told.append(_places(each))
    if not about:
        told += _alone(reference or next(iter(ranked(result)), None), result.protocol)
    told += _others(result, [each.name for each in about])
    told += _cold(about[0] if about else None, reference)
    return told + _care(result)


def finds(contender: Contender, protocol: Protocol) -> str:
    """In words, "finds 9.0 [8.6, 9.4] of 100 next items in its first ten".

    Where a question has several targets, what is counted are questions with a hit.
    """
    value = contender.metrics.get(HITS)
    if value is None:
        return "was not measured in its first ten"
    said = interval(value, unit(HITS))
    if protocol.targets > protocol.questions:  # one hit of several is enough
        return f"finds a next item in its first ten for {said} of 100 questions"
    return f"finds {said} of 100 next items in its first ten"


def _compared(contender: Contender, reference: Contender | None, result: Result) -> str:
    other, gain = short(result.reference, _NAME), contender.gains[HITS]
    opening = _opening(contender.name, result.reference, gain)
    hits = None if reference is None else reference.metrics.get(HITS)
    base = f"{other}’s {number(hits.mean * 100, 1)}" if hits else other
    return f"{opening}: it {finds(contender, result.protocol)}, {_against(gain)} {base}."


def _opening(contender: str, reference: str, gain: Interval) -> str:
    """Who is better, or that it cannot be told."""
    name, other = short(contender, _NAME), short(reference, _NAME)
    return {
        Finding.BETTER: f"{name} is better than {other}",
        Finding.WORSE: f"{name} is worse than {other}",
        Finding.OPEN: f"The data cannot tell {name} from {other}",
    }[finding(gain)]


def _against(gain: Interval) -> str:
    """The gain, and the word before what it is over."""
    over = "over" if finding(gain) is Finding.BETTER else "against"
    return f"{interval(gain, unit(HITS), signed=True)} {over}"


def _places(contender: Contender) -> str:
    """Whether the metric in which the place counts says the same as hits."""
    gain = contender.gains.get(PLACES)
    if gain is None:
        return f"{PLACES}, where the place counts too, was not compared."
    by_hits, by_place = finding(contender.gains[HITS]), finding(gain)
    said = interval(gain, unit(PLACES), signed=True)
    opening = f"By {PLACES}, where the place counts too,"
    if by_place is by_hits:
        return f"{opening} the same: {said}."
    if by_place is Finding.OPEN:
        return f"{opening} the data cannot tell: {said}."
    turned = "it is " if by_hits is Finding.OPEN else "it is the other way round: "
    return f"{opening} {turned}{by_place.value}, {said}."


def _alone(contender: Contender | None, protocol: Protocol) -> list[str]:
    if contender is None:
        return ["Nothing was asked: there is no contender."]
    return [f"{short(contender.name, _NAME)} {finds(contender, protocol)}."]


def _others(result: Result, told: list[str]) -> list[str]:
    """One sentence on all that have none of their own."""
    rest = [
        each
        for each in ranked(result)
        if each.name not in told and each.name != result.reference and HITS in each.gains
    ]
    if not rest:
        return [] if told else ["There is nothing that it was compared with."]
    said = []
    for kind, words in (
        (Finding.BETTER, "better"),
        (Finding.OPEN, "not to be told from it"),
        (Finding.WORSE, "worse"),
    ):
        names = [_with_gain(each) for each in rest if finding(each.gains[HITS]) is kind]
        if names:
            said.append(f"{len(names)} {words} ({listed(names, 4)})")
    return [f"Of {counted(len(rest), 'other')} against {short(result.reference, _NAME)}: "
            f"{', '.join(said)}."]  # fmt: skip


def _with_gain(contender: Contender) -> str:
    gain = interval(contender.gains[HITS], unit(HITS), signed=True)
    return f"{short(contender.name, _NAME)} {gain}"


def _cold(contender: Contender | None, reference: Contender | None) -> list[str]:
    """On items that training never saw."""
    if contender is None or reference is None:
        return []
    mine, other = _slice(contender), _slice(reference)
    if mine is None or other is None:
        return []
    gain, base = mine.gains[HITS], number(other.metrics[HITS].mean * 100, 1)
    found = interval(mine.metrics[HITS], unit(HITS))
    return [
        f"{_opening(contender.name, reference.name, gain)} on cold items "
        f"({counted(mine.questions, 'question')}): it finds {found} of 100, "
        f"{_against(gain)} {short(reference.name, _NAME)}’s {base}."
    ]


def _slice(contender: Contender) -> Slice | None:
    found = (s for s in contender.slices if s.of == "item's age" and s.name.startswith("cold"))
    return next((each for each in found if HITS in each.metrics and HITS in each.gains), None)


def _care(result: Result) -> list[str]:
    told = []
    if 0 < result.protocol.questions < _FEW:
        asked = counted(result.protocol.questions, "question was", "questions were")
        told.append(f"Only {asked} asked: small differences cannot show.")
    if result.protocol.warning:
        told.append(f"Mind the protocol: {short(result.protocol.warning)}")
    return told
