"""A replay behind a broker shows the lists of one that drives the processors themselves."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.encoder.cache import CachedEncoder
from models.encoder.choose import load_encoder
from stream.kafka.broker import EmbeddedBroker
from stream.replay.play.driver import Driver
from stream.replay.play.live import plan_of, play, settings_of
from stream.replay.questions.answers import Answers
from stream.replay.questions.prepare import Live, Prepared, Request, prepare
from stream.settings import Settings, load
from tests.replay_kafka import ThroughKafka
from tests.replay_shop import DAY, START

COLOURS = ("red", "navy", "sand", "black", "white", "olive", "grey")
CUTS = ("midi dress", "wool coat", "linen shirt", "ankle boots", "silk scarf", "denim jacket")
MADE = ("with pockets", "cropped", "oversized", "tailored")


@pytest.fixture
def request_(tmp_path: Path, weights_dir: Path) -> Request:
    """A shop of 168 products, so that no list has to be filled up, and 30 shoppers' baskets."""
    titles = [f"{colour} {cut} {made}" for colour in COLOURS for cut in CUTS for made in MADE]
    with (tmp_path / "catalog.jsonl").open("w") as file:
        for n, title in enumerate(titles):
            file.write(json.dumps({"item_id": f"i{n}", "title": title}) + "\n")
    rng = np.random.default_rng(4)
    with (tmp_path / "events.jsonl").open("w") as file:
        for day in range(12):
            for _ in range(12):
                kind = ["click", "purchase"][int(rng.integers(2))]
                item, user = f"i{rng.integers(len(titles))}", f"u{rng.integers(30)}"
                row = {"type": kind, "user_id": user, "item_id": item, "ts": START + day * DAY}
                file.write(json.dumps(row) + "\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "weights").symlink_to(weights_dir / "weights")
    settings = load({}, data_dir=tmp_path / "data", threads=1, partitions=2)
    return Request(
        tmp_path / "events.jsonl", tmp_path / "catalog.jsonl", settings, tmp_path / "report",
        (Live("zero-shot", "", "never"),),
    )  # fmt: skip


def prepared_of(request: Request) -> Prepared:
    settings = request.settings
    encoder = CachedEncoder(
        load_encoder("", settings.data_dir, 1, print, settings.encoder_type),
        settings.data_dir / "vectors.sqlite", print,
    )  # fmt: skip
    try:
        return prepare(request, encoder, print)
    finally:
        encoder.close()


def played(request: Request, prepared: Prepared) -> Answers:
    return play(request, request.lives[0], prepared, print, lambda _done, _all: None)


def behind_a_broker(request: Request, prepared: Prepared, folder: Path) -> Answers:
    """The same questions, asked of a worker that is fed and read by topics."""
    answers = Answers(folder / "answers", prepared.asked.baskets)
    rows = {item_id: row for row, item_id in enumerate(prepared.log.item_ids, 1)}

    async def drive(settings: Settings) -> None:
        stage = ThroughKafka(settings, folder / "index", rows)
        try:
            await stage.start()
            plan = plan_of(request, prepared, 0, 256)
            await Driver(plan, stage, answers, lambda _: None, lambda _done, _all: None).run()
        finally:
            await stage.stop()

    with EmbeddedBroker() as broker:
        settings = settings_of(request, request.lives[0])
        asyncio.run(drive(replace(settings, kafka=broker.bootstrap)))
    return answers


@pytest.mark.long
def test_a_broker_between_changes_no_list(request_: Request, tmp_path: Path) -> None:
    prepared = prepared_of(request_)
    inside = played(request_, prepared)
    outside = behind_a_broker(request_, prepared, tmp_path / "behind")
    assert len(inside.lists) > 60
    assert np.asarray(inside.answered).all()
    assert (np.asarray(inside.lists) == np.asarray(outside.lists)).all()
    assert (np.asarray(inside.ranks) == np.asarray(outside.ranks)).all()


@pytest.mark.long
def test_jobs_share_the_shoppers_and_change_no_list(request_: Request, tmp_path: Path) -> None:
    one = played(request_, prepared_of(request_))
    shared = replace(request_, jobs=2, report=tmp_path / "shared")
    two = played(shared, prepared_of(shared))
    assert (np.asarray(one.lists) == np.asarray(two.lists)).all()
    assert (np.asarray(one.ranks) == np.asarray(two.ranks)).all()
