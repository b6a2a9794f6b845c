"""From answers on disk to metrics with intervals, a block of questions at a time.

What is held is a sum and a count for each metric and shopper, whatever the number of questions;
beyond ``GROUPS`` shoppers several share one, by their hash, which leaves the intervals honest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.evaluation.intervals import Interval, Values, bootstrap_sums
from models.evaluation.metrics import KS, Exposure, accuracy, lists_of
from models.training.data.log import TrainingLog
from stream.replay.questions.answers import Answers
from stream.replay.questions.protocols import Asked
from stream.replay.result.result import HEADLINE, Slice

#: Groups that intervals resample, at most.
GROUPS: Final = 20_000
_BLOCK: Final = 4096  # questions measured at once
#: Events before training's end that make an item young, and warm.
_YOUNG, _WARM = 1, 5
#: Events before the question that make a shopper's few, some, many.
_SOME, _MANY = 5, 20
_CATEGORIES: Final = 8  # the most asked ones are slices

Told = dict[str, Interval]
Masks = Mapping[tuple[str, str], NDArray[np.bool_]]
"""By (what it is cut by, name): of questions (q,), or of targets (t,)."""


@dataclass(slots=True)
class Sums:
    """A sum and a count of each metric for each group, (g,) each."""

    groups: int
    sums: dict[str, Values] = field(default_factory=dict)
    counts: dict[str, Values] = field(default_factory=dict)

    def add(self, name: str, groups: NDArray[np.int64], values: Values) -> None:
        """``values`` (b,) of questions whose groups are (b,); NaN is no value."""
        there = np.isfinite(values)
        if name not in self.sums:
            self.sums[name], self.counts[name] = np.zeros(self.groups), np.zeros(self.groups)
        np.add.at(self.sums[name], groups[there], values[there])
        np.add.at(self.counts[name], groups[there], 1.0)


@dataclass(frozen=True, slots=True)
class Measured:
    """One contender's sums, what one number over all lists makes, and each question's headline."""

    sums: Sums
    overall: dict[str, float]
    headline: dict[str, NDArray[np.float32]]
    ties: float


@dataclass(frozen=True)
class Measure:
    """What every contender of a replay is measured by."""

    log: TrainingLog
    asked: Asked

    def of(self, answers: Answers) -> Measured:
        """Reads all answers, block by block."""
        baskets, groups, counts = self.asked.baskets, self.groups, self.learnt
        sums = Sums(int(groups.max(initial=0)) + 1)
        exposure = Exposure(counts, KS)
        headline = {name: np.zeros(len(baskets), np.float32) for name in HEADLINE}
        masks, ages = self.of_questions, self.of_targets
        for start in range(0, len(baskets), _BLOCK):
            end = min(start + _BLOCK, len(baskets))
            first, last = baskets.offsets[start], baskets.offsets[end]
            ranks = answers.ranks[first:last].astype(np.float64)
            offsets = baskets.offsets[start : end + 1] - first
            found = accuracy(ranks, offsets)
            some = groups[start:end]
            lists = answers.lists[start:end].astype(np.int64)
            exposure.add(lists)
            had, had_offsets = self._had(start, end)
            found |= lists_of(lists, counts, self.log.titles, had, had_offsets)
            for name, values in found.items():
                sums.add(name, some, values)
            for name in HEADLINE:
                headline[name][start:end] = found[name]
                for (of, which), mask in masks.items():
                    inside = np.where(mask[start:end], found[name], np.nan)
                    sums.add(_key(of, which, name), some, inside)
            self._by_target(sums, some, ranks, offsets, ages, first)
        return Measured(sums, exposure.told(), headline, float(answers.tied.mean()))

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """The group of each question (q,), by its shopper."""
        shoppers = self.asked.baskets.shoppers
        if len(np.unique(shoppers)) > GROUPS:
            return (self.log.users[shoppers] % np.uint64(GROUPS)).astype(np.int64)
        return np.unique(shoppers, return_inverse=True)[1].astype(np.int64)

    @cached_property
    def learnt(self) -> NDArray[np.int64]:
        """Events (n + 1,) of each item that could be learnt from."""
        from models.training.sequence.train import counted

        return counted(self.log, self.asked.ends).astype(np.int64)

    @cached_property
    def of_questions(self) -> Masks:
        """Slices by the shopper's events, and by whether a search came just before."""
        baskets, items = self.asked.baskets, self.log.items
        sizes = baskets.ends - baskets.starts
        rows = np.asarray(self.log.rows)
        recent = [baskets.ends - back for back in (1, 2, 3)]
        searched = np.zeros(len(baskets), dtype=bool)
        for places in recent:
            searched |= (rows[np.maximum(places, 0)] > items) & (places >= baskets.starts)
        named = {
            ("shopper's events", f"few (under {_SOME})"): sizes < _SOME,
            ("shopper's events", f"some ({_SOME} to {_MANY - 1})"): (sizes >= _SOME)
            & (sizes < _MANY),
            ("shopper's events", f"many ({_MANY} or more)"): sizes >= _MANY,
        }
        if searched.any():
            named |= {
                ("query", "a search just before"): searched,
                ("query", "no search"): ~searched,
            }
        return {name: mask for name, mask in named.items() if mask.any()}

    @cached_property
    def of_targets(self) -> Masks:
        """Slices by the target's age in events that could be learnt from, and by its category."""
        targets, counts = self.asked.baskets.targets, self.learnt
        seen = counts[targets]
        named = {
            ("item's age", "cold (no event learnt)"): seen < _YOUNG,
            ("item's age", f"young (1 to {_WARM - 1} events)"): (seen >= _YOUNG) & (seen < _WARM),
            ("item's age", f"warm ({_WARM} or more)"): seen >= _WARM,
        }
        names = np.array([self.log.item(int(row)).category or "" for row in np.unique(targets)])
        category = names[np.searchsorted(np.unique(targets), targets)]
        named |= self._categories(category, counts)
        return {name: mask for name, mask in named.items() if mask.any()}

    def _categories(self, category: NDArray[np.str_], counts: NDArray[np.int64]) -> Masks:
        """The most asked categories, those of which nothing could be learnt, and those held out."""
        told, times = np.unique(category[category != ""], return_counts=True)
        most = told[np.argsort(-times, kind="stable")][:_CATEGORIES]
        named = {("category", str(name)): category == name for name in most}
        if len(told):
            learnt = {self.log.item(int(row)).category for row in np.flatnonzero(counts)}
            unseen = np.isin(category, [name for name in told if name not in learnt])
            named["category", "never learnt from"] = unseen
            held_out = np.isin(category, sorted(self.asked.held_out_categories))
            named["category", "held out of training"] = held_out
        return named

    def _had(self, start: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The items (flat, with offsets) that each question's shopper had before."""
        baskets = self.asked.baskets
        rows = np.asarray(self.log.rows)
        parts = [
            rows[a:b]
            for a, b in zip(baskets.starts[start:end], baskets.ends[start:end], strict=True)
        ]
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
        return np.concatenate(parts).astype(np.int64), offsets.astype(np.int64)

    def _by_target(
        self, sums: Sums, groups: NDArray[np.int64], ranks: Values, offsets: NDArray[np.int64],
        ages: Masks, first: int,
    ) -> None:  # fmt: skip
        """HEADLINE over the targets of a slice alone: a question counts where it has one."""
        of = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        for (by, which), mask in ages.items():
            inside = mask[first : first + len(ranks)]
            if not inside.any():
                continue
            questions, sizes = np.unique(of[inside], return_counts=True)
            found = accuracy(ranks[inside], np.concatenate([[0], np.cumsum(sizes)]))
            for name in HEADLINE:
                sums.add(_key(by, which, name), groups[questions], found[name])
            if which.startswith("cold"):
                for k in KS:
                    sums.add(f"cold recall@{k}", groups[questions], found[f"Recall@{k}"])


def measured(sums: Sums, reference: Sums, seed: int) -> tuple[Told, Told, tuple[Slice, ...]]:
    """A contender's metrics, their HEADLINE's paired gains over the reference, and its slices.

    Gains are over the same questions: all, and those of each slice.
    """
    names = list(sums.sums)
    paired = [name for name in names if name.rpartition("|")[2] in HEADLINE]
    columns = [sums.sums[name] for name in names]
    columns += [sums.sums[name] - reference.sums[name] for name in paired]
    counts = [sums.counts[name] for name in (*names, *paired)]
    # all by one call: to draw costs as much as to sum
    found = bootstrap_sums(np.stack(columns, axis=1), np.stack(counts, axis=1), seed)
    told = dict(zip(names, found[: len(names)], strict=True))
    gained = dict(zip(paired, found[len(names) :], strict=True))
    slices = []
    for of, which in dict.fromkeys(tuple(name.split("|")[:2]) for name in names if "|" in name):
        keys = {name: _key(of, which, name) for name in HEADLINE}
        metrics, gains = ({n: some[key] for n, key in keys.items()} for some in (told, gained))
        questions = int(sums.counts[keys[HEADLINE[0]]].sum())
        slices.append(Slice(of, which, questions, metrics, gains))
    return _whole(told), _whole(gained), tuple(slices)


def _whole(told: Told) -> Told:
    """Without those of slices."""
    return {name: value for name, value in told.items() if "|" not in name}


def _key(of: str, which: str, name: str) -> str:
    return f"{of}|{which.replace('|', '/')}|{name}"
