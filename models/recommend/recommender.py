"""Histories in, lists out: retrieve, rerank, rules, reasons. The flow is ``recommend``.

A batch of shoppers costs a few reads of the index, one encoding, one search and one call of the
reranker, whatever its size. Synchronous and without a clock; for one thread at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from models.domain import History, Item, Recommendation, RecommendedItem
from models.errors import RerankerFailed
from models.ports import (
    Deadline,
    FloatArray,
    Hit,
    ItemIndex,
    Read,
    Reranker,
    RerankRequest,
    Space,
    Stored,
)
from models.recommend import reasons
from models.recommend.popularity import Popularity
from models.recommend.query_memory import QueryMemory, Remembered, raised, recent_query
from models.recommend.rules import Rules, seen, split_by_seen
from models.recommend.trending import Trending
from models.rerank.fusion import blend
from models.space.recency import signals

_log = logging.getLogger("weft.recommender")

RETRIEVAL: Final = "retrieval"
POPULARITY: Final = "popularity"
NEW: Final = "new"

#: At most so many hits more are fetched to make up for what a shopper has bought or seen.
_SPARE: Final = 200
#: Lines of a list that have a reason of the shopper's own; what comes later has a general one.
_EXPLAINED: Final = 20

_Scored = tuple[Item, float]


@dataclass(slots=True)
class _Draft:
    """One shopper's list in the making; candidates are in the retriever's order."""

    history: History
    vector: FloatArray | None  # (d,), what to search for
    query: str = ""  # the recent one, if any
    remembered: Mapping[str, Remembered] = field(default_factory=dict)  # what it led to, by item
    popular: frozenset[str] = frozenset()  # candidates that no search found
    candidates: tuple[Item, ...] = ()
    scores: FloatArray = field(default_factory=lambda: np.zeros(0, np.float32))  # (candidates,)
    gains: FloatArray = field(default_factory=lambda: np.zeros(0, np.float32))  # in the scores
    seen: list[_Scored] = field(default_factory=list)
    reranked: bool = False
    owed: bool = False
    lines: list[RecommendedItem] = field(default_factory=list)
    shown: list[Item] = field(default_factory=list)  # the items of the lines


class _Known:
    """The items and vectors that a batch has read from the index so far, by item id."""

    def __init__(self, stored: Mapping[str, Stored]) -> None:
        self.stored: dict[str, Stored] = {}
        self.vectors: dict[str, FloatArray] = {}  # (d,)
        self.queries: Mapping[str, FloatArray] = {}
        self._add(stored)

    def look_up(self, index: ItemIndex, ids: Iterable[str]) -> None:
        """Reads those of ``ids`` that are not known yet."""
        if new := [i for i in _unique(ids) if i not in self.stored]:
            self._add(index.get(new))

    def _add(self, stored: Mapping[str, Stored]) -> None:
        self.stored.update(stored)
        self.vectors.update((i, s.vector) for i, s in stored.items() if s.vector is not None)


class Recommender:
    """Composes the parts. ``weight`` is the LLM's share in the order; at 0 it is not asked.

    The reranker scores the first ``candidates`` items of a list of ``list_size``. Of a shopper with
    a recent search, what the ``memory`` knows of it joins the candidates and is raised among them;
    so is what is popular, by ``trend`` at most (see ``trending``; 0: not at all).
    ``rules`` are the shop's: what may stand in a list.
    """

    def __init__(
        self,
        index: ItemIndex,
        space: Space,
        popularity: Popularity,
        reranker: Reranker | None,
        weight: float,
        list_size: int,
        candidates: int,
        memory: QueryMemory | None = None,
        *,
        rules: Rules | None = None,
        trend: float = 0.0,
    ) -> None:
        self._index = index
        self._space = space
        self._popularity = popularity
        self._trending = Trending(popularity, trend)
        self._memory = memory
        self._reranker = reranker if weight > 0 else None
        self._weight = weight
        self._list_size = list_size
        self._rules = rules or Rules()
        self._scored = candidates
        self._pool = max(candidates, list_size) if self.wants_rerank else list_size

    @property
    def wants_rerank(self) -> bool:
        """Whether the LLM takes part in the order where there is time."""
        return self._reranker is not None

    def recommend(self, histories: Sequence[History], deadline: Deadline) -> list[Recommendation]:
        """One list for each history, in order; the first are the last to go without the LLM.

        A list that the reranker had no time for, or failed on, is the retriever's and says so.
        A list is shorter than ``list_size`` only where the index has no more to show.
        Raises ``IndexUnavailable`` (retry).
        """
        led = self._recalled(histories)
        ids = [step.item_id for history in histories for step in history.steps]
        ids += [each.item_id for items in led.values() for each in items]
        known = _Known(self._index.get(_unique(ids)))
        known.queries = self._space.query_vectors(
            _unique(step.query for history in histories for step in history.steps)
        )
        vectors = self._space.shopper_vectors(histories, known.vectors, known.queries)
        drafts = [_Draft(h, vector) for h, vector in zip(histories, vectors, strict=True)]
        for draft in drafts:
            draft.query = recent_query(draft.history.steps) or ""
            draft.remembered = {each.item_id: each for each in led.get(draft.query, ())}
        self._retrieve([draft for draft in drafts if draft.vector is not None], known)
        self._rerank(drafts, known, deadline)
        self._order(drafts)
        self._fill([draft for draft in drafts if len(draft.lines) < self._list_size])
        return self._explained(drafts, known)

    def _recalled(self, histories: Sequence[History]) -> Mapping[str, Sequence[Remembered]]:
        """What the recent searches led to, by query."""
        if self._memory is None:
            return {}
        queries = _unique(recent_query(history.steps) for history in histories)
        return self._memory.recall(queries, self._list_size)

    def _retrieve(self, drafts: Sequence[_Draft], known: _Known) -> None:
        """The nearest items that the rules let through become the candidates."""
        if not drafts:
            return
        put_off = [self._rules.put_off(draft.history) for draft in drafts]
        avoided = max(
            len(late | self._rules.hidden(draft.history))
            for late, draft in zip(put_off, drafts, strict=True)
        )
        vectors = np.stack([draft.vector for draft in drafts if draft.vector is not None])
        limit = self._pool + min(avoided, _SPARE)
        found = self._index.search(vectors, limit)
        gains = self._gains(drafts, vectors, found, limit, known)
        for draft, late, answer, adds in zip(drafts, put_off, found, gains, strict=True):
            # equal vectors (one title, several items) come in an order of the index's own making
            hits = sorted(answer, key=lambda hit: (-hit.score, hit.item.item_id))
            if adds and draft.vector is not None:
                hits = raised(hits, adds, known.stored, draft.vector)
            items = [hit.item for hit in hits]
            allowed = self._rules.permitted(items, draft.history)
            new, again = split_by_seen(items, allowed, late)
            new = new[: self._pool]
            draft.candidates = tuple(items[row] for row in new)
            draft.scores = np.array([hits[row].score for row in new], dtype=np.float32)
            draft.gains = np.array([adds.get(items[row].item_id, 0.0) for row in new], np.float32)
            draft.seen = [(items[row], hits[row].score) for row in again]

    def _gains(
        self, drafts: Sequence[_Draft], vectors: FloatArray, found: Sequence[Sequence[Hit]],
        limit: int, known: _Known,
    ) -> list[dict[str, float]]:  # fmt: skip
        """What each shopper's items gain on their cosines, by item id; those are known then.

        A popular item has to get past the last hit of ``limit``: the first ones may be what the
        shopper looked at, and leave the pool again.
        """
        least = [answer[-1].score if len(answer) >= limit else -1.0 for answer in found]
        gains = self._trending.gains(self._index, vectors, least)
        for draft, answer, adds in zip(drafts, found, gains, strict=True):
            hit = {each.item.item_id for each in answer}
            draft.popular = frozenset(adds.keys() - hit - draft.remembered.keys())
            for item_id, each in draft.remembered.items():
                adds[item_id] = adds.get(item_id, 0.0) + each.raised_by
        known.look_up(self._index, (item_id for draft in drafts for item_id in draft.popular))
        return gains

    def _rerank(self, drafts: Sequence[_Draft], known: _Known, deadline: Deadline) -> None:
        """Fuses the LLM's scores with the retriever's, as far as the time goes."""
        asked = [draft for draft in drafts if draft.candidates]
        if self._reranker is None or not asked:
            return
        for draft in asked:
            draft.owed = True
        if deadline.remaining() <= 0:
            return
        requests = [
            RerankRequest(_reads(draft.history, known.stored), draft.candidates[: self._scored])
            for draft in asked
        ]
        try:
            answers = self._reranker.score(requests, deadline)
        except RerankerFailed as error:  # degrade: the retriever's lists go out, and say so
            _log.warning("the LLM failed, lists go out without it: %s", error)
            return
        for draft, scores in zip(asked, answers, strict=True):
            draft.owed = scores is None
            if scores is not None and np.isfinite(scores).all():  # else it had its turn
                first, rest = draft.scores[: len(scores)], draft.scores[len(scores) :]
                gains = draft.gains[: len(scores)]
                first = blend(first - gains, scores, self._weight, gains)
                if len(rest):  # what it was not asked about follows, in the retriever's order
                    rest = rest - rest.max() + first.min()
                draft.scores = np.concatenate([first, rest])
                draft.reranked = True

    def _order(self, drafts: Iterable[_Draft]) -> None:
        """The best candidates become lines; of equal ones the retriever's order holds."""
        for draft in drafts:
            best = np.argsort(-draft.scores, kind="stable")
            chosen = [(draft.candidates[row], float(draft.scores[row])) for row in best]
            self._append(draft, chosen, RETRIEVAL, reasons.RECENT)

    def _fill(self, short: Sequence[_Draft]) -> None:
        """Completes lists: what was looked at, then what is popular, then what is new."""
        for draft in short:
            self._append(draft, draft.seen, RETRIEVAL, reasons.RECENT)
        if all(len(draft.lines) == self._list_size for draft in short):
            return
        limit = self._list_size + _SPARE
        counts = self._popularity.top(limit)
        stored = self._index.get([item_id for item_id, _ in counts])
        popular = [(stored[i].item, n / counts[0][1]) for i, n in counts if i in stored]
        for draft in short:
            words = reasons.popular(self._popularity.days)
            self._append(draft, popular, POPULARITY, words)
        if all(len(draft.lines) == self._list_size for draft in short):
            return
        newest = [(item, 0.0) for item in self._index.newest(limit)]
        for draft in short:
            self._append(draft, newest, NEW, reasons.NEW)

    def _append(self, draft: _Draft, scored: Sequence[_Scored], source: str, reason: str) -> None:
        """Adds lines while there is room.

        A score is never above the one before it: who sorts a list by score finds the same order.
        """
        room = self._list_size - len(draft.lines)
        lowest = draft.lines[-1].score if draft.lines else float("inf")
        items = [item for item, _ in scored]
        for position in self._rules.chosen(items, draft.history, draft.shown, room):
            item, score = scored[position]
            lowest = min(score, lowest)
            draft.shown.append(item)
            draft.lines.append(RecommendedItem(item.item_id, lowest, reason, source))

    def _explained(self, drafts: Sequence[_Draft], known: _Known) -> list[Recommendation]:
        """The finished lists; the first retrieved lines have a reason of the shopper's own."""
        known.look_up(self._index, (line.item_id for d in drafts for line in _grounded(d.lines)))
        return [self._finished(draft, known) for draft in drafts]

    def _finished(self, draft: _Draft, known: _Known) -> Recommendation:
        own = _grounded(draft.lines)
        rest = draft.lines[len(own) :]  # retrieved lines come before the others
        steps = draft.history.steps
        if own and (told := signals(steps, known.vectors, known.queries)) is not None:
            ids = [line.item_id for line in own]
            words = reasons.grounded(ids, told, steps, known.stored)
            looked_at = seen(draft.history)
            for n, item_id in enumerate(ids):
                if item_id in draft.popular and item_id not in looked_at:
                    words[n] = reasons.popular(self._popularity.days)
                elif item_id in draft.remembered and item_id not in looked_at:
                    words[n] = reasons.led_to(draft.query, draft.remembered[item_id].count)
            own = [replace(line, reason=why) for line, why in zip(own, words, strict=True)]
        model = self._space.label
        if draft.reranked and self._reranker is not None:
            model = f"{model}+{self._reranker.name}"
        return Recommendation((*own, *rest), draft.reranked, model, draft.owed)


def _grounded(lines: Sequence[RecommendedItem]) -> list[RecommendedItem]:
    """The first retrieved lines, whose reasons are worth reading their vectors for."""
    return [line for line in lines[:_EXPLAINED] if line.source == RETRIEVAL]


def _unique(ids: Iterable[str | None]) -> list[str]:
    """Each once, in order."""
    return list(dict.fromkeys(i for i in ids if i))


def _reads(history: History, stored: Mapping[str, Stored]) -> tuple[Read, ...]:
    """The history as a reranker reads it; steps on items that are not known yet are left out."""
    reads = []
    for step in history.steps:
        if step.item_id is None:
            reads.append(Read(step, None))
        elif step.item_id in stored:
            reads.append(Read(step, stored[step.item_id].item))
    return tuple(reads)
