"""Example shoppers: what they did, what each contender showed them, and what came next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from stream.replay.report_text import counted, moment, short, text, title
from stream.replay.result import Example, ExampleList, ExampleStep

#: Lines of a list that are shown; a hit further down is told in words.
_SHOWN: Final = 10
#: The newest lines of a history that are shown.
_STEPS: Final = 20
_HIT: Final = ' class="hit"'
_VERBS: Final = {"click": "clicked", "purchase": "bought", "search": "searched"}


def examples(shown: Sequence[Example]) -> str:
    """One part a shopper, the first unfolded. Shoppers go by made-up labels."""
    if not shown:
        return "<p>No example shoppers were kept.</p>"
    opening = (
        "<p>Shoppers go by made-up names. Each list is the newest before the question; "
        'a line that came true is marked <span class="mark">✓ hit</span>.</p>'
    )
    return opening + "\n".join(_example(each, not place) for place, each in enumerate(shown))


def _example(example: Example, unfolded: bool) -> str:
    found = sum(any(each.hits) for each in example.lists)
    facts = (
        f"{counted(len(example.history), 'event')} before; "
        f"found by {found} of {counted(len(example.lists), 'contender')}"
    )
    lists = "".join(_list(each) for each in example.lists)
    return (
        f'<details class="example"{" open" if unfolded else ""}>'
        f"<summary><bdi>{text(example.label, 60)}</bdi> <small>{facts}</small></summary><div>"
        f'<div class="story"><div><h4>Before</h4>{_history(example.history)}</div>'
        f"<div><h4>What came next</h4>{_targets(example.targets)}</div></div>"
        f'<h4>What each contender showed</h4><div class="lists">{lists}</div></div></details>'
    )


def _history(steps: Sequence[ExampleStep]) -> str:
    if not steps:
        return '<p class="quiet">Nothing: a new shopper.</p>'
    earlier = len(steps) - _STEPS
    more = f'<p class="quiet">{counted(earlier, "earlier event")} not shown.</p>'
    lines = "".join(
        f'<li class="{step.kind if step.kind in _VERBS else "other"}">'
        f'<span class="what">{text(_VERBS.get(step.kind, step.kind), 12)}</span>'
        f"{_step(step)}<time>{text(moment(step.ts))}</time></li>"
        for step in steps[-_STEPS:]
    )
    return f'{more if earlier > 0 else ""}<ol class="steps">{lines}</ol>'


def _step(step: ExampleStep) -> str:
    return f"<span>“{title(step.text)}”</span>" if step.kind == "search" else title(step.text)


def _targets(targets: Sequence[str]) -> str:
    lines = "".join(f"<li>{title(each)}</li>" for each in targets)
    return f'<ul class="plainlist">{lines}</ul>'


def _list(shown: ExampleList) -> str:
    reasons = shown.reasons + ("",) * (len(shown.titles) - len(shown.reasons))
    hits = shown.hits + (False,) * (len(shown.titles) - len(shown.hits))
    rows = list(zip(shown.titles, reasons, hits, strict=False))
    lines = "".join(_line(place, *row) for place, row in enumerate(rows[:_SHOWN], 1))
    later = [
        f'<p><span class="mark">✓ hit</span> at place {place}: {title(name)}</p>'
        for place, (name, _reason, hit) in enumerate(rows, 1)
        if hit and place > _SHOWN
    ]
    body = f'<ol class="ranks">{lines}</ol>' if rows else '<p class="quiet">No list.</p>'
    return (
        f"<div><h4><bdi>{text(short(shown.contender, 60))}</bdi></h4>{body}{''.join(later)}</div>"
    )


def _line(place: int, name: str, reason: str, hit: bool) -> str:
    mark = ' <span class="mark">✓ hit</span>' if hit else ""
    why = f'<span class="why"><bdi>{text(reason, 160)}</bdi></span>' if reason else ""
    return (
        f'<li{_HIT if hit else ""}><span class="place">{place}</span>'
        f"<span>{title(name)}{mark}</span>{why}</li>"
    )
