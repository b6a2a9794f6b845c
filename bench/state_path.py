"""The state path on a real Kafka: events a second of one worker, beside a quixstreams job.

    python -m bench.state_path [--events 60000] [--shoppers 3000] [--json]

Both read the same topic and do the same work with an event: decode it, put it into its shopper's
sequence of the 50 newest, keep that in a store with a changelog, send a list of 10 (the newest
items; no models here). The promises differ: quixstreams runs at-least-once, a list an event;
Weft checks the contract and the partition, keeps order by time, counts a redelivered record
once, accounts for each offset, sends one list a shopper and batch, and acks an event only when
its list and its state are on the broker.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from bench.frame import load_here, parsed, show
from models.domain import History, Recommendation, RecommendedItem
from models.ports import Deadline

T0 = 1_700_000_000_000
PARTITIONS = 4


class NewestItems:
    """A list without models: the newest items of the sequence."""

    wants_rerank = False

    def recommend(
        self,
        histories: Sequence[History],
        deadline: Deadline,  # noqa: ARG002 - nothing here takes time
    ) -> list[Recommendation]:
        return [
            Recommendation(
                tuple(
                    RecommendedItem(step.item_id or "", 1.0, "newest", "bench")
                    for step in history.steps[-10:]
                ),
                reranked=False,
                model="newest",
            )
            for history in histories
        ]


async def run_weft(bootstrap: str, events: int) -> float:
    from models.recommend.popularity import Popularity
    from stream.kafka.delivery import KafkaDelivery
    from stream.settings import kafka_config, load
    from stream.shoppers.app import ShopperApp
    from stream.shoppers.offset_check import KafkaGapReader
    from stream.shoppers.processor import ShopperProcessor

    with tempfile.TemporaryDirectory() as folder:
        settings = load({}, kafka=bootstrap, group="bench-weft", data_dir=folder, batch_size=2000)
        app = ShopperApp(settings, PARTITIONS)
        config = kafka_config(settings)
        delivery = KafkaDelivery(config, settings.partitioner)
        processor = ShopperProcessor(
            settings, app.table, NewestItems(), Popularity(7), delivery, PARTITIONS
        )
        app.attach(processor, KafkaGapReader(config), delivery)
        serving = asyncio.create_task(processor.run())
        await app.start()
        while not processor.counters.events:
            await asyncio.sleep(0.001)
        started = time.perf_counter()
        while processor.counters.acked < events and not serving.done():
            await asyncio.sleep(0.01)
        seconds = time.perf_counter() - started
        print(processor.counters, file=sys.stderr)
        if serving.done():
            serving.result()
        counters = processor.counters
        assert counters.dead == counters.rewinds == counters.stalls == 0, counters
        sys.stdout.write(f"{seconds}\n")
        sys.stdout.flush()
        os._exit(0)  # leaving the group in order takes seconds that nobody measures


def run_quix(bootstrap: str, events: int) -> float:
    import orjson
    from quixstreams import Application
    from quixstreams.state import State

    with tempfile.TemporaryDirectory() as folder:
        app = Application(
            bootstrap,
            consumer_group="bench-quix",
            auto_offset_reset="earliest",
            state_dir=folder,
            loglevel="ERROR",
            producer_extra_config={"enable.idempotence": True, "linger.ms": 2},
        )
        source = app.topic("clicks", value_deserializer="bytes", key_deserializer="str")
        lists = app.topic("quix-recommendations", value_serializer="bytes", key_serializer="str")
        started = 0.0

        def step(value: bytes, state: State) -> bytes:
            nonlocal started
            started = started or time.perf_counter()
            event = orjson.loads(value)
            rows = state.get("rows") or []
            rows.append([event["ts"], event["item_id"]])
            rows.sort()
            del rows[:-50]
            state.set("rows", rows)
            items = [{"item_id": r[1], "score": 1.0, "reason": "newest"} for r in rows[-10:]]
            return orjson.dumps({"user_id": event["user_id"], "items": items})

        frame = app.dataframe(source).apply(step, stateful=True)
        frame.to_topic(lists)
        app.run(count=events)
        return time.perf_counter() - started


def publish(bootstrap: str, events: int, shoppers: int) -> None:
    import orjson
    from confluent_kafka import Producer

    rng = random.Random(7)
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random"})
    for number in range(events):
        user = f"u{rng.randrange(shoppers)}"
        value = {"user_id": user, "item_id": f"i{rng.randrange(5000)}", "ts": T0 + number}
        producer.produce("clicks", orjson.dumps(value), user.encode())
        producer.poll(0)
        if number % 50_000 == 49_999:
            producer.flush()
    producer.flush()


def child(role: str, bootstrap: str, events: int) -> float:
    """Seconds that one worker took, in a process of its own."""
    command = [sys.executable, "-m", "bench.state_path", "--role", role, "--kafka", bootstrap]
    done = subprocess.run(
        [*command, "--events", str(events)], capture_output=True, text=True, timeout=600
    )
    lines = done.stdout.strip().splitlines()
    if not lines:
        raise SystemExit(f"{role} printed nothing:\n{done.stderr[-3000:]}")
    return float(lines[-1])


def measure(events: int, shoppers: int) -> dict[str, Any]:
    from testbed.kafka import real_kafka

    with real_kafka() as kafka:
        kafka.create_topics(
            "clicks", "purchases", "searches", "erasures", "dead-letters", "quix-recommendations"
        )
        compacted = {"cleanup.policy": "compact"}
        kafka.create_topics("recommendations", "bench-weft-shoppers-changelog", config=compacted)
        publish(kafka.bootstrap, events, shoppers)
        rates: dict[str, list[float]] = {"weft": [], "quix": []}
        for role in ("weft", "quix"):
            rates[role].append(events / child(role, kafka.bootstrap, events))
    weft, quix = rates["weft"][0], rates["quix"][0]
    return {
        "events": events,
        "shoppers": shoppers,
        **load_here(),
        "weft_events_s": round(weft),
        "quixstreams_events_s": round(quix),
        "ratio": round(weft / quix, 3),
        "target": 0.2,
    }


def main() -> None:
    roles = ("both", "weft", "quix")  # (role and kafka: of a child's)
    options = parsed(__doc__, events=60_000, shoppers=3_000, role=roles, kafka="")
    logging.basicConfig(level=logging.ERROR)
    if options.role == "weft":
        asyncio.run(run_weft(options.kafka, options.events))
    elif options.role == "quix":
        print(run_quix(options.kafka, options.events))
    else:
        show(measure(options.events, options.shoppers), options.json)


if __name__ == "__main__":
    main()
