"""The untuned LLM's weight in the fusion, on the validation part of an event log.

    python -m bench.fusion_weight --data amazon_beauty|hm_sample [--users N] [--seed S] [--json]

The logs lie in the folder that WEFT_DATA names (../shared/data without it). Beauty: a shopper's
event before the last one, asked with all before it (leave-one-out; the last is kept for tests).
H&M: all before the last 20 % of the events; what one shopper bought at one ts is one question
with several targets, asked before any of it is applied. Retrieval is the one that ships: the
recency-weighted mean of title vectors over all items, what was bought left out; the first 20 are
reranked. Only questions with a target among these need the LLM: the others' metrics are 0 at
every weight, and count. Items with the same title have the same score: a target takes the mean
rank of its ties. Intervals are 95 %, paired, shoppers resampled.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from models import evaluation
from models.domain import Item, Kind, Step
from models.encoder import load_encoder
from models.fusion import fuse
from models.likelihood import LikelihoodReranker, load_reranker
from models.ports import Deadline, FloatArray, Read, RerankRequest
from models.retrieval import DECAY, query_vector
from models.vectors import CachedEncoder

CANDIDATES = 20
NEWEST = 50  # steps of a shopper's sequence, as the worker keeps them
WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
DECAYS = (0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class Question:
    shopper: int
    history: tuple[Step, ...]
    bought: frozenset[str]
    targets: tuple[str, ...]


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
        rows = {text: row for row, text in enumerate(texts)}
        self.rows = {i: rows[item.text] for i, item in self.items.items() if item.text}
        self.searched = [i for i in self.ids if i in self.rows]
        self.row_of = np.array([self.rows[i] for i in self.searched])

    def vectors(self, steps: tuple[Step, ...]) -> dict[str, FloatArray]:
        known = (s.item_id for s in steps if s.item_id is not None)
        return {i: self.matrix[self.rows[i]] for i in known if i in self.rows}

    def first(self, question: Question, decay: float) -> tuple[list[str], FloatArray] | None:
        """The first candidates and their cosines, best first, ties in the catalogue's order."""
        vector = query_vector(question.history, self.vectors(question.history), {}, decay)
        if vector is None:
            return None
        scores = (self.matrix @ vector)[self.row_of]
        wanted = CANDIDATES + len(question.bought)
        near = np.argpartition(-scores, wanted)[:wanted]
        near = near[scores[near] > scores[near].min()]  # the lowest tie may be cut anywhere
        rows = sorted(np.flatnonzero(scores >= scores[near].min()), key=lambda r: -scores[r])
        left = [r for r in rows if self.searched[r] not in question.bought][:CANDIDATES]
        return [self.searched[r] for r in left], scores[left]


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
    return Question(shopper, tuple(before[-NEWEST:]), bought, tuple(targets))


def sample(asked: list[Question], shoppers: int, seed: int) -> list[Question]:
    """All questions with a target, of a draw of shoppers; 0: of all of them."""
    everyone = sorted({q.shopper for q in asked})
    chosen = set(everyone)
    if 0 < shoppers < len(everyone):
        chosen = set(random.Random(seed).sample(everyone, shoppers))
    return [q for q in asked if q.shopper in chosen and q.targets]


def measure(catalogue: Catalogue, asked: list[Question], reranker: LikelihoodReranker) -> Any:
    """Metric values (weights, questions) and what happened on the way."""
    hits, gains = (np.zeros((len(WEIGHTS), len(asked))) for _ in range(2))
    answered, tied, began = [], 0, time.perf_counter()
    for column, q in enumerate(asked):
        found = catalogue.first(q, DECAY)
        places = [found[0].index(t) for t in q.targets if t in found[0]] if found else []
        if not found or not places:
            continue
        candidates = tuple(catalogue.items[i] for i in found[0])
        history = tuple(Read(s, catalogue.items[s.item_id or ""]) for s in q.history)
        endless = Deadline(time.perf_counter, float("inf"))
        scores = reranker.score([RerankRequest(history, candidates)], endless)[0]
        assert scores is not None
        answered.append(column)
        texts = [item.text for item in candidates]
        tied += any(texts.count(texts[place]) > 1 for place in places)
        for row, weight in enumerate(WEIGHTS):
            ranks = evaluation.ranks(fuse(found[1], scores, weight), places)
            missing = np.full(len(q.targets) - len(places), np.inf)
            ranks = np.concatenate([ranks, missing])
            hits[row, column] = evaluation.hit_rate(ranks, 10)
            gains[row, column] = evaluation.ndcg(ranks, 10)
        if len(answered) % 25 == 0:
            say(f"{column + 1}/{len(asked)} questions, {len(answered)} by the LLM, "
                f"{time.perf_counter() - began:.0f} s")  # fmt: skip
    return hits, gains, answered, tied


def decays(catalogue: Catalogue, asked: list[Question]) -> dict[str, float]:
    """HR@10 of the retriever alone at each decay."""
    rates = {}
    for decay in DECAYS:
        found = [catalogue.first(q, decay) for q in asked]
        pairs = zip(asked, found, strict=True)
        hits = [f is not None and any(t in f[0][:10] for t in q.targets) for q, f in pairs]
        rates[str(decay)] = round(float(np.mean(hits)), 4)
    return rates


def summary(hits: Any, gains: Any, groups: Any, seed: int, some: list[int]) -> list[dict[str, Any]]:
    """A row a weight: both metrics over all questions, and their differences from weight 0."""
    rows = []
    for i, weight in enumerate(WEIGHTS):
        row: dict[str, Any] = {"weight": weight}
        for name, values in (("HR@10", hits), ("NDCG@10", gains)):
            whole = evaluation.bootstrap(values[i], seed, groups)
            gain = evaluation.paired_difference(values[i], values[0], seed, groups)
            row[name] = round(whole.mean, 5)
            row[f"{name} interval"] = [round(whole.low, 5), round(whole.high, 5)]
            row[f"{name} gain"] = [round(v, 5) for v in (gain.mean, gain.low, gain.high)]
            row[f"{name} where a target is among the candidates"] = round(
                float(values[i][some].mean()), 4
            )
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", choices=("amazon_beauty", "hm_sample"), required=True)
    parser.add_argument("--users", type=int, default=0, help="shoppers drawn; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", type=Path, default=Path(".weft"))
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--decays", action="store_true", help="the retriever's decay too")
    parser.add_argument("--json", action="store_true", help="only one object, as one line")
    args = parser.parse_args()
    folder = Path(os.environ.get("WEFT_DATA", "../shared/data")) / args.data
    catalogue = Catalogue(folder, args.data_dir, args.threads)
    asked = sample(questions(folder, catalogue.items), args.users, args.seed)
    reranker = load_reranker("", args.data_dir, args.threads, say)
    began, before = time.perf_counter(), time.process_time()
    hits, gains, answered, tied = measure(catalogue, asked, reranker)
    groups = np.unique([q.shopper for q in asked], return_inverse=True)[1]
    result = {
        "data": args.data,
        "seed": args.seed,
        "shoppers": int(groups.max()) + 1,
        "questions": len(asked),
        "asked of the LLM": len(answered),
        "of these with a tied title": tied,
        "candidates": CANDIDATES,
        "retriever": f"{catalogue.encoder}/recency-mean, decay {DECAY}",
        "model": reranker.name,
        "seconds": round(time.perf_counter() - began, 1),
        "processor seconds": round(time.process_time() - before, 1),
        "tokens/s at the end": round(1 / reranker.seconds_per_token),
        "weights": summary(hits, gains, groups, args.seed, answered),
    }
    if args.decays:
        result["HR@10 of the retriever by decay"] = decays(catalogue, asked)
    if not args.json:
        for row in result["weights"]:
            say(f"w {row['weight']:<5} HR@10 {row['HR@10']:.4f} gain {row['HR@10 gain']} "
                f"NDCG@10 {row['NDCG@10']:.4f} gain {row['NDCG@10 gain']}")  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
