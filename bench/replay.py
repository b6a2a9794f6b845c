"""A replay's own cost: its time beside that of the models and index calls on the same questions.

    python -m bench.replay [--shoppers 300] [--llm] [--json]

The sample shop's log is replayed prequentially in this process, the catalogue already indexed. Bare
are the same batches of histories through the space and the index alone: the items' vectors, what to
look for, one search a list. With --llm the demo's bundle reranks every list, and bare is
the time inside its reranker. A third figure is the report of 20,000 shoppers' answers.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.frame import load_here, parsed, show
from models.domain import History, Recommendation
from models.ports import Deadline
from stream.assemble import Parts, assemble, cached_encoder
from stream.bundles.library import SHIPPED
from stream.demo.sample.catalogue import shop
from stream.demo.sample.files import write
from stream.replay.finish import Answered, finished
from stream.replay.play.checkpoint import Store
from stream.replay.play.driver import Driver, Plan
from stream.replay.play.in_process import InProcess
from stream.replay.play.memo_index import REMEMBERING
from stream.replay.questions.answers import KEPT, Answers
from stream.replay.questions.baskets import Baskets
from stream.replay.questions.prepare import Live, Prepared, Request, prepare
from stream.settings import load

REPORTED = 20_000


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds by the clock, and of the CPU: where others work on the machine these say more."""

    seconds: float = 0.0
    cpu: float = 0.0

    @classmethod
    def so_far(cls) -> Spent:
        """Of this process, all its threads."""
        return cls(time.perf_counter(), time.process_time())

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.seconds + other.seconds, self.cpu + other.cpu)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.seconds - other.seconds, self.cpu - other.cpu)


class Recorded:
    """The live serving, with what it was asked."""

    def __init__(self, live: Any) -> None:
        self.live = live
        self.asked: list[Sequence[History]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.live, name)

    def recommend(self, histories: Sequence[History], deadline: Deadline) -> list[Recommendation]:
        self.asked.append(histories)
        made: list[Recommendation] = self.live.recommend(histories, deadline)
        return made


class TimedReranker:
    """A reranker with what was spent inside it."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.spent = Spent()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def score(self, requests: Any, deadline: Deadline) -> Any:
        began = Spent.so_far()
        try:
            return self.inner.score(requests, deadline)
        finally:
            self.spent += Spent.so_far() - began


def request_of(folder: Path, shoppers: int, llm: bool) -> Request:
    write(folder, shop(0), 0, shoppers, 28)
    settings = load(rerank="always" if llm else "never")
    return Request(
        folder / "events.jsonl.gz", folder / "catalog.jsonl.gz",
        replace(settings, list_size=KEPT, partitions=1), folder / "report",
        (Live("live", str(SHIPPED / "demo") if llm else "", settings.rerank),),
    )  # fmt: skip


def prepared_of(request: Request) -> Prepared:
    encoder = cached_encoder(request.settings, print)
    try:
        return prepare(request, encoder, print)
    finally:
        encoder.close()


async def replayed(request: Request, prepared: Prepared, parts: Parts, folder: Path) -> Spent:
    """From the first event to the last list; products are in before."""
    rows = {item_id: row for row, item_id in enumerate(prepared.log.item_ids, 1)}
    store = Store(folder / "store.sqlite")
    stage = InProcess(request.settings, parts, store, rows)
    asked = prepared.asked
    answers = Answers(folder / "answers", asked.baskets)
    entered = [entry.record for entry in prepared.products if entry.ts < asked.until]
    await stage.enter(entered, asked.until)
    plan = Plan(prepared.spool, prepared.log, asked.baskets, (), asked.until, 256)
    began = Spent.so_far()
    await Driver(plan, stage, answers, lambda _place: None, lambda _done, _all: None).run()
    spent = Spent.so_far() - began
    await stage.stop()
    store.close()
    return spent


def bare(request: Request, index_folder: Path, asked: Sequence[Sequence[History]]) -> Spent:
    """What it takes of the space and the index as a worker has them, on the same batches."""
    parts = assemble(request.settings, print, index_folder)
    space, index = parts.space, parts.index
    began = Spent.so_far()
    for histories in asked:
        steps = [step for history in histories for step in history.steps]
        held = index.get(list(dict.fromkeys(step.item_id for step in steps if step.item_id)))
        items = {i: stored.vector for i, stored in held.items() if stored.vector is not None}
        queries = space.query_vectors(list(dict.fromkeys(s.query for s in steps if s.query)))
        vectors = [v for v in space.shopper_vectors(histories, items, queries) if v is not None]
        if vectors:
            index.search(np.stack(vectors), KEPT)
    spent = Spent.so_far() - began
    parts.close()
    return spent


def reported(folder: Path, prepared: Prepared, request: Request) -> Spent:
    """To measure and write the report of REPORTED shoppers' answers, drawn by chance."""
    log = copy(prepared.log)
    rng = np.random.default_rng(0)
    alike = np.arange(REPORTED) % log.shoppers  # whose history each one has
    shoppers, log.users = np.arange(REPORTED), np.arange(REPORTED, dtype=np.uint64)
    starts = log.offsets[:-1][alike]
    ends = np.minimum(starts + 3, log.offsets[1:][alike])
    targets = rng.integers(1, log.items + 1, REPORTED)
    baskets = Baskets(
        shoppers, np.sort(rng.integers(log.summary.first_ts, log.summary.last_ts, REPORTED)),
        starts, ends, targets, np.arange(REPORTED + 1),
    )  # fmt: skip
    some = replace(prepared, log=log, asked=replace(prepared.asked, baskets=baskets))
    answers = Answers(folder / "reported", baskets)
    answers.lists[:] = rng.integers(1, log.items + 1, (REPORTED, KEPT))
    answers.ranks[:] = np.where(rng.random(REPORTED) < 0.3, rng.integers(0, KEPT, REPORTED), np.inf)
    answers.answered[:] = 1
    contenders = [Answered(name, "variant", "drawn", answers, 0.0) for name in ("one", "two")]
    began = Spent.so_far()
    finished(request, some, contenders, 0.0)
    return Spent.so_far() - began


def rows_of(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        request = request_of(folder, args.shoppers, args.llm)
        request.report.mkdir()
        prepared = prepared_of(request)
        bundle = Path(request.lives[0].bundle) if request.lives[0].bundle else None
        parts = assemble(request.settings, print, folder / "index", bundle, REMEMBERING)
        live = Recorded(parts.live)
        reranker = None
        if args.llm:
            recommender: Any = parts.live.current.recommender
            reranker = recommender._reranker = TimedReranker(recommender._reranker)
        recorded = replace(parts, live=live)  # type: ignore[arg-type]
        spent = asyncio.run(replayed(request, prepared, recorded, folder))
        parts.close()
        alone = reranker.spent if reranker else bare(request, folder / "index", live.asked)
        lists = sum(map(len, live.asked))
        yield {
            "what": "replay with the LLM" if args.llm else "replay",
            "events": len(prepared.spool), "questions": len(prepared.asked.baskets),
            "lists": lists, "seconds": round(spent.seconds, 2),
            "bare_seconds": round(alone.seconds, 2), "cpu_seconds": round(spent.cpu, 2),
            "bare_cpu_seconds": round(alone.cpu, 2),
            "ratio": round(spent.seconds / alone.seconds, 2),
            "cpu_ratio": round(spent.cpu / alone.cpu, 2), "target_ratio": 1.2 if args.llm else 2.0,
            **load_here(),
        }  # fmt: skip
        if not args.llm:
            spent = reported(folder, prepared, request)
            yield {"what": "report", "shoppers": REPORTED, "contenders": 2,
                   "seconds": round(spent.seconds, 1), "cpu_seconds": round(spent.cpu, 1),
                   "target_seconds": 20}  # fmt: skip


def main() -> None:
    args = parsed(__doc__, shoppers=300, llm=False)
    show({row.pop("what"): row for row in rows_of(args)}, args.json)


if __name__ == "__main__":
    main()
