"""What contenders answered, measured and written down as one result with its report."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np

from models.evaluation.intervals import Interval
from models.weights import cpu
from stream.replay.measure import measure
from stream.replay.measure.examples import examples
from stream.replay.measure.measure import Measure, Measured
from stream.replay.questions.answers import Answers
from stream.replay.questions.prepare import Prepared, Request
from stream.replay.report.report import report
from stream.replay.result import result
from stream.replay.result.result import Contender, Data, Protocol, Result

_LIBRARIES: Final = ("torch", "numpy", "qdrant-edge-py", "onnxruntime", "transformers", "peft")


@dataclass(frozen=True, slots=True)
class Answered:
    """A contender when it has answered. ``kind`` is live, baseline or variant."""

    name: str
    kind: str
    words: str
    answers: Answers
    seconds: float


def finished(
    request: Request, prepared: Prepared, asked: Sequence[Answered], seconds: float,
    *, reference: str = "", notes: Sequence[str] = (),
) -> Result:  # fmt: skip
    """Measures all and writes the report's folder.

    ``reference``: what gains are over; by default the baseline that found most here, which flatters
    nobody else, or without one the first contender.
    """
    how = Measure(prepared.log, prepared.asked)
    measured = [how.of(each.answers) for each in asked]
    reference = reference or _strongest(asked, measured)
    told = _contenders(request, asked, measured, reference)
    whole = _result(request, prepared, told, asked, reference, seconds, notes)
    result.write(whole, request.report)
    _write_answers(request, prepared, measured)
    (request.report / result.REPORT).write_text(report(whole), "utf-8")
    return whole


def _contenders(
    request: Request, asked: Sequence[Answered], measured: Sequence[Measured], reference: str
) -> list[Contender]:
    first = measured[[each.name for each in asked].index(reference)]
    told = []
    for each, found in zip(asked, measured, strict=True):
        own, gained, slices = measure.measured(found.sums, first.sums, request.seed)
        own |= {name: Interval(value, value, value) for name, value in found.overall.items()}
        own = {name: value for name, value in own.items() if math.isfinite(value.mean)}
        ms = each.answers.ms[np.isfinite(each.answers.ms)]
        latency = {} if not len(ms) else {
            f"p{p}": float(np.percentile(ms, p)) for p in (50, 95, 99)
        }  # fmt: skip
        told.append(
            Contender(
                each.name, each.kind, each.words, own, gained, slices, latency,
                float(each.answers.reranked.mean()), found.ties, each.seconds,
            )
        )  # fmt: skip
    return told


def _strongest(asked: Sequence[Answered], measured: Sequence[Measured]) -> str:
    """By NDCG@10."""
    found = {
        each.name: float(told.headline["NDCG@10"].mean())
        for each, told in zip(asked, measured, strict=True)
        if each.kind == "baseline"
    }
    return max(found, key=lambda name: found[name]) if found else asked[0].name


def _result(
    request: Request, prepared: Prepared, told: Sequence[Contender], asked: Sequence[Answered],
    reference: str, seconds: float, notes: Sequence[str],
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
        machine=f"{os.cpu_count()} cores, {cpu.name()}",
        data=data,
        protocol=protocol,
        reference=reference,
        contenders=tuple(told),
        examples=examples(prepared, [(each.name, each.answers) for each in asked], request.seed),
        notes=(*notes, *_notes(request, prepared)),
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
    if cut.held_out_categories:
        notes.append(
            f"Held out of a bundle's training: {', '.join(sorted(cut.held_out_categories))}. "
            "Baselines may learn from these."
        )
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
