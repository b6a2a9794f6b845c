"""A worker's clock that jumps by hours: no good event is dead, no state or list another."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from stream.kafka.broker import EmbeddedBroker
from stream.settings import Settings
from stream.shoppers.state import loads
from tests.integration.test_dead_letters import dlq, letters, produce, running, until

HOUR = 3_600.0
#: What the worker's clock is off by, one after the other; ``ts`` are of the shop's right clock.
JUMPS = (0.0, 5 * HOUR, -5 * HOUR, 23 * HOUR, -23 * HOUR, 300 * HOUR, 0.0)
EVENTS = 4  # before each jump


@dataclass
class Clock:
    """The wall clock of this process and its libraries, off by ``shift`` seconds."""

    shift: float = 0.0

    def __post_init__(self) -> None:
        self.right = time.time

    def __call__(self) -> float:
        return self.right() + self.shift


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    return clock


def click(n: int, now: float) -> bytes:
    return orjson.dumps({"user_id": "ana", "ts": int(1000 * now) + n, "item_id": f"i{n}"})


def test_a_clock_that_jumps_by_hours_makes_no_event_dead_and_no_state_another(
    clock: Clock, tmp_path: Path
) -> None:
    async def main(settings: Settings) -> None:
        async with running(settings) as processor:
            processor._clock = clock
            sent = 0
            for jump in JUMPS:
                clock.shift = jump
                for _ in range(EVENTS):
                    value = click(sent, clock.right())
                    await asyncio.to_thread(produce, settings, "clicks", b"ana", value)
                    sent += 1
                await until(lambda: processor.counters.acked == sent)  # noqa: B023 - awaited here
            assert processor.counters.dead == processor.counters.again == 0
            state = loads(processor._table[b"ana"])
            assert [row[4] for row in state.rows] == [f"i{n}" for n in range(sent)]
            assert state.offsets == {"clicks": sent - 1}

    with EmbeddedBroker() as broker:
        asyncio.run(main(Settings(kafka=broker.bootstrap, data_dir=tmp_path)))


def test_a_clock_that_is_days_behind_makes_dead_letters_that_say_so_and_come_back(
    clock: Clock, tmp_path: Path
) -> None:
    async def main(settings: Settings) -> None:
        async with running(settings) as processor:
            processor._clock = clock
            clock.shift = -25 * HOUR
            await asyncio.to_thread(produce, settings, "clicks", b"ana", click(0, clock.right()))
            await until(lambda: processor.counters.acked == 1)
            (letter,) = await asyncio.to_thread(letters, settings)
            assert "is the clock right?" in letter.header("weft-words")
            clock.shift = 0.0
            await asyncio.to_thread(dlq, settings, "replay", "--yes")
            await until(lambda: processor.counters.acked == 2)
            assert processor.counters.dead == 1
            assert len(loads(processor._table[b"ana"]).rows) == 1

    with EmbeddedBroker() as broker:
        asyncio.run(main(Settings(kafka=broker.bootstrap, data_dir=tmp_path)))
