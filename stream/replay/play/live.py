"""One live contender: the processors and models of a worker, driven through the prepared log."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from models.atomic_folder import Say
from models.bundle.files import read_manifest
from stream.assemble import assemble, cached_encoder
from stream.replay.play.checkpoint import Store
from stream.replay.play.driver import Driver, Plan, Progress
from stream.replay.play.in_process import InProcess
from stream.replay.play.memo_index import REMEMBERING
from stream.replay.questions import protocols
from stream.replay.questions.answers import KEPT, Answers
from stream.replay.questions.prepare import Live, Prepared, Request, prepare
from stream.settings import Settings

#: Lists that the models make at a time: without the LLM, with it.
_LISTS: Final = 256
_RERANKED: Final = 64


def play(request: Request, live: Live, prepared: Prepared, say: Say, progress: Progress) -> Answers:
    """Feeds and asks; goes on where it was killed. The answers lie under the work folder.

    Raises ``Fatal`` errors that say what is missing.
    """
    folder = folder_of(request, live)
    answers = Answers(folder / "answers", prepared.asked.baskets)
    if request.jobs == 1:
        _job(request, live, prepared, 0, say, progress)
        return answers
    context = get_context("spawn")  # threads and models do not survive a fork
    workers = [
        context.Process(target=_apart, args=(request, live, job)) for job in range(request.jobs)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("weft: a job of the replay failed; start it again to go on")
    return Answers(folder / "answers", prepared.asked.baskets)


def folder_of(request: Request, live: Live) -> Path:
    """Where a contender's state and answers lie. Raises ``BundleInvalid``."""
    made_by = read_manifest(Path(live.bundle)).id if live.bundle else "zero-shot"
    return request.asked_in / f"live-{made_by}-{live.rerank}"


def settings_of(request: Request, live: Live) -> Settings:
    """The worker's settings: lists as long as is measured, one partition, an index of its own."""
    return replace(
        request.settings, bundle=live.bundle or "none", rerank=live.rerank, list_size=KEPT,
        partitions=1, index="edge",
    )  # fmt: skip


def _apart(request: Request, live: Live, job: int) -> None:
    """One job in a process of its own."""
    settings = replace(request.settings, threads=request.settings.threads or 1)
    encoder = cached_encoder(settings, _quiet)
    prepared = prepare(request, encoder, _quiet)
    encoder.close()
    request = replace(request, settings=settings)
    _job(request, live, prepared, job, _quiet, lambda _done, _all: None)


def _job(
    request: Request, live: Live, prepared: Prepared, job: int, say: Say, progress: Progress
) -> None:
    folder = folder_of(request, live)
    answers = Answers(folder / "answers", prepared.asked.baskets)
    asyncio.run(_drive(request, live, prepared, job, answers, say, progress))


async def _drive(
    request: Request, live: Live, prepared: Prepared, job: int, answers: Answers, say: Say,
    progress: Progress,
) -> None:  # fmt: skip
    settings = settings_of(request, live)
    home = folder_of(request, live) / f"job-{job}-of-{request.jobs}"
    index = home / "index"
    if prepared.dated:  # it may hold what entered after the checkpoint
        shutil.rmtree(index, ignore_errors=True)
    rows = {item_id: row for row, item_id in enumerate(prepared.log.item_ids, 1)}
    store = Store(home / "store.sqlite")
    bundle = Path(live.bundle) if live.bundle else None
    parts = await asyncio.to_thread(assemble, settings, say, index, bundle, REMEMBERING)
    try:
        if (told := store.mark("popularity")) is not None:
            parts.popularity.restore(told.decode())
        if parts.memory is not None and (told := store.mark("memory")) is not None:
            parts.memory.restore(told.decode())
        wants = parts.live.wants_rerank
        stage = InProcess(settings, parts, store, rows, _RERANKED if wants else _LISTS)
        if (told := store.mark("overlooked")) is not None:
            stage.overlooked.restore(told.decode())

        def checkpoint(place: int) -> None:
            marks = {"popularity": parts.popularity.dump(), "place": str(place),
                     "overlooked": stage.overlooked.dump()}  # fmt: skip
            if parts.memory is not None:
                marks["memory"] = parts.memory.dump()
            store.checkpoint(**{name: value.encode() for name, value in marks.items()})

        plan = plan_of(request, prepared, job, _RERANKED if wants else _LISTS)
        place = int(store.mark("place") or b"0")
        try:
            await Driver(plan, stage, answers, checkpoint, progress, place).run()
        finally:
            await stage.stop()
    finally:
        store.close()
        parts.close()


def plan_of(request: Request, prepared: Prepared, job: int, batch: int) -> Plan:
    """What one job feeds and asks."""
    asked = prepared.asked
    mine = prepared.taking_part(job, request.jobs, some=bool(request.shoppers))
    baskets = asked.baskets
    return Plan(
        prepared.spool, prepared.log, baskets, prepared.products, asked.until, batch,
        protocols.held_out(asked, prepared.log, prepared.spool), mine,
        protocols.grouped(asked, prepared.spool, mine),
    )  # fmt: skip


def _quiet(_words: str) -> None:
    """Jobs say nothing: the first process tells how far they are."""
