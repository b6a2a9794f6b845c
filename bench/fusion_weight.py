"""The untuned LLM's weight in the fusion, on the validation part of an event log.

    python -m bench.fusion_weight --data amazon_beauty|hm_sample [--users N] [--seed S]
        [--trend 0.2] [--json]

The logs lie in the folder that WEFT_DATA names (../shared/data without it). Beauty: a shopper's
event before the last one, asked with all before it (leave-one-out; the last is kept for tests).
H&M: all before the last 20 % of the events; what one shopper bought at one ts is one question
with several targets, asked before any of it is applied. Retrieval is the one that ships: the
recency-weighted mean of title vectors over all items, with what was popular on the days before
raised (--trend 0: not), what was bought left out; the first 20 are reranked. Only questions with a
target among these need the LLM: the others' metrics are 0 at every weight, and count. Items with
the same title have the same score but for what popularity adds: a target takes the mean rank of its
ties. Intervals are 95 %, paired, shoppers resampled.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from models.domain import Item, Kind, Step
from models.encoder.cache import CachedEncoder
from models.encoder.choose import load_encoder
from models.evaluation import intervals
from models.evaluation.intervals import Groups, Values
from models.ports import Deadline, FloatArray, Read, RerankRequest
from models.recommend import trending
from models.recommend.popularity import DAYS
from models.rerank.fusion import blend
from models.rerank.likelihood import LikelihoodReranker, load_reranker
from models.space.recency import DECAY, query_vector

CANDIDATES = 20
DAY_MS = 86_400_000
NEWEST = 50  # steps of a shopper's sequence, as the worker keeps them
WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
DECAYS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

Found = list[tuple[str, float, float]]  # an item's id, cosine, and gain by popularity


@dataclass(frozen=True)
class Question:
    shopper: int
    ts: int
    history: tuple[Step, ...]
    bought: frozenset[str]
    targets: tuple[str, ...]


class Popular:
    """What the most chosen items gain, as ``models.recommend.trending`` has it."""

    def __init__(self, folder: Path, trend: float) -> None:
        self.trend = trend
        self._by_day: dict[int, Counter[str]] = {}
        for event in read(folder / "events.jsonl.gz"):
            self._by_day.setdefault(event["ts"] // DAY_MS, Counter())[event["item_id"]] += 1
        self._known: dict[int, dict[str, float]] = {}

    def gains(self, ts: int) -> dict[str, float]:
        """By item id, of the whole days before that of ``ts``."""
        day = ts // DAY_MS
        if day not in self._known:
            counts = sum(
                (self._by_day.get(d, Counter()) for d in range(day - DAYS, day)), Counter()
            )
            top = counts.most_common(trending.MOST if self.trend else 0)
            gains = self.trend * trending.prior([count for _, count in top])
            self._known[day] = dict(
                zip((item_id for item_id, _ in top), gains.tolist(), strict=True)
            )
        return self._known[day]


class Catalogue:
    """Items and, by distinct text, their vectors (t, d); searched exactly."""

    def __init__(self, folder: Path, data_dir: Path, threads: int) -> None:
        self.items = {
            row["item_id"]: Item(row["item_id"], row["title"], 0, category=row["category"])
            for row in read(folder / "catalog.jsonl.gz")
        }
        self.ids = list(self.items)
        texts = sorted({item.text for item in self.items.values()} - {""}, key=len)
        encoder = load_encoder("", data_dir, threads, say)
        cached = CachedEncoder(encoder, data_dir / "vectors.sqlite", say)
        parts = [cached.encode(texts[i : i + 1024]) for i in range(0, len(texts), 1024)]
        cached.close()
        self.encoder = encoder.name
        self.matrix = np.concatenate(parts)
        self.rows = {text: row for row, text in enumerate(texts)}
        self.of_row: list[list[str]] = [[] for _ in texts]
        for item_id, item in self.items.items():
            if item.text:
                self.of_row[self.rows[item.text]].append(item_id)

    def query(self, question: Question, decay: float) -> FloatArray | None:
        known = (s.item_id for s in question.history if s.item_id is not None)
        texts = {i: self.rows.get(self.items[i].text) for i in known}
        vectors = {i: self.matrix[row] for i, row in texts.items() if row is not None}
        return query_vector(question.history, vectors, {}, decay)

    def first(self, asked: Sequence[Question], decay: float, popular: Popular) -> Iterator[Found]:
        """For each question its first candidates and their scores, best first.

        Ties are in the catalogue's order. Nothing where nothing is known of the history.
        """
        for start in range(0, len(asked), 64):
            some = asked[start : start + 64]
            vectors = [self.query(question, decay) for question in some]
            silent = np.zeros(self.matrix.shape[1], dtype=np.float32)
            stacked = np.stack([silent if v is None else v for v in vectors])
            for question, vector, row in zip(some, vectors, stacked @ self.matrix.T, strict=True):
                gains = popular.gains(question.ts)
                yield [] if vector is None else self._best(question, row, gains)

    def _best(self, question: Question, cosines: FloatArray, gains: dict[str, float]) -> Found:
        """The best by ``cosines`` (t,) of texts and ``gains``, as items that were not bought."""
        texts = min(CANDIDATES + len(question.bought), len(cosines) - 1)
        near = np.argpartition(-cosines, texts)[:texts]
        rows = {i: row for row in near for i in self.of_row[row]}
        rows |= {i: self.rows[self.items[i].text] for i in gains if self.items[i].text}
        items = [(i, float(cosines[row]), gains.get(i, 0.0)) for i, row in rows.items()]
        left = [each for each in items if each[0] not in question.bought]
        return sorted(left, key=lambda each: (-each[1] - each[2], each[0]))[:CANDIDATES]


@dataclass
class Measured:
    """Metric values (weights, questions) and what happened on the way."""

    hits: Values
    gains: Values
    answered: list[int] = field(default_factory=list)
    tied: int = 0


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def read(file: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def questions(folder: Path, items: dict[str, Item]) -> list[Question]:
    """The validation part's questions, in the order of the log."""
    events = [e for e in read(folder / "events.jsonl.gz") if e["item_id"] in items]
    by_shopper: dict[str, list[Step]] = {}
    for event in events:
        step = Step(Kind.PURCHASE, event["ts"], event["item_id"])
        by_shopper.setdefault(event["user_id"], []).append(step)
    if folder.name == "amazon_beauty":
        return [
            question(n, steps[:-2], steps[-2:-1])
            for n, steps in enumerate(by_shopper.values())
            if len(steps) > 2
        ]
    end = sorted(e["ts"] for e in events)[int(0.8 * len(events))]
    asked = []
    for n, steps in enumerate(by_shopper.values()):
        before: list[Step] = []
        for ts, basket in groupby(sorted(steps, key=lambda s: s.ts), key=lambda s: s.ts):
            together = list(basket)
            if before and ts < end:
                asked.append(question(n, before, together))
            before = before + together
    return asked


def question(shopper: int, before: list[Step], after: list[Step]) -> Question:
    bought = frozenset(s.item_id for s in before if s.item_id)
    targets = dict.fromkeys(s.item_id for s in after if s.item_id and s.item_id not in bought)
    return Question(shopper, after[0].ts, tuple(before[-NEWEST:]), bought, tuple(targets))


def sample(asked: list[Question], shoppers: int, seed: int) -> list[Question]:
    """All questions with a target, of a draw of shoppers; 0: of all of them."""
    everyone = sorted({q.shopper for q in asked})
    chosen = set(everyone)
    if 0 < shoppers < len(everyone):
        chosen = set(random.Random(seed).sample(everyone, shoppers))
    return [q for q in asked if q.shopper in chosen and q.targets]


def measure(
    catalogue: Catalogue, asked: list[Question], decay: float, popular: Popular,
    reranker: LikelihoodReranker,
) -> Measured:  # fmt: skip
    shape = (len(WEIGHTS), len(asked))
    measured = Measured(np.zeros(shape), np.zeros(shape))
    began = time.perf_counter()
    for column, (q, found) in enumerate(
        zip(asked, catalogue.first(asked, decay, popular), strict=True)
    ):
        ids = [item_id for item_id, _, _ in found]
        places = [ids.index(target) for target in q.targets if target in ids]
        if not places:
            continue
        candidates = tuple(catalogue.items[i] for i in ids)
        history = tuple(Read(s, catalogue.items[s.item_id or ""]) for s in q.history)
        endless = Deadline(time.perf_counter, float("inf"))
        scores = reranker.score([RerankRequest(history, candidates)], endless)[0]
        assert scores is not None
        measured.answered.append(column)
        texts = [item.text for item in candidates]
        measured.tied += any(texts.count(texts[place]) > 1 for place in places)
        retrieved = np.array([cosine for _, cosine, _ in found], dtype=np.float32)
        gains = np.array([gain for _, _, gain in found], dtype=np.float32)
        missing = np.full(len(q.targets) - len(places), np.inf)
        for row, weight in enumerate(WEIGHTS):
            blended = blend(retrieved, scores, weight, gains)
            ranks = intervals.ranks(blended, blended[places])
            ranks = np.concatenate([ranks, missing])
            measured.hits[row, column] = intervals.hit_rate(ranks, 10)
            measured.gains[row, column] = intervals.ndcg(ranks, 10)
        if len(measured.answered) % 25 == 0:
            spent = time.perf_counter() - began
            say(f"{column + 1}/{len(asked)}, {len(measured.answered)} by the LLM, {spent:.0f} s")
    return measured


def decays(catalogue: Catalogue, asked: list[Question], popular: Popular) -> dict[str, list[float]]:
    """HR@10 and HR@20 of the retriever alone at each decay."""
    rates = {}
    for decay in DECAYS:
        found = [[i for i, _, _ in best] for best in catalogue.first(asked, decay, popular)]
        rates[str(decay)] = [
            round(float(np.mean([any(t in ids[:k] for t in q.targets) for q, ids in pairs])), 4)
            for k, pairs in ((k, list(zip(asked, found, strict=True))) for k in (10, 20))
        ]
        say(f"decay {decay}: HR@10, HR@20 {rates[str(decay)]}")
    return rates


def summary(measured: Measured, groups: Groups, seed: int) -> list[dict[str, Any]]:
    """A row a weight: both metrics over all questions, and their differences from weight 0."""
    rows = []
    for i, weight in enumerate(WEIGHTS):
        row: dict[str, Any] = {"weight": weight}
        for name, values in (("HR@10", measured.hits), ("NDCG@10", measured.gains)):
            whole = intervals.bootstrap(values[i], seed, groups)
            gain = intervals.paired_difference(values[i], values[0], seed, groups)
            row[name] = round(whole.mean, 5)
            row[f"{name} interval"] = [round(whole.low, 5), round(whole.high, 5)]
            row[f"{name} gain"] = [round(v, 5) for v in (gain.mean, gain.low, gain.high)]
            row[f"{name} where a target is among the candidates"] = round(
                float(values[i][measured.answered].mean()), 4
            )
        rows.append(row)
    return rows


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", choices=("amazon_beauty", "hm_sample"), required=True)
    parser.add_argument("--users", type=int, default=0, help="shoppers drawn; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--decay", type=float, default=DECAY, help="of the retriever")
    parser.add_argument("--trend", type=float, default=trending.WEIGHT, help="of popularity")
    parser.add_argument("--decays", action="store_true", help="the retriever alone, by its decay")
    parser.add_argument("--data-dir", type=Path, default=Path(".weft"))
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="only one object, as one line")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    folder = Path(os.environ.get("WEFT_DATA", "../shared/data")) / args.data
    catalogue = Catalogue(folder, args.data_dir, args.threads)
    popular = Popular(folder, args.trend)
    asked = sample(questions(folder, catalogue.items), args.users, args.seed)
    result: dict[str, Any] = {"data": args.data, "seed": args.seed, "questions": len(asked)}
    if args.decays:
        print(json.dumps({**result, "HR@10, HR@20 by decay": decays(catalogue, asked, popular)}))
        return
    reranker = load_reranker("", args.data_dir, args.threads, say)
    began, before = time.perf_counter(), time.process_time()
    measured = measure(catalogue, asked, args.decay, popular, reranker)
    groups = np.unique([q.shopper for q in asked], return_inverse=True)[1]
    result |= {
        "shoppers": int(groups.max()) + 1,
        "asked of the LLM": len(measured.answered),
        "of these with a tied title": measured.tied,
        "candidates": CANDIDATES,
        "retriever": f"{catalogue.encoder}/recency-mean, decay {args.decay}, trend {args.trend}",
        "model": reranker.name,
        "seconds": round(time.perf_counter() - began, 1),
        "processor seconds": round(time.process_time() - before, 1),
        "tokens/s at the end": round(1 / reranker.seconds_per_token),
        "weights": summary(measured, groups, args.seed),
    }
    if not args.json:
        for row in result["weights"]:
            say(f"w {row['weight']:<5} HR@10 {row['HR@10']:.4f} gain {row['HR@10 gain']} "
                f"NDCG@10 {row['NDCG@10']:.4f} gain {row['NDCG@10 gain']}")  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
