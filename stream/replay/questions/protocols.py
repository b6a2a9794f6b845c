"""The three protocols: which events may be learnt from, and which are asked.

docs/replay.md draws each on a timeline. Whatever is asked is ranked among all items that have
entered by then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.errors import InvalidFile
from models.training.data.log import TrainingLog
from stream.replay.questions.baskets import Baskets, by_basket, last_events, without_tie
from stream.replay.questions.event_store import Spool

NAMES: Final = ("prequential", "time", "last")
#: Share of the events that a global time split asks.
TEST_SHARE: Final = 0.2
_LEAKS: Final = (
    "Leave-one-out leaks the future: what one shopper is asked lies before events of other "
    "shoppers that were learnt from. Use it to compare with papers, never to decide."
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a protocol makes of a log.

    ``ends`` (shoppers,): each one's events before it may be learnt by a baseline; ``until`` is the
    first ts that is not fed at all; ``apart`` counts questions without a tie (leave-one-out);
    ``held_out_categories`` are those that a bundle's training left out.
    """

    name: str
    words: str
    baskets: Baskets
    ends: NDArray[np.int64]
    first: int
    until: int
    warning: str = ""
    apart: int = 0
    held_out_categories: frozenset[str] = frozenset()


def cut(
    log: TrainingLog,
    name: str,
    first: int | None = None,
    until: int | None = None,
    *,
    new_only: bool = False,
    trained_until: int = 0,
) -> Asked:
    """The questions of one of ``NAMES`` with ``first`` <= ts < ``until`` (epoch ms).

    ``trained_until``: the newest event that a bundle has learnt. By default nothing is asked up to
    then; where ``first`` is earlier, the warning says so. Raises ``InvalidFile`` where there are no
    questions.
    """
    last = log.summary.last_ts + 1
    if name != "last" and first is None and trained_until >= log.summary.last_ts:
        raise InvalidFile(
            "a bundle has learnt this log to its end, so there is nothing left to ask: train it "
            "with --until or with --no-refit, or insist with --from"
        )
    until = last if until is None else min(until, last)
    if name == "last":
        asked = _last(log, until)
    else:
        warning = ""
        if first is None:
            first = boundary(log) if name == "time" else log.summary.first_ts
            first = max(first, trained_until + 1)
        elif first <= trained_until:
            warning = (
                f"A bundle has learnt from events up to {day(trained_until)}: what is asked before "
                "then it may have seen. Ask with a later --from."
            )
        asked = replace(_in_time(log, name, first, until, new_only), warning=warning)
    if not len(asked.baskets):
        raise InvalidFile(
            f"no shopper has an event to ask for {asked.words}: give another --from and --until, "
            "or a longer log"
        )
    return asked


def boundary(log: TrainingLog, share: float = TEST_SHARE) -> int:
    """The ts (epoch ms) with ``share`` of the events at or after it."""
    ordered = np.sort(np.asarray(log.ts))
    return int(ordered[min(int(len(ordered) * (1 - share)), len(ordered) - 1)])


def _in_time(log: TrainingLog, name: str, first: int, until: int, new_only: bool) -> Asked:
    which = "new items of each basket" if new_only else "each basket"
    words = f"{name}: {which} from {day(first)} to {day(until - 1)}, asked before it is applied"
    asked = by_basket(log, first, until, new_only=new_only)
    return Asked(name, words, asked, log.ends_before(first), first, until)


def _last(log: TrainingLog, until: int) -> Asked:
    baskets = last_events(log)
    ends = log.offsets[1:].copy()
    ends[baskets.shoppers] = baskets.ends
    apart = int(without_tie(log, baskets).sum())
    words = "leave-one-out: each shopper's last event, given all before it in the log's order"
    first = int(baskets.ts.min()) if len(baskets) else until
    return Asked("last", words, baskets, ends, first, until, _LEAKS, apart)


def sampled(asked: Asked, log: TrainingLog, count: int) -> Asked:
    """The questions of at most ``count`` of the shoppers that are asked: those of least hash."""
    shoppers = np.unique(asked.baskets.shoppers)
    if not count or count >= len(shoppers):
        return asked
    chosen = shoppers[np.argsort(log.users[shoppers], kind="stable")[:count]]
    some = np.flatnonzero(np.isin(asked.baskets.shoppers, chosen))
    baskets = asked.baskets.take(some.astype(np.int64))
    apart = int(without_tie(log, baskets).sum()) if asked.apart else 0
    return replace(asked, baskets=baskets, apart=apart)


def held_out(asked: Asked, log: TrainingLog, spool: Spool) -> NDArray[np.bool_] | None:
    """Of leave-one-out, the records (n,) that are asked and never applied."""
    if asked.name != "last":
        return None
    mask = np.zeros(len(spool), dtype=bool)
    back = np.asarray(spool.order)[::-1]
    users, where = np.unique(np.asarray(spool.users)[back], return_index=True)
    mask[back[where[np.isin(users, log.users[asked.baskets.shoppers])]]] = True
    return mask


def grouped(asked: Asked, spool: Spool, taking_part: NDArray[np.bool_] | None
            ) -> NDArray[np.int64] | None:  # fmt: skip
    """Of leave-one-out, the records shopper by shopper, who was first at the end first."""
    if asked.name != "last":
        return None
    order = np.asarray(spool.order)
    if taking_part is not None:
        order = order[taking_part[order]]
    users = np.asarray(spool.users)[order]
    _, inverse = np.unique(users, return_inverse=True)
    newest = np.zeros(inverse.max(initial=-1) + 1, dtype=np.int64)
    np.maximum.at(newest, inverse, np.arange(len(order)))
    return order[np.argsort(newest[inverse], kind="stable")]


def day(ts: int) -> str:
    """A time in words: the date, and the time of day where it is not midnight."""
    at = datetime.fromtimestamp(ts / 1000, UTC)
    return at.strftime("%Y-%m-%d" if ts % 86_400_000 == 0 else "%Y-%m-%d %H:%M:%S")
