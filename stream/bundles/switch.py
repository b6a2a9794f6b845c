"""Which bundle serves: follows the control topic, and switches over without a gap.

    desired state ─▶ load and check ─▶ second index, filled from ``products`` ─▶ complete ─▶ swap
                     old serving answers all the while ─────────────────────────────▶ closed

Only a swap between two batches changes what a batch sees, and it changes space, index and
reranker at once. What fails before it leaves everything as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from models.errors import BundleInvalid, DamagedWeights, MissingWeights, RetryLater, WeftError
from stream.bundles import library
from stream.bundles.control_topic import (
    BEAT,
    HEARD_WITHIN,
    ControlReader,
    Desired,
    Report,
    State,
    farewell_record,
    report_record,
    worker_name,
)
from stream.bundles.fill import Filling
from stream.contracts.topics import TopicNames
from stream.index.collections import Shelves
from stream.kafka.delivery import Delivery, Record
from stream.serving import Live, Serving
from stream.settings import Settings

_log = logging.getLogger("weft.bundles")

_LOOK: Final = 0.25  # seconds between looks whether the second index is complete
_TELL: Final = 2.0  # seconds between reports while embedding
_WAIT: Final = 5.0  # seconds between tries where the broker or the index is away
_LETTERS: Final = 5.0  # seconds at most for the old feed to reach what the new one has passed
#: What the choice of a bundle can be to blame for; other errors end a worker as ever.
UNUSABLE: Final = (BundleInvalid, MissingWeights, DamagedWeights)


class Host(Protocol):
    """What the switch asks of the worker."""

    def load(self, bundle: Path | None) -> Serving:
        """The serving of a bundle, its index opened. Blocks. Raises ``WeftError``."""

    def fill(self, serving: Serving, *, heard: bool) -> Filling:
        """Its feed, not started yet."""


def first_choices(
    settings: Settings, control: ControlReader, shelves: Shelves, patience: float = HEARD_WITHIN
) -> Iterator[Path | None]:
    """What a worker may start with, the best first; None is the zero-shot space.

    What served last here comes first, as long as its index is still there: what is desired
    meanwhile is then switched to like any other. ``patience`` is how many seconds it listens at
    most for who else runs. Blocks. Raises ``BundleInvalid`` where the setting ``bundle`` names
    none, ``IndexUnavailable``, ``BrokerUnavailable``.
    """
    if settings.bundle:
        fixed = settings.bundle == library.NONE
        yield None if fixed else library.locate(settings.bundle, library.folders(settings))
        return
    desired = control.desired or Desired("", "", "")
    asked: list[tuple[str, str]] = []
    if (last := shelves.last()) is not None:
        asked.append(last)
    elif shelves.shared:
        asked += _others(control, desired, patience)
    asked.append((desired.bundle, desired.path))
    for bundle, path in dict.fromkeys(asked):
        if not bundle:
            yield None
            continue
        try:
            yield library.locate_id(bundle, path, library.folders(settings))
        except BundleInvalid as error:
            _log.error("%s", error)
    yield None


def _others(control: ControlReader, desired: Desired, patience: float) -> list[tuple[str, str]]:
    """While a shared index is being filled, a worker that is new serves what the others do.

    Reports of workers that were killed may still be there: only those count that are heard now.
    """
    if all(report.serving == desired.bundle for report in control.reports.values()):
        return []
    _log.info("listening for at most %.0f s for what the other workers serve", patience)
    serving = [report.serving for report in control.heard(patience).values()]
    if not serving or desired.bundle in serving:
        return []
    return [(max(set(serving), key=serving.count), "")]


class Switch:
    """Holds what serves and its feed, and brings about what is wished. For one event loop.

    ``beat`` is how many seconds apart it repeats its report while there is no news.
    """

    def __init__(
        self,
        settings: Settings,
        live: Live,
        control: ControlReader,
        shelves: Shelves,
        delivery: Delivery,
        host: Host,
        beat: float = BEAT,
    ) -> None:
        self._names = TopicNames(settings.topic_prefix, settings.group)
        self._settings = settings
        self._live = live
        self._control = control
        self._shelves = shelves
        self._delivery = delivery
        self._host = host
        self._me = worker_name(settings.data_dir)
        self._fixed = bool(settings.bundle)
        self._news = asyncio.Event()
        self._stopped = False
        self._over = asyncio.Event()
        self._every = beat
        self._told: Report | None = None
        self._telling = asyncio.Lock()  # or a beat could overtake the news
        self._tasks: list[asyncio.Task[None]] = []
        self.filling = host.fill(live.current, heard=True)

    async def start(self) -> None:
        """Begins to feed the live index and to follow the control topic."""
        self.filling.feed.start()
        current = self._live.current
        if not self._fixed:
            await asyncio.to_thread(self._shelves.remember, current.bundle, current.path)
        self._news.set()
        jobs = (self._follow(), self._run(), self._beat())
        self._tasks = [asyncio.create_task(job) for job in jobs]

    async def stop(self) -> None:
        """Ends the feeds, and the second index where one was being filled.

        What a thread is in the middle of is waited for: nothing is closed under its hands.
        """
        self._stopped = True
        self._news.set()
        self._over.set()
        await asyncio.gather(*self._tasks)
        await asyncio.to_thread(self.filling.stop)
        if self.filling.serving is not self._live.current:  # else it is the worker's to close
            await asyncio.to_thread(self.filling.serving.index.close)
        await self._send(farewell_record(self._names.control, self._me))

    # -- wishes --------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Keeps the control topic's newest at hand."""
        desired = self._control.desired
        while not self._stopped:
            try:
                await asyncio.to_thread(self._control.follow, 0.5)
            except WeftError as error:
                _log.error("bundles cannot be switched any more until a restart: %s", error)
                return
            if self._control.desired is not desired:
                desired = self._control.desired
                self._news.set()

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            if self._stopped:
                return
            desired = self._control.desired
            try:
                await self._answer(desired)
            except Exception as error:  # whatever a bundle does, the old one goes on serving
                label = desired.label if desired else "no bundle"
                expected = isinstance(error, WeftError)
                reason = str(error) if expected else f"{type(error).__name__}: {error}"
                serving = self._live.current.label
                _log.error("%s does not serve, %s goes on: %s", label, serving, reason)
                await self._report(desired, State.FAILED, reason=reason)

    async def _answer(self, desired: Desired | None) -> None:
        if desired is None or desired.bundle == self._live.current.bundle:
            await self._report(desired, State.SERVING)
        elif self._fixed:
            raise BundleInvalid(
                f"this worker's setting bundle={self._settings.bundle} says what it serves: unset "
                "WEFT_BUNDLE, and it follows `weft models use`"
            )
        else:
            await self._bring_about(desired)

    def _is_old(self, desired: Desired | None) -> bool:
        return self._stopped or self._control.desired is not desired

    # -- the switch ----------------------------------------------------------------------

    async def _bring_about(self, desired: Desired) -> None:
        """Loads, fills, swaps; a newer desired state ends it early."""
        began = time.monotonic()
        await self._report(desired, State.EMBEDDING)
        _log.info("loading %s; %s serves until then", desired.label, self._live.current.label)
        serving = await self._loaded(desired)
        if serving is None:
            return
        second = self._host.fill(serving, heard=False)
        second.feed.start()
        done = False
        try:
            done = await self._filled(second, desired)
            if done:
                await self._swap(second)
        finally:
            if not done:
                await asyncio.to_thread(second.stop)
                await asyncio.to_thread(serving.index.close)
        if done:
            _log.info("%s serves after %.1f s", serving.label, time.monotonic() - began)
            await self._report(desired, State.SERVING)

    async def _loaded(self, desired: Desired) -> Serving | None:
        """The desired's serving; None where a newer desired came while the index was away."""

        def load() -> Serving:
            within = library.folders(self._settings)
            if not desired.bundle:
                return self._host.load(None)
            return self._host.load(library.locate_id(desired.bundle, desired.path, within))

        while not self._is_old(desired):
            try:
                return await asyncio.to_thread(load)
            except RetryLater as error:
                _log.warning("%s waits: %s", desired.label, error)
                await asyncio.sleep(_WAIT)
        return None

    async def _filled(self, second: Filling, desired: Desired) -> bool:
        """Waits until the second index is complete; False where a newer desired state came."""
        told = time.monotonic()
        while not self._is_old(desired):
            if second.feed.error is not None:
                raise second.feed.error
            try:
                if await asyncio.to_thread(second.complete):
                    return True
            except RetryLater as error:
                _log.warning("%s waits: %s", desired.label, error)
                await asyncio.sleep(_WAIT)
            if time.monotonic() - told >= _TELL:
                told = time.monotonic()
                await self._report(desired, State.EMBEDDING, second)
            await asyncio.sleep(_LOOK)
        return False

    async def _swap(self, second: Filling) -> None:
        """From here on the second serves, and the first is closed and kept for going back."""
        first = self.filling
        second.heard = True
        before = await asyncio.to_thread(self._live.switch, second.serving)
        self.filling = second
        try:
            await self._retire(first, before)
        except Exception as error:  # it serves no more: nothing depends on it
            _log.warning("%s was not put away in order: %r", before.label, error)

    async def _retire(self, first: Filling, before: Serving) -> None:
        """Ends the first feed and closes its index, and deletes those from before it."""
        serving = self._live.current
        await asyncio.to_thread(self._shelves.remember, serving.bundle, serving.path)
        until = time.monotonic() + _LETTERS
        while first.feed.running and first.feed.lag and time.monotonic() < until:
            await asyncio.sleep(_LOOK)  # a dead letter that only the second saw, unheard
        first.heard = False
        await asyncio.to_thread(first.stop)
        await asyncio.to_thread(before.index.close)
        keep = {serving.bundle, before.bundle}
        if self._shelves.shared:  # others may not be that far
            for report in self._control.running():
                keep |= {report.serving, report.bundle}
        await asyncio.to_thread(self._shelves.clear_away, keep)

    # -- reports -------------------------------------------------------------------------

    async def _report(
        self, desired: Desired | None, state: State, second: Filling | None = None, reason: str = ""
    ) -> None:
        current = self._live.current
        items = 0
        if state is State.SERVING or second is not None:
            index = (second or self.filling).serving.index
            with contextlib.suppress(WeftError):
                items = await asyncio.to_thread(index.count)
        about = desired or Desired(current.bundle, current.label, "")
        report = Report(
            worker=self._me,
            bundle=about.bundle,
            label=current.label if state is State.SERVING else about.label,
            state=state,
            serving=current.bundle,
            desired=about.offset,
            items=items,
            reason=reason,
        )
        self._told = report
        record = report_record(self._names.control, report, time.time_ns() // 1_000_000)
        while not await self._send(record) and state is not State.EMBEDDING:
            if self._is_old(desired):  # another report follows
                return
            await asyncio.sleep(_WAIT)

    async def _beat(self) -> None:
        """Shows that this worker runs; takes away what those have said that run no more."""
        while not self._stopped:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), self._every)
            if self._stopped or self._told is None:
                continue
            told = self._told
            now_ms = time.time_ns() // 1_000_000
            record = report_record(self._names.control, told, now_ms, beat=True)
            if self._telling.locked() or not await self._send(record):
                continue  # what is being told shows as much
            for worker in self._control.gone():
                _log.info("the worker %s is gone: its report is taken away", worker)
                await self._send(farewell_record(self._names.control, worker))

    async def _send(self, record: Record) -> bool:
        async with self._telling:
            try:
                await asyncio.to_thread(self._delivery.deliver, [record])
            except WeftError as error:
                _log.warning("the control topic was not told: %s", error)
                return False
        return True
