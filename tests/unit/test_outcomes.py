"""Each leaf of the error tree, raised where it is raised, and what the processor does about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import orjson
import pytest

from models import errors
from models.domain import History, Recommendation
from models.errors import Outcome, WeftError
from models.ports import Deadline
from stream.contracts.codec import MAX_BYTES, decode_recommendation
from stream.contracts.partitioner import partition_of
from testbed.stand_ins import OverlapReranker
from testbed.waiting import PATIENCE, wait_for
from tests.read_states import read_states
from tests.unit.test_shoppers import PARTITIONS, T0, Shop, drive


def leaves(branch: type[WeftError]) -> Iterator[type[WeftError]]:
    """The classes that nothing is derived from."""
    children = branch.__subclasses__()
    if not children:
        yield branch
    for child in children:
        yield from leaves(child)


def of(outcome: Outcome) -> list[type[WeftError]]:
    """The leaves of models/errors.py with that outcome (tests may derive their own)."""
    return [leaf for leaf in OURS if leaf.outcome is outcome]


OURS = [leaf for leaf in leaves(WeftError) if leaf.__module__ == errors.__name__]
GOOD = orjson.dumps({"user_id": "ana", "ts": T0, "item_id": "i0"})
BAD: dict[type[WeftError], bytes] = {
    errors.MalformedMessage: b"[",
    errors.InvalidField: b'{"user_id": "ana"}',
    errors.OversizedMessage: b" " * MAX_BYTES + GOOD,
    errors.WrongPartition: GOOD,
}


@dataclass
class Raising:
    """The models of a shop, whose next ``times`` calls raise ``error``."""

    inside: Callable[..., list[Recommendation]]
    error: WeftError
    times: int
    wants_rerank: bool = False

    def recommend(self, histories: Sequence[History], deadline: Deadline) -> list[Recommendation]:
        if self.times > 0:
            self.times -= 1
            raise self.error
        return self.inside(histories, deadline)


def raising(shop: Shop, error: WeftError, times: int) -> Raising:
    """The shop's models from now on."""
    models = Raising(shop.processor._recommender.recommend, error, times)
    shop.processor._recommender = models
    return models


def test_every_leaf_has_an_outcome_and_every_outcome_a_leaf() -> None:
    assert {leaf.outcome for leaf in OURS} == set(Outcome)
    assert set(BAD) == set(of(Outcome.DEAD_LETTER))
    assert of(Outcome.DEGRADE) == [errors.RerankerFailed]


@pytest.mark.parametrize("leaf", of(Outcome.RETRY))
def test_retry_the_event_waits_is_not_acked_and_has_its_list_in_the_end(
    leaf: type[WeftError],
) -> None:
    models = raising(shop := Shop(), leaf("away"), times=1_000)
    shop.send("ana", item_id="i0")

    async def script() -> None:
        await wait_for(lambda: models.times < 999)  # it was tried twice
        assert shop.acked == []
        models.times = 0
        await wait_for(lambda: bool(shop.acked))

    drive(shop, script)
    assert shop.list_of("ana")
    assert not shop.delivery.newest("dead-letters")


@pytest.mark.parametrize("leaf", of(Outcome.DEAD_LETTER))
def test_dead_letter_the_message_is_set_aside_by_name_and_the_next_one_is_served(
    leaf: type[WeftError],
) -> None:
    shop = Shop()
    right = partition_of(b"ana", PARTITIONS, "murmur2_random")
    place = (right + 1) % PARTITIONS if leaf is errors.WrongPartition else right
    shop.arrive(b"ana", BAD[leaf], "clicks", 0, place)
    shop.offset = 0
    shop.send("bo", item_id="i0")

    async def script() -> None:
        await wait_for(lambda: len(shop.acked) == 2)

    drive(shop, script)
    (dead,) = (record for record in shop.delivery.records if record.topic == "dead-letters")
    assert dict(dead.headers)["weft-error"].decode() == leaf.__name__
    assert (dead.key, dead.value) == (b"ana", BAD[leaf])
    assert shop.list_of("bo")
    assert set(shop.table) == {b"bo"}


@pytest.mark.parametrize("leaf", of(Outcome.DEGRADE))
def test_degrade_the_list_goes_out_says_so_and_the_event_is_acked(leaf: type[WeftError]) -> None:
    class Fails(OverlapReranker):
        def score(self, requests, deadline):  # type: ignore[no-untyped-def]
            raise leaf("no tensor today")

    shop = Shop(reranker=Fails())
    shop.send("ana", item_id="i0")

    async def script() -> None:
        await wait_for(lambda: bool(shop.acked))

    drive(shop, script)
    made = decode_recommendation(b"ana", shop.delivery.newest("recommendations")[b"ana"])
    assert made is not None
    assert made.recommendation.items
    assert not made.recommendation.reranked
    assert not shop.delivery.newest("dead-letters")


@pytest.mark.parametrize("leaf", of(Outcome.STOP))
def test_stop_the_processor_ends_with_the_reason_and_acks_nothing(leaf: type[WeftError]) -> None:
    raising(shop := Shop(), leaf("this cannot go on"), times=1)
    shop.send("ana", item_id="i0")

    async def main() -> None:
        with pytest.raises(leaf, match="this cannot go on"):
            await asyncio.wait_for(shop.processor.run(), PATIENCE)

    asyncio.run(main())
    shop.processor.close()
    assert shop.acked == []
    assert shop.delivery.records == []


def test_stop_a_state_that_cannot_be_read_ends_the_intake_at_its_shoppers_event() -> None:
    shop = Shop(table=read_states({b"ana": b'{"v": 99}'}))
    with pytest.raises(errors.UnreadableState, match="version 99"):
        shop.send("ana", item_id="i0")
    assert shop.acked == []
