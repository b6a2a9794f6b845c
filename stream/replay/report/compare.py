"""Two replays side by side, paired on the questions that both were asked.

Paired differences are far surer than two means: most questions are as hard for both. What is
compared are two contenders, one of each run; runs over different data are refused.
"""

from __future__ import annotations

import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.errors import InvalidFile
from models.evaluation.intervals import Groups, Interval, Values, bootstrap_sums
from stream.replay.report.figures import difference
from stream.replay.report.page import page
from stream.replay.result import result
from stream.replay.result.result import ANSWERS, HEADLINE, Result
from stream.replay.result.verdict import HITS, PLACES, Finding, finding
from stream.replay.result.words import counted, interval, number, short, unit

_ARRAYS: Final = {HITS: "hr10", PLACES: "ndcg10"}
_NAME: Final = 60
#: Groups that intervals resample, at most: beyond, several shoppers share one.
_GROUPS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Side:
    """One run: its result, the contender that stands for it, and its means on what both share."""

    result: Result
    contender: str
    means: dict[str, float]  # HEADLINE
    questions: int  # of the run, shared or not

    def to_json(self) -> dict[str, Any]:
        """What tells this run from the other."""
        told = self.result
        return {
            "title": told.title, "command": told.command, "made_at": told.made_at,
            "seed": told.seed, "versions": told.versions, "protocol": told.protocol.name,
            "contender": self.contender, "means": self.means, "questions": self.questions,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Comparison:
    """``differences`` are b - a, HEADLINE, over the ``questions`` that both were asked."""

    a: Side
    b: Side
    questions: int
    shoppers: int
    differences: dict[str, Interval]

    @property
    def better(self) -> str:
        """Which side: "a", "b", or "" where the data cannot tell, or the metrics disagree."""
        found = {finding(each) for each in self.differences.values()}
        if Finding.BETTER in found:
            return "" if Finding.WORSE in found else "b"
        return "a" if Finding.WORSE in found else ""

    def words(self) -> list[str]:
        """The verdict first, then what it rests on; plain text."""
        return [self._verdict(), *map(self._metric, HEADLINE), self._basis(), *self._apart()]

    def to_json(self) -> dict[str, Any]:
        """For machines; ``better`` is "a", "b" or null."""
        return {
            "better": self.better or None,
            "questions": self.questions,
            "shoppers": self.shoppers,
            "differences": {name: asdict(each) for name, each in self.differences.items()},
            "words": self.words(),
            "a": self.a.to_json(),
            "b": self.b.to_json(),
        }

    def page(self) -> str:
        """One HTML file, as a report is."""
        runs = self.a.result, self.b.result
        metrics = [{each.name: each.metrics for each in run.contenders} for run in runs]
        names = dict.fromkeys(name for held in metrics for name in held)
        titles = " · ".join(
            f"{letter}: {short(run.title, _NAME)}" for letter, run in zip("AB", runs, strict=True)
        )
        asked, of = counted(self.questions, "question"), counted(self.shoppers, "shopper")
        return page(
            "compare.html",
            title=f"{self.name('a')} and {self.name('b')}",
            facts=f"{titles} · paired on {asked} of {of}",
            better=self.better,
            sentences=self.words(),
            headline=HEADLINE,
            plots=[difference(metric, each) for metric, each in self.differences.items()],
            both=[(name, *(held.get(name, {}) for held in metrics)) for name in names],
            sides=[("a", self.a), ("b", self.b)],
        )

    def name(self, side: str) -> str:
        """The run's letter and its contender: "A (mix-up)"."""
        contender = (self.a if side == "a" else self.b).contender
        return f"{side.upper()} ({short(contender, _NAME)})"

    def _verdict(self) -> str:
        if self.better:
            other = "a" if self.better == "b" else "b"
            return f"{self.name(self.better)} is better than {self.name(other)}."
        found = {finding(each) for each in self.differences.values()}
        if Finding.BETTER in found:  # and worse, by the other metric
            return f"The metrics disagree on {self.name('a')} and {self.name('b')}."
        return f"The data cannot tell {self.name('b')} from {self.name('a')}."

    def _metric(self, metric: str) -> str:
        of = unit(metric)
        means = [number(side.means[metric] * of.scale, of.decimals) for side in (self.a, self.b)]
        said = interval(self.differences[metric], of, signed=True)
        told = {
            Finding.BETTER: "B is better",
            Finding.WORSE: "A is better",
            Finding.OPEN: "the data cannot tell",
        }[finding(self.differences[metric])]
        hundred = " of 100" if metric == HITS else ""
        return f"{metric}: A {means[0]}{hundred}, B {means[1]}; B less A is {said}: {told}."

    def _basis(self) -> str:
        asked, of = counted(self.questions, "question"), counted(self.shoppers, "shopper")
        told = f"Paired on {asked} of {of} that both were asked"
        alone = [
            f"{letter} was asked {counted(side.questions - self.questions, 'other')}"
            for letter, side in (("A", self.a), ("B", self.b))
            if side.questions > self.questions
        ]
        return f"{'; '.join([told, *alone])}."

    def _apart(self) -> list[str]:
        """What makes the two runs unlike, beside their contenders."""
        a, b = self.a.result, self.b.result
        told = []
        if a.protocol.name != b.protocol.name:
            told.append(
                f"The protocols differ, {short(a.protocol.name)} and {short(b.protocol.name)}: "
                "what could be learnt before a question is not the same."
            )
        told += dict.fromkeys(
            f"Mind the protocol: {short(each.protocol.warning)}"
            for each in (a, b)
            if each.protocol.warning
        )
        return told


@dataclass(frozen=True, slots=True)
class _Answers:
    """``questions`` (q,) uint64, ``shoppers`` (q,) groups from 0, ``metrics`` (q,) each."""

    questions: NDArray[np.uint64]
    shoppers: Groups
    metrics: dict[str, Values]

    def at(self, places: NDArray[np.int64]) -> dict[str, Values]:
        """The metrics of some questions."""
        return {name: values[places] for name, values in self.metrics.items()}


def compare(a: Path, b: Path, of_a: str = "", of_b: str = "", seed: int = 0) -> Comparison:
    """Two replays' folders; of each its first live contender, or the one named.

    Raises ``InvalidFile`` where a folder holds no replay, the data differ, no contender has that
    name, or no question was asked in both.
    """
    results = result.read(a), result.read(b)
    _same_data(*results)
    names = _chosen(results[0], of_a, a), _chosen(results[1], of_b, b)
    answers = [_read(*each) for each in zip((a, b), results, names, strict=True)]
    shared, at_a, at_b = np.intersect1d(
        answers[0].questions, answers[1].questions, assume_unique=True, return_indices=True
    )
    if not len(shared):
        raise InvalidFile(f"no question of {a} was asked in {b}: their times or shoppers differ")
    groups = np.unique(answers[0].shoppers[at_a], return_inverse=True)[1].astype(np.int64)
    old, new = answers[0].at(at_a), answers[1].at(at_b)
    return Comparison(
        Side(results[0], names[0], _means(old), len(answers[0].questions)),
        Side(results[1], names[1], _means(new), len(answers[1].questions)),
        len(shared),
        int(groups.max()) + 1,
        _differences(old, new, groups % _GROUPS, seed),
    )


def _differences(
    old: dict[str, Values], new: dict[str, Values], groups: Groups, seed: int
) -> dict[str, Interval]:
    """``new`` less ``old`` on the same questions, HEADLINE; shoppers are drawn, not questions."""
    told = [np.bincount(groups, new[metric] - old[metric]) for metric in HEADLINE]
    sums = np.stack(told, axis=1).astype(np.float64)
    sizes = np.stack([np.bincount(groups)] * len(HEADLINE), axis=1).astype(np.float64)
    return dict(zip(HEADLINE, bootstrap_sums(sums, sizes, seed), strict=True))


def _means(metrics: dict[str, Values]) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in metrics.items()}


def _same_data(a: Result, b: Result) -> None:
    if a.data.fingerprint != b.data.fingerprint:
        raise InvalidFile(
            "the two replays are of different data: their fingerprints are "
            f"{short(a.data.fingerprint, 12)} and {short(b.data.fingerprint, 12)}; "
            "replay both over the same log"
        )


def _chosen(told: Result, asked: str, folder: Path) -> str:
    names = [each.name for each in told.contenders]
    if not names:
        raise InvalidFile(f"{folder} has no contender")
    if asked:
        if asked not in names:
            raise InvalidFile(f"{folder} has no contender {asked!r}; it has {', '.join(names)}")
        return asked
    return next((each.name for each in told.contenders if each.kind == "live"), names[0])


def _read(folder: Path, told: Result, name: str) -> _Answers:
    """The answers of one contender. Raises ``InvalidFile``."""
    file = (folder if folder.is_dir() else folder.parent) / ANSWERS
    place = [each.name for each in told.contenders].index(name)
    try:
        with np.load(file, allow_pickle=False) as arrays:
            questions, shoppers = arrays["questions"], arrays["shoppers"]
            metrics = {
                metric: np.asarray(arrays[f"{array}_{place}"], dtype=np.float64)
                for metric, array in _ARRAYS.items()
            }
    except FileNotFoundError as error:
        raise InvalidFile(f"{file} is missing: run that replay again") from error
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InvalidFile(f"{file} is damaged: {type(error).__name__}: {error}") from error
    _check(file, questions, [shoppers, *metrics.values()])
    return _Answers(questions, shoppers, metrics)


def _check(file: Path, questions: NDArray[Any], others: list[NDArray[Any]]) -> None:
    if any(each.shape != questions.shape or each.ndim != 1 for each in others):
        raise InvalidFile(f"{file} is damaged: its arrays are not of one length")
    if len(np.unique(questions)) != len(questions):
        raise InvalidFile(f"{file} is damaged: a question is there twice")
    if not all(np.isfinite(each).all() for each in others[1:]):
        raise InvalidFile(f"{file} is damaged: a metric is not a number")
