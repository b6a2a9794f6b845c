"""Waits for what must come true, with patience for a machine that does much else.

No test of Weft says how fast something is: that is for ``bench``, on an idle machine. A test waits
for an event, and the limit here is only there so that a broken one ends with its own words.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

#: Seconds. Many times what anything here takes, at a load average of four a core too.
PATIENCE: Final = 120.0


def eventually(claim: Callable[[], object], words: str = "", patience: float = PATIENCE) -> None:
    """Returns when ``claim`` is true. Raises ``AssertionError`` after ``patience`` seconds."""
    until = time.monotonic() + patience
    while not claim():
        assert time.monotonic() < until, words or "it did not come true in time"
        time.sleep(0.01)


async def wait_for(
    claim: Callable[[], object], words: str = "", patience: float = PATIENCE
) -> None:
    """As ``eventually``, while the event loop goes on."""
    until = time.monotonic() + patience
    while not claim():
        assert time.monotonic() < until, words or "it did not come true in time"
        await asyncio.sleep(0.005)
