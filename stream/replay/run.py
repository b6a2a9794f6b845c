"""A whole replay: every contender asked the same questions, measured, written down.

files ──▶ prepared ──▶ live contenders ─┐
              │                         ├──▶ answers ──▶ metrics ──▶ result.json, report.html
              └──────▶ baselines ───────┘
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np

from models.evaluation import Interval
from models.making import Say
from models.ports import TitleEncoder
from stream.replay import measure, result
from stream.replay.answers import Answers
from stream.replay.asking import answered_by
from stream.replay.driver import Progress
from stream.replay.examples import examples
from stream.replay.live import play
from stream.replay.measure import Measure, Measured
from stream.replay.prepare import Live, Prepared, Request, prepare
from stream.replay.report import report
from stream.replay.result import Contender, Data, Protocol, Result

_LIBRARIES: Final = ("torch", "numpy", "qdrant-edge-py", "onnxruntime", "transformers", "peft")

#: Gives each contender, by its name, something to show its progress with.
Bars = Callable[[str], Progress]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A contender when it has answered."""

    name: str
    kind: str
    words: str
    answers: Answers
    seconds: float


def replay(request: Request, encoder: TitleEncoder, say: Say, bar: Bars) -> Result:
    """Runs what was not run before, and writes the report's folder.

    Raises ``InvalidFile`` where there is nothing to ask; ``Fatal`` errors of the live code.
    """
    began = time.monotonic()
    prepared = prepare(request, encoder, say)
    say(f"{len(prepared.asked.baskets):,} questions; {prepared.asked.words}")
    if prepared.asked.warning:
        say(prepared.asked.warning)
    asked = [_live(request, live, prepared, say, bar) for live in request.lives]
    for name in request.baselines:
        found = _baseline(request, name, prepared, say, bar)
        asked += [] if found is None else [found]
    say("measuring")
    told, measured = _measured(request, prepared, asked)
    whole = _result(request, prepared, told, asked, time.monotonic() - began)
    result.write(whole, request.report)
    _write_answers(request, prepared, measured)
    (request.report / result.REPORT).write_text(report(whole), "utf-8")
    return whole


def _live(request: Request, live: Live, prepared: Prepared, say: Say, bar: Bars) -> _Asked:
    say(f"{live.name}: through {request.through}")
    began = time.monotonic()
    answers = play(request, live, prepared, say, bar(live.name))
    words = "the live processors"
    if request.through != "process":
        words += ", behind a broker"
    words += "; no bundle" if not live.bundle else f"; the bundle {live.bundle}"
    words += {"gate": ", the LLM by its gate", "always": ", the LLM always", "never": ", no LLM"}[
        live.rerank
    ]
    return _Asked(live.name, "live", words, answers, time.monotonic() - began)


def _baseline(
    request: Request, name: str, prepared: Prepared, say: Say, bar: Bars
) -> _Asked | None:
    """None where what it needs is not installed, which is said."""
    say(f"{name}: fitted, tuned on validation, and asked")
    began = time.monotonic()
    found = answered_by(name, request, prepared, say, bar(name))
    if found is None:
        return None
    words, answers = found
    return _Asked(name, "baseline", words, answers, time.monotonic() - began)


def _measured(
    request: Request, prepared: Prepared, asked: Sequence[_Asked]
) -> tuple[list[Contender], list[Measured]]:
    how = Measure(prepared.log, prepared.asked)
    measured = [how.of(each.answers) for each in asked]
    first = measured[_reference(asked)]
    told = []
    for each, found in zip(asked, measured, strict=True):
        own, slices = measure.split(measure.intervals(found.sums, request.seed), found.sums)
        own |= {name: Interval(value, value, value) for name, value in found.overall.items()}
        ms = each.answers.ms[np.isfinite(each.answers.ms)]
        latency = {} if not len(ms) else {
            f"p{p}": float(np.percentile(ms, p)) for p in (50, 95, 99)
        }  # fmt: skip
        told.append(
            Contender(
                each.name, each.kind, each.words, own,
                measure.gains(found.sums, first.sums, request.seed), slices, latency,
                float(each.answers.reranked.mean()), found.ties, each.seconds,
            )
        )  # fmt: skip
    return told, measured


def _reference(asked: Sequence[_Asked]) -> int:
    """What gains are over: the first baseline, else the first contender."""
    kinds = [each.kind for each in asked]
    return kinds.index("baseline") if "baseline" in kinds else 0


def _result(
    request: Request, prepared: Prepared, told: Sequence[Contender], asked: Sequence[_Asked],
    seconds: float,
) -> Result:  # fmt: skip
    log, cut = prepared.log, prepared.asked
    summary = log.summary
    data = Data(
        request.events.name, request.catalog.name, summary.fingerprint, log.shoppers, log.items,
        summary.events, summary.first_ts, summary.last_ts, prepared.set_aside,
        summary.unknown_items,
    )  # fmt: skip
    protocol = Protocol(
        cut.name, cut.words, len(cut.baskets), len(cut.baskets.targets), cut.first, cut.until,
        cut.warning, cut.apart,
    )  # fmt: skip
    return Result(
        title=request.title or f"Replay of {request.events.name}",
        command=request.command,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=request.seed,
        versions={"weft": importlib.metadata.version("weft"),
                  "python": platform.python_version(),
                  **{name: importlib.metadata.version(name) for name in _LIBRARIES}},
        machine=machine(),
        data=data,
        protocol=protocol,
        reference=asked[_reference(asked)].name,
        contenders=tuple(told),
        examples=examples(prepared, [(each.name, each.answers) for each in asked], request.seed),
        notes=_notes(request, prepared),
        seconds=seconds,
    )  # fmt: skip


def _notes(request: Request, prepared: Prepared) -> tuple[str, ...]:
    notes = []
    cut = prepared.asked
    if request.shoppers:
        count = len(np.unique(cut.baskets.shoppers))
        notes.append(f"A sample: {count:,} shoppers are asked; popularity is everybody's.")
    if cut.apart:
        notes.append(
            f"{cut.apart:,} of {len(cut.baskets):,} last events have a ts of their own; the others "
            "share it with the event before, and the file's order decides which is asked."
        )
    if request.protocol != "last":
        notes.append("A shopper's first basket is never asked: there is no list before it.")
    if not prepared.dated:
        notes.append("The catalogue names no times of entry: all products are there all along.")
    return tuple(notes)


def _write_answers(request: Request, prepared: Prepared, measured: Sequence[Measured]) -> None:
    """Each question's headline, for ``weft replay --compare``."""
    baskets = prepared.asked.baskets
    users = prepared.log.users[baskets.shoppers]
    told: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {
        "questions": users ^ (baskets.ts.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)),
        "shoppers": users,
    }
    for number, found in enumerate(measured):
        told[f"hr10_{number}"] = found.headline["HR@10"]
        told[f"ndcg10_{number}"] = found.headline["NDCG@10"]
    with (request.report / result.ANSWERS).open("wb") as file:
        np.savez_compressed(file, **told)  # type: ignore[arg-type]


def machine() -> str:
    """What ran it, without its name."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as told:
            model = next(
                (line.split(":", 1)[1].strip() for line in told if line.startswith("model name")),
                model,
            )
    except OSError:
        pass
    return f"{os.cpu_count()} cores, {model}"
