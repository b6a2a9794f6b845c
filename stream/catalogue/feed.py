"""The thread that feeds the catalogue processor from the products topic."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from models.errors import RetryLater
from stream.catalogue.follower import Follower
from stream.catalogue.processor import CatalogueProcessor, Tally

_log = logging.getLogger("weft.catalogue")

_POLL: Final = 0.1  # seconds; a stop is noticed as soon
_FIRST_WAIT: Final = 0.1  # seconds between two tries, doubling up to
_LAST_WAIT: Final = 5.0

Result = TypeVar("Result")


class _Stopped(Exception):  # a stop was asked for
    pass


class CatalogueFeed:
    """Reads, processes, and only then says done. Records may come again after a crash.

    ``batch`` is the most records processed at once; a lone one does not wait for others. When the
    index or the broker is away the feed tries again, saying so once, and takes no new records.
    Any other error ends it: see ``error`` and ``on_error``.
    """

    def __init__(
        self,
        processor: CatalogueProcessor,
        follower: Follower,
        *,
        batch: int = 512,
        on_error: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._processor = processor
        self._follower = follower
        self._batch = batch
        self._on_error = on_error
        self._stopping = threading.Event()
        self._caught_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="weft-catalogue", daemon=True)
        self.tally = Tally()
        self.lag = 0
        self.error: BaseException | None = None

    def start(self) -> None:
        """Begins; returns at once."""
        self._thread.start()

    def stop(self, timeout: float = 30.0) -> None:
        """Ends after the batch in hand, with its place kept. The index can be closed then."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    @property
    def running(self) -> bool:
        """False before the start, after the stop, and after an error."""
        return self._thread.is_alive()

    @property
    def caught_up(self) -> bool:
        """Whether all that the topic held at the start is in the index."""
        return self._caught_up.is_set()

    def wait_until_caught_up(self, timeout: float) -> bool:
        """Waits at most ``timeout`` seconds; False if that was too short or the feed failed."""
        end = time.monotonic() + timeout
        while not self._caught_up.wait(min(0.1, max(0.0, end - time.monotonic()))):
            if self.error is not None or time.monotonic() >= end:
                return False
        return True

    def _run(self) -> None:
        try:
            self._insist(self._follower.open)
            while not self._stopping.is_set():
                self._step()
        except _Stopped:
            _log.info("stopped while waiting; what was not done comes again")
        except BaseException as error:  # a thread's errors reach nobody else
            self.error = error
            _log.error("the catalogue has stopped: %s: %s", type(error).__name__, error)
        finally:
            self._end()
            if self.error is not None and self._on_error is not None:
                self._on_error(self.error)

    def _step(self) -> None:
        batch = self._follower.read(self._batch, _POLL)
        if batch.products:
            self.tally.add(self._insist(lambda: self._processor.process(batch.products)))
        self._processor.tell()
        self._follower.done(batch)
        self.lag = self._follower.lag()
        if self._follower.caught_up:
            self._caught_up.set()
        self._insist(self._follower.settle)

    def _end(self) -> None:
        try:
            if self.error is None:
                self._follower.settle(now=True)
        except RetryLater as error:
            _log.warning("the catalogue's place is not kept, some products come again: %s", error)
        except BaseException as error:  # as in _run
            self.error = error
        finally:
            self._follower.close()

    def _insist(self, call: Callable[[], Result]) -> Result:
        """Calls until it succeeds; only a stop or another error ends it sooner."""
        wait, since = _FIRST_WAIT, None
        while True:
            try:
                result = call()
            except RetryLater as error:
                if since is None:
                    since = time.monotonic()
                    _log.warning("the catalogue waits: %s", error)
                if self._stopping.wait(wait):
                    raise _Stopped from error
                wait = min(2 * wait, _LAST_WAIT)
                self._follower.rest()
            else:
                if since is not None:
                    _log.warning("the catalogue goes on after %.1f s", time.monotonic() - since)
                return result
