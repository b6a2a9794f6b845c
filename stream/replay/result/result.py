"""What a replay found, as it is written to ``result.json`` and read by the report.

A folder of a replay holds ``result.json`` (this), ``answers.npz`` (each question's metrics, for a
paired comparison with another replay) and ``report.html`` (the same for people).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from models.errors import InvalidFile
from models.evaluation.intervals import Interval

RESULT: Final = "result.json"
ANSWERS: Final = "answers.npz"
REPORT: Final = "report.html"

#: Grows when a reader of an older file would misread a newer one.
VERSION: Final = 1

#: The metrics of a slice and of a paired difference; a contender's own has all of them.
HEADLINE: Final = ("HR@10", "NDCG@10")


@dataclass(frozen=True, slots=True)
class Slice:
    """Some of the questions: ``of`` is what they are cut by, ``name`` which they are.

    ``gains``: the paired difference from the replay's reference on these questions, HEADLINE.
    """

    of: str  # e.g. "item's age", "shopper's events", "category", "query"
    name: str  # e.g. "cold"
    questions: int
    metrics: dict[str, Interval]  # HEADLINE
    gains: dict[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Contender:
    """One recommender's answers, measured.

    ``metrics``: by name, "HR@5" to "MAP@100", "novelty@10" and the rest; those that one number
    over all lists makes (coverage, Gini, head share) have no interval: low = mean = high.
    ``gains``: the paired difference from the replay's reference, HEADLINE. ``latency_ms``: of a
    list, percentiles "p50", "p95", "p99"; empty where lists are made many at once.
    """

    name: str
    kind: str  # "live", "baseline" or "variant"
    words: str  # one line: what it is, and what tuning chose
    metrics: dict[str, Interval]
    gains: dict[str, Interval]
    slices: tuple[Slice, ...] = ()
    latency_ms: dict[str, float] = field(default_factory=dict)
    reranked: float = 0.0  # share of the lists that the LLM took part in
    ties: float = 0.0  # share of the targets whose rank is shared with another item
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ExampleStep:
    """One line of a shopper's history: an item's title, or a search's words."""

    kind: str  # click, purchase, search
    text: str
    ts: int


@dataclass(frozen=True, slots=True)
class ExampleList:
    """The newest list of a contender before the question: titles, best first."""

    contender: str
    titles: tuple[str, ...]
    reasons: tuple[str, ...]
    hits: tuple[bool, ...]  # whether each line is one of the targets


@dataclass(frozen=True, slots=True)
class Example:
    """A shopper at one question, under a made-up label: ids are not shown."""

    label: str
    history: tuple[ExampleStep, ...]
    lists: tuple[ExampleList, ...]
    targets: tuple[str, ...]  # titles of what came next


@dataclass(frozen=True, slots=True)
class Data:
    """What was replayed. ``fingerprint`` is a sha256 of the log as it was read."""

    events_file: str
    catalog_file: str
    fingerprint: str
    shoppers: int
    items: int
    events: int
    first_ts: int
    last_ts: int
    set_aside: int  # rows that could not be used
    unknown_items: int  # events of items that the catalogue does not have


@dataclass(frozen=True, slots=True)
class Protocol:
    """How it was asked. ``warning`` is plain words on what leaks, "" where nothing does."""

    name: str  # prequential, time, last
    words: str
    questions: int
    targets: int
    asked_from: int  # epoch ms
    asked_until: int
    warning: str = ""
    without_tie: int = 0  # leave-one-out: shoppers whose last two events differ in ts


@dataclass(frozen=True, slots=True)
class Result:
    """A whole replay. ``contenders`` in the order in which they were asked."""

    title: str
    command: str
    made_at: str  # ISO 8601, UTC
    seed: int
    versions: dict[str, str]
    machine: str
    data: Data
    protocol: Protocol
    reference: str  # a contender's name: what gains are over
    contenders: tuple[Contender, ...]
    examples: tuple[Example, ...] = ()
    notes: tuple[str, ...] = ()  # what the reader has to know: a sample, a limit, a substitute
    seconds: float = 0.0
    version: int = VERSION

    def contender(self, name: str) -> Contender:
        """The one of that name. Raises ``KeyError``."""
        found = {each.name: each for each in self.contenders}
        return found[name]


def write(result: Result, folder: Path) -> None:
    """Writes ``result.json``."""
    told = orjson.dumps(asdict(result), option=orjson.OPT_INDENT_2)
    (folder / RESULT).write_bytes(told + b"\n")


def read(folder: Path) -> Result:
    """Reads it back. Raises ``InvalidFile`` with what is wrong."""
    file = folder / RESULT if folder.is_dir() else folder
    try:
        told = orjson.loads(file.read_bytes())
    except OSError as error:
        raise InvalidFile(f"no replay in {folder}: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise InvalidFile(f"{file} is not JSON: {error}") from error
    if not isinstance(told, dict) or told.get("version") != VERSION:
        raise InvalidFile(f"{file} is no result of this release's `weft replay`: run it again")
    try:
        return _result(told)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InvalidFile(f"{file} is damaged: {type(error).__name__}: {error}") from error


def _result(told: dict[str, Any]) -> Result:
    return Result(
        **{
            **told,
            "data": Data(**told["data"]),
            "protocol": Protocol(**told["protocol"]),
            "contenders": tuple(_contender(each) for each in told["contenders"]),
            "examples": tuple(_example(each) for each in told["examples"]),
            "notes": tuple(told["notes"]),
        }
    )


def _contender(told: dict[str, Any]) -> Contender:
    slices = tuple(Slice(**{**each, **_both(each)}) for each in told["slices"])
    return Contender(**{**told, **_both(told), "slices": slices})


def _both(told: dict[str, Any]) -> dict[str, dict[str, Interval]]:
    return {name: _intervals(told[name]) for name in ("metrics", "gains")}


def _intervals(told: dict[str, Any]) -> dict[str, Interval]:
    return {name: Interval(**value) for name, value in told.items()}


def _example(told: dict[str, Any]) -> Example:
    lists = tuple(
        ExampleList(
            each["contender"], tuple(each["titles"]), tuple(each["reasons"]), tuple(each["hits"])
        )
        for each in told["lists"]
    )
    history = tuple(ExampleStep(**step) for step in told["history"])
    return Example(told["label"], history, lists, tuple(told["targets"]))
