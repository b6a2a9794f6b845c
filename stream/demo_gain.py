"""What the demo's tuned bundle gains over zero-shot, on the sample shop's held-out events.

    python -m stream.demo_gain [--shoppers N] [--each N] [--likelihood]

A question is a click of the held-out days on a product that its shopper had not met before: the
history is all that came before, the answer that product, and it counts where the live recommender
has it in its list. The collection that entered as those days began is on the shelf; its wording is
unlike all that the bundle was trained on. The shop is invented, so a gain shows that the mechanism
works, and nothing of how well it does on a real one.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click
import numpy as np

from models.domain import History
from models.evaluation import Interval, Values, bootstrap, hit_rate, ndcg, paired_difference
from models.popularity import Popularity
from models.ports import Deadline
from models.recommender import Recommender
from stream.assemble import Say, assemble, load_serving
from stream.bundles import folders, locate
from stream.contracts import ShopperEvent
from stream.sample import DAY_MS, DAYS, HELD_OUT_DAYS, START_MS, Shop, shop
from stream.sample_log import events
from stream.serving import Serving
from stream.settings import Settings, load
from stream.state import ShopperState
from stream.topics import topic_of

#: Shoppers that are asked about, and the questions of each at most: seconds without the LLM, and
#: a minute or two with it.
SHOPPERS: Final = 60
EACH: Final = 4

_K: Final = 10
_SEED: Final = 0  # of the resampling
#: Shoppers whose next questions are asked together: what the reader keeps of them fits its cache.
_TOGETHER: Final = 8
_NEVER: Final = 1e9  # seconds: no list goes without the LLM for want of time

Going = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Question:
    """What does the shopper click next? ``held_out``: a product of the collection is the answer."""

    shopper: str
    history: History
    answer: str
    held_out: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """One way to make lists: HR@10 and NDCG@10, and what both gain over the first way."""

    name: str
    hit_rate: Interval
    ndcg: Interval
    hit_gain: Interval
    ndcg_gain: Interval
    held_out: float  # HR@10 where the answer is a product of the collection


@dataclass(frozen=True, slots=True)
class Gain:
    """All ways on the same questions, of which ``held_out`` ask for the collection."""

    ways: tuple[Measured, ...]
    questions: int
    shoppers: int
    held_out: int
    seconds: float


def measure(
    settings: Settings,
    bundle: Path,
    say: Say,
    shoppers: int = SHOPPERS,
    each: int = EACH,
    *,
    likelihood: bool = False,
    going: Going = lambda: True,
) -> Gain | None:
    """Zero-shot, the tuned retriever, and with it the tuned LLM where ``settings`` ask for it.

    ``likelihood`` adds zero-shot with the untuned LLM, which takes about a second a question.
    None where ``going`` said no before the end. Raises as ``stream.assemble.assemble``.
    """
    began = time.monotonic()
    made = shop()
    questions = asked(made, shoppers, each)
    ranks: dict[str, Values] = {}
    untuned = replace(settings, index="edge", rerank="gate" if likelihood else "never")
    tuned = replace(settings, index="edge")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "index"
        parts = assemble(untuned, say, home)
        try:
            ranks |= _found("zero-shot", parts.live.current, made, questions, settings, going)
            serving = load_serving(tuned, parts.encoder, Popularity(1), say, home, bundle)
            try:
                ranks |= _found("tuned", serving, made, questions, settings, going)
            finally:
                serving.index.close()
        finally:
            parts.close()
    if not going():
        return None
    return compared(ranks, questions, time.monotonic() - began)


def asked(made: Shop, shoppers: int, each: int = 0, seed: int = 7) -> list[Question]:
    """The questions of the first ``shoppers`` of the sample log; of each the first (0: all)."""
    states: defaultdict[str, ShopperState] = defaultdict(ShopperState)
    met: defaultdict[str, set[str]] = defaultdict(set)
    counts: defaultdict[str, int] = defaultdict(int)
    collection = {product.item.item_id for product in made.held_out}
    found: list[Question] = []
    for place, event in enumerate(events(made, seed, shoppers, DAYS + HELD_OUT_DAYS)):
        who, answer = event.user_id, event.item_id
        wanted = _is_asked(event, met[who]) and not (each and counts[who] >= each)
        if wanted and (history := states[who].history()).steps:
            counts[who] += 1
            found.append(Question(who, history, str(answer), answer in collection))
        states[who].apply(topic_of(event.kind), place, event)
        if answer is not None:
            met[who].add(answer)
    return found


def _is_asked(event: ShopperEvent, met: set[str]) -> bool:
    held_out = event.ts >= START_MS + DAYS * DAY_MS
    return held_out and event.item_id is not None and event.item_id not in met


def _found(
    name: str,
    serving: Serving,
    made: Shop,
    questions: Sequence[Question],
    settings: Settings,
    going: Going,
) -> dict[str, Values]:
    """Ranks (q,) by what the retriever finds, and by what its LLM makes of that."""
    items = [product.item for product in (*made.products, *made.arrivals, *made.held_out)]
    serving.index.upsert(items, serving.space.item_vectors(items))
    alone = Recommender(
        serving.index, serving.space, Popularity(1), None, 0.0, settings.list_size, 0
    )
    found = {f"{name} retriever": answered(alone, questions, going)}
    if serving.recommender.wants_rerank:
        found[f"{name}, with the LLM"] = answered(serving.recommender, questions, going)
    return found


def answered(
    recommender: Recommender, questions: Sequence[Question], going: Going = lambda: True
) -> Values:
    """The place (q,) of each answer in the list for its question, 0 the best; inf: it is not in.

    In the order in which a shopper asks, so that the reader reads what is new. Stops where
    ``going`` says no.
    """
    ranks = np.full(len(questions), np.inf)
    for batch in _rounds(questions):
        if not going():
            break
        histories = [questions[n].history for n in batch]
        lists = recommender.recommend(histories, Deadline.after(_NEVER, time.monotonic))
        for n, made in zip(batch, lists, strict=True):
            ids = [line.item_id for line in made.items]
            if questions[n].answer in ids:
                ranks[n] = ids.index(questions[n].answer)
    return ranks


def _rounds(questions: Sequence[Question]) -> Iterator[list[int]]:
    """Batches of a few shoppers' first questions, then their second ones, and so on."""
    mine: defaultdict[str, list[int]] = defaultdict(list)
    for n, question in enumerate(questions):
        mine[question.shopper].append(n)
    everyone = list(mine.values())
    for begin in range(0, len(everyone), _TOGETHER):
        some = everyone[begin : begin + _TOGETHER]
        for turn in range(max(map(len, some))):
            yield [numbers[turn] for numbers in some if turn < len(numbers)]


def compared(ranks: dict[str, Values], questions: Sequence[Question], seconds: float = 0.0) -> Gain:
    """The ways by name, with the ranks (q,) of each; the first is what the others gain over."""
    shoppers, groups = np.unique([q.shopper for q in questions], return_inverse=True)
    groups = groups.astype(np.int64)
    new = np.array([q.held_out for q in questions])
    ways: list[Measured] = []
    first: tuple[Values, Values] | None = None
    for name, found in ranks.items():
        each = [found[n : n + 1] for n in range(len(found))]
        hits = np.array([hit_rate(rank, _K) for rank in each])
        gains = np.array([ndcg(rank, _K) for rank in each])
        first = first or (hits, gains)
        ways.append(
            Measured(
                name,
                bootstrap(hits, _SEED, groups),
                bootstrap(gains, _SEED, groups),
                paired_difference(hits, first[0], _SEED, groups),
                paired_difference(gains, first[1], _SEED, groups),
                float(hits[new].mean()) if new.any() else float("nan"),
            )
        )
    return Gain(tuple(ways), len(questions), len(shoppers), int(new.sum()), seconds)


def lines(gain: Gain) -> Iterator[str]:
    """The gain in words, a line a way."""
    yield (
        f"{gain.questions:,} held-out questions of {gain.shoppers} shoppers, {gain.held_out} of "
        "them on the held-out collection. Synthetic: this shows the mechanism, not quality."
    )
    for number, way in enumerate(gain.ways):
        words = f"{way.name}: HR@10 {_short(way.hit_rate.mean)}, NDCG@10 {_short(way.ndcg.mean)}"
        if number:
            words += f"; gains {_interval(way.hit_gain)} and {_interval(way.ndcg_gain)}"
        yield f"{words}; on the collection HR@10 {_short(way.held_out)}"


def _interval(gain: Interval) -> str:
    return f"{_short(gain.mean, '+')} [{_short(gain.low, '+')}, {_short(gain.high, '+')}]"


def _short(value: float, sign: str = "") -> str:
    """A share as .123."""
    return f"{value:{sign}.3f}".replace("0.", ".", 1)


@click.command()
@click.option("--bundle", default="demo", show_default=True, help="A folder, a name or an id.")
@click.option("--shoppers", default=SHOPPERS, show_default=True, help="That are asked about.")
@click.option("--each", default=EACH, show_default=True, help="Questions of each; 0: all.")
@click.option("--likelihood", is_flag=True, help="Zero-shot with the untuned LLM too (slow).")
def main(bundle: str, shoppers: int, each: int, likelihood: bool) -> None:
    """Print what a bundle gains over zero-shot on the sample shop's held-out events."""
    chosen = load()
    where = locate(bundle, folders(chosen))
    gain = measure(
        chosen, where, lambda words: click.echo(words, err=True), shoppers, each,
        likelihood=likelihood,
    )  # fmt: skip
    assert gain is not None
    for line in lines(gain):
        click.echo(line)
    click.echo(f"{gain.seconds:.0f} s")


if __name__ == "__main__":
    main()
