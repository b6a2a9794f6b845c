"""What the query memory finds on the sample shop's held-out week, beside the same lists without it.

    python -m bench.query_memory [--learn SHOPPERS] [--ask SHOPPERS] [--json]

The memory learns from the sample's 28 days, as a worker does; asked are the new products that the
first shoppers choose in the week after, where one of their newest steps has a query. Zero-shot
retrieval, exact search, no LLM. Synthetic: its searches name what is then looked at, so this shows
the mechanism, not quality. Intervals are 95 %, paired, shoppers resampled.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bench.frame import encoder_here, parsed, show
from models.domain import History
from models.encoder.cache import CachedEncoder
from models.evaluation.intervals import Values, paired_difference
from models.ports import Deadline
from models.recommend.popularity import Popularity
from models.recommend.query_memory import QueryMemory, recent_query
from models.recommend.recommender import Recommender
from models.space.zero_shot import ZeroShotSpace
from models.training.data.splits import gains, hits
from stream.contracts.topics import topic_of
from stream.demo.sample.catalogue import DAY_MS, DAYS, HELD_OUT_DAYS, START_MS, Shop, shop
from stream.demo.sample.log import events
from stream.shoppers.state import ShopperState
from testbed.stand_ins import MemoryIndex

AT_ONCE = 64


def learn(memory: QueryMemory, made: Shop, shoppers: int) -> int:
    """Shows the memory the training days; how many choices a query led to."""
    states: defaultdict[str, ShopperState] = defaultdict(ShopperState)
    learnt = 0
    for offset, event in enumerate(events(made, 7, shoppers, DAYS)):
        state, topic = states[event.user_id], topic_of(event.kind)
        state.apply(topic, offset, event)
        for query, item_id, ts in state.led_from(topic, offset, event.ts):
            memory.add(query, item_id, ts, event.user_id)
            learnt += 1
    return learnt


@dataclass(frozen=True, slots=True)
class Question:
    """Which product that is new to the shopper do they choose next?"""

    shopper: str
    history: History
    answer: str


def asked(made: Shop, shoppers: int) -> list[Question]:
    """All questions of the held-out week that a recent query belongs to."""
    states: defaultdict[str, ShopperState] = defaultdict(ShopperState)
    met: defaultdict[str, set[str]] = defaultdict(set)
    found: list[Question] = []
    for place, event in enumerate(events(made, 7, shoppers, DAYS + HELD_OUT_DAYS)):
        state, answer = states[event.user_id], event.item_id
        if answer is not None and answer not in met[event.user_id]:
            met[event.user_id].add(answer)
            history = state.history()
            if event.ts >= START_MS + DAYS * DAY_MS and recent_query(history.steps):
                found.append(Question(event.user_id, history, answer))
        state.apply(topic_of(event.kind), place, event)
    return found


def answered(lists: Recommender, questions: Sequence[Question]) -> Values:
    """The place (q,) of each answer in the list for its question, 0 the best; inf: not in it."""
    ranks = np.full(len(questions), np.inf)
    for start in range(0, len(questions), AT_ONCE):
        some = questions[start : start + AT_ONCE]
        made = lists.recommend([q.history for q in some], Deadline.after(1e9, time.monotonic))
        for n, (question, told) in enumerate(zip(some, made, strict=True), start):
            ids = [line.item_id for line in told.items]
            if question.answer in ids:
                ranks[n] = ids.index(question.answer)
    return ranks


def compare(
    encoder: CachedEncoder, memory: QueryMemory, made: Shop, questions: list[Question]
) -> dict[str, Values]:
    """Ranks (q,) of the answers without the memory and with it; inf where one is in no list."""
    items = [product.item for product in (*made.products, *made.arrivals, *made.held_out)]
    space, index = ZeroShotSpace(encoder), MemoryIndex()
    index.upsert(items, space.item_vectors(items))
    while not memory.caught_up:
        memory.recall(["dress"])
    found: dict[str, Values] = {}
    for name, used in (("without", None), ("with", memory)):
        lists = Recommender(index, space, Popularity(1), None, 0.0, 10, 0, used)
        found[name] = answered(lists, questions)
    return found


def main() -> None:
    """Print HR@10 and NDCG@10 of both, and the gains."""
    told, encoder = parsed(__doc__, learn=3000, ask=300), encoder_here()
    made, memory = shop(), QueryMemory(encoder)
    learnt = learn(memory, made, told.learn)
    questions = asked(made, told.ask)
    ranks = compare(encoder, memory, made, questions)
    groups = np.unique([q.shopper for q in questions], return_inverse=True)[1].astype(np.int64)
    figures: dict[str, Any] = {"choices learnt": learnt, "questions": len(questions)}
    for metric, of in (("HR@10", hits), ("NDCG@10", gains)):
        without, with_ = of(ranks["without"]), of(ranks["with"])
        figures[f"{metric} without"] = float(without.mean())
        figures[f"{metric} with"] = float(with_.mean())
        figures[f"{metric} gain"] = asdict(paired_difference(with_, without, 0, groups))
    show(figures, told.json)
    encoder.close()


if __name__ == "__main__":
    main()
