"""The history reader beside a plain transformers loop: the same weights, histories and scores.

    python -m bench.rerank [--shoppers 12] [--threads 0] [--bundle DIR] [--json]

The plain loop reads each shopper's whole prompt, one after the other, in fp32 or bf16, whichever
it is quicker in here, and keeps nothing. Two loads, each done by both in the same run:

- cold: shoppers of 12 steps that nobody has read before, in batches as a worker's;
- stream: shoppers of 2 to 32 steps that were read before, six events of each and a list after
  every one; one at a time, and 8 at a time. Of those with 24 steps and more the prompts also come
  to begin anew (models/reader_prompt.py).

``ratio`` is the stream's, one at a time. Rounds take turns and the best of each counts; beside the
wall's time stands the CPU's. Titles are made up, 50 candidates a list unless told. Without
--bundle the adapter is zero and the head random: that changes no cost.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models import weights
from models.domain import Item, Kind, Step
from models.ports import Deadline, FloatArray, Read, RerankRequest
from models.reader import HistoryReader, load_reader
from models.reader_head import Head, load_head
from models.reader_prompt import ReaderFormat, reader_prompt
from models.sample_titles import titles
from stream import settings

DIM = 128
CANDIDATES = 50
STEPS = 12
EVENTS = 6  # of each shopper in the stream
BATCH = 16
LENGTHS = (1, 4, 8, 12, 24)
COUNTS = (10, 50, 200, 1000)
ROUNDS = 3

Scores = list[FloatArray]


@dataclass
class Best:
    """The best of a few rounds, in seconds of the wall and of the CPU."""

    wall: float = float("inf")
    cpu: float = float("inf")

    def round(self, work: Callable[[], Scores]) -> Scores:
        wall, cpu = time.perf_counter(), time.process_time()
        done = work()
        self.wall = min(self.wall, time.perf_counter() - wall)
        self.cpu = min(self.cpu, time.process_time() - cpu)
        return done


class Shop:
    """Made-up products with random unit vectors, and shoppers who choose among them."""

    def __init__(self, dim: int, seed: int = 5) -> None:
        self._random = np.random.default_rng(seed)
        self.items = [Item(f"i{n}", title, 0) for n, title in enumerate(titles(2000))]
        vectors = self._random.normal(size=(len(self.items), dim)).astype(np.float32)
        self.vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def history(self, steps: int) -> tuple[Read, ...]:
        return tuple(self.step(ts) for ts in range(steps))

    def step(self, ts: int) -> Read:
        """Six of ten are clicks, three purchases, one a search."""
        item = self.items[self._random.integers(len(self.items))]
        chance = self._random.random()
        if chance < 0.1:
            return Read(Step(Kind.SEARCH, ts, query=item.title.lower()), None)
        kind = Kind.CLICK if chance < 0.7 else Kind.PURCHASE
        return Read(Step(kind, ts, item.item_id), item)

    def request(self, history: Sequence[Read], candidates: int = CANDIDATES) -> RerankRequest:
        rows = self._random.choice(len(self.items), candidates, replace=False)
        items, vectors = [self.items[row] for row in rows], [self.vectors[row] for row in rows]
        return RerankRequest(tuple(history), tuple(items), tuple(vectors))


class PlainLoop:
    """transformers as one would write it: a forward a shopper, the last state, the cosines."""

    def __init__(self, folder: Path, head: Head, form: ReaderFormat, tokenize: Any) -> None:
        import torch
        from transformers import AutoModel

        self._torch = torch
        self._head, self._form, self._tokenize = head, form, tokenize
        self._bodies = {
            name: AutoModel.from_pretrained(folder, dtype=kind).eval()
            for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16))
        }
        self.kind = "fp32"

    def choose(self, requests: Sequence[RerankRequest]) -> dict[str, float]:
        """Takes the quicker number type; the seconds of each."""
        seconds = {}
        for kind in self._bodies:
            best = Best()
            for _ in range(2):
                best.round(lambda kind=kind: self.score(requests, kind))  # type: ignore[misc]
            seconds[kind] = best.wall
        self.kind = min(seconds, key=seconds.__getitem__)
        return seconds

    def score(self, requests: Sequence[RerankRequest], kind: str = "") -> Scores:
        body = self._bodies[kind or self.kind]
        found = []
        with self._torch.inference_mode():
            for request in requests:
                tokens = reader_prompt(request.history, self._form, self._tokenize).tokens
                states = body(self._torch.tensor([tokens]), use_cache=False).last_hidden_state
                vector = self._head(states[0, -1:].float().numpy())[0]
                vectors = np.stack([v for v in request.vectors if v is not None])
                found.append(vectors @ vector)
        return found


class Ours:
    """The history reader as a worker calls it."""

    def __init__(self, reader: HistoryReader) -> None:
        self.reader = reader

    def cold(self, requests: Sequence[RerankRequest]) -> Scores:
        self.reader.forget()
        return self.score(requests, BATCH)

    def score(self, requests: Sequence[RerankRequest], batch: int) -> Scores:
        endless = Deadline(time.perf_counter, float("inf"))
        found: Scores = []
        for begin in range(0, len(requests), batch):
            answers = self.reader.score(requests[begin : begin + batch], endless)
            found += [answer for answer in answers if answer is not None]
        assert len(found) == len(requests)
        return found


def untrained_reader(folder: Path, llm: Path) -> dict[str, Any]:
    """A reader's folder with a LoRA that adds nothing and a random head; its manifest's section."""
    import torch
    from safetensors.numpy import save_file

    from models.training import llm_body, peft_methods

    torch.manual_seed(0)
    tuning = peft_methods.Tuning("lora")
    body = llm_body.body(llm, torch.device("cpu"))
    width = int(body.config.hidden_size)
    peft_methods.save(peft_methods.apply(body, tuning), tuning, folder)
    head = llm_body.Head(width, DIM).state_dict()
    save_file({name: value.numpy() for name, value in head.items()}, folder / "head.safetensors")
    sha256 = weights.fingerprint(llm)
    return {"llm": llm.name, "llm_sha256": sha256, "method": "lora", "format": {}, "layers": 0}


def measure(shoppers: int, threads: int, data_dir: Path, bundle: Path | None) -> dict[str, Any]:
    import torch

    from models.reader_merge import merge

    if threads:
        torch.set_num_threads(threads)
    llm = weights.smollm2("", data_dir, print)
    with tempfile.TemporaryDirectory() as scratch:
        folder = bundle / "reader" if bundle else Path(scratch) / "reader"
        if bundle:
            told = json.loads((bundle / "manifest.json").read_text("utf-8"))["reader"]
        else:
            told = untrained_reader(folder, llm)
        reader = load_reader(folder, told, data_dir, threads, print)
        merged = Path(scratch) / "merged"
        merge(llm, folder, told.get("layers", 0), merged)
        form = ReaderFormat.of(told.get("format", {}))
        head = load_head(folder)
        from models.llm_tokens import Tokenizer

        plain = PlainLoop(merged, head, form, Tokenizer(merged / "tokenizer.json"))
    ours, shop = Ours(reader), Shop(reader.dim)
    cold = [shop.request(shop.history(STEPS)) for _ in range(shoppers)]
    types = plain.choose(cold[:3])
    result: dict[str, Any] = {
        "model": reader.name,
        "plain": f"transformers, {plain.kind}",
        "plain_fp32_to_bf16": round(types["fp32"] / types["bf16"], 2),
        "cores": os.cpu_count(),
        "threads": threads or os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "shoppers": shoppers,
        "tokens_a_list": round(np.mean([tokens_of(plain, r) for r in cold])),
    }
    result |= compare_cold(ours, plain, cold) | compare_stream(ours, plain, shop, shoppers)
    result["by_steps"] = [by_length(ours, plain, shop, steps) for steps in LENGTHS]
    history = shop.history(STEPS)
    counts = [shop.request(history, count) for count in COUNTS]
    result["by_candidates"] = [by_count(ours, plain, request) for request in counts]
    return result | {"ratio": result["stream"]["ratio"], "target_ratio": 2.0}


def tokens_of(plain: PlainLoop, request: RerankRequest) -> int:
    return len(reader_prompt(request.history, plain._form, plain._tokenize).tokens)


def compare_cold(ours: Ours, plain: PlainLoop, cold: list[RerankRequest]) -> dict[str, Any]:
    """Lists of shoppers that nobody has read before, and how far the scores are apart."""
    quick, slow = Best(), Best()
    for _ in range(ROUNDS):
        found = quick.round(lambda: ours.cold(cold))
        exact = slow.round(lambda: plain.score(cold))
    other = plain.score(cold, "bf16" if plain.kind == "fp32" else "fp32")
    return {
        "cold": rates(quick, slow, len(cold)),
        "scores": {"to the plain loop": apart(found, exact),
                   "its fp32 to its bf16": apart(other, exact)},
    }  # fmt: skip


def compare_stream(ours: Ours, plain: PlainLoop, shop: Shop, shoppers: int) -> dict[str, Any]:
    """A list after each event; what came before the stream has been read.

    The plain loop does every fifth of them: its cost has no memory.
    """
    histories = [list(shop.history(2 + 30 * n // max(shoppers - 1, 1))) for n in range(shoppers)]
    before = [shop.request(history) for history in histories]
    events = []
    for _ in range(EVENTS):
        for history in histories:
            history.append(shop.step(len(history)))
            events.append(shop.request(history))
    sample = events[::5]
    one, eight, slow = Best(), Best(), Best()
    for _ in range(ROUNDS):
        for best, batch in ((one, 1), (eight, 8)):
            ours.cold(before)
            best.round(lambda batch=batch: ours.score(events, batch))  # type: ignore[misc]
        slow.round(lambda: plain.score(sample))
    whole = Best(slow.wall / len(sample) * len(events), slow.cpu / len(sample) * len(events))
    return {
        "stream": rates(one, whole, len(events)),
        "stream_by_8": rates(eight, whole, len(events)),
    }


def by_length(ours: Ours, plain: PlainLoop, shop: Shop, steps: int) -> dict[str, Any]:
    """Milliseconds of a list by the history's length: cold, and after one more event."""
    history = shop.history(steps)
    request, behind = shop.request(history), shop.request((*history, shop.step(steps)))
    cold, warm, slow = Best(), Best(), Best()
    for _ in range(ROUNDS):
        cold.round(lambda: ours.cold([request]))
        warm.round(lambda: ours.score([behind], 1))
        slow.round(lambda: plain.score([request]))
    return {
        "steps": steps,
        "tokens": tokens_of(plain, request),
        "cold_ms": ms(cold),
        "event_ms": ms(warm),
        "plain_ms": ms(slow),
    }


def by_count(ours: Ours, plain: PlainLoop, request: RerankRequest) -> dict[str, Any]:
    """Milliseconds of a list by its candidates, cold."""
    cold, slow = Best(), Best()
    for _ in range(ROUNDS):
        cold.round(lambda: ours.cold([request]))
        slow.round(lambda: plain.score([request]))
    return {"candidates": len(request.candidates), "cold_ms": ms(cold), "plain_ms": ms(slow)}


def ms(best: Best) -> float:
    return round(best.wall * 1e3, 1)


def rates(quick: Best, slow: Best, lists: int) -> dict[str, float]:
    return {
        "lists_s": round(lists / quick.wall, 1),
        "plain_lists_s": round(lists / slow.wall, 1),
        "ratio": round(slow.wall / quick.wall, 2),
        "cpu_ratio": round(slow.cpu / quick.cpu, 2),
    }


def apart(found: Scores, exact: Scores) -> dict[str, float]:
    """The largest difference of a score, and the rank correlations of the lists."""
    pairs = list(zip(found, exact, strict=True))
    correlations = [np.corrcoef(ranks(a), ranks(b))[0, 1] for a, b in pairs]
    return {
        "largest_difference": round(float(max(np.abs(a - b).max() for a, b in pairs)), 4),
        "rank_correlation": round(float(np.mean(correlations)), 4),
        "lowest_rank_correlation": round(float(min(correlations)), 4),
        "same_first": round(float(np.mean([a.argmax() == b.argmax() for a, b in pairs])), 3),
    }


def ranks(scores: FloatArray) -> FloatArray:
    return np.argsort(np.argsort(-scores)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--shoppers", type=int, default=12)
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--bundle", type=Path, help="a trained bundle instead of a random head")
    parser.add_argument("--json", action="store_true", help="the result as one line, last")
    options = parser.parse_args()
    data_dir = settings.load().data_dir
    result = measure(options.shoppers, options.threads, data_dir, options.bundle)
    _print(result)
    if options.json:
        print(json.dumps(result))


def _print(result: dict[str, Any]) -> None:
    print(
        f"{result['model']} beside {result['plain']}, {result['threads']} threads of "
        f"{result['cores']} cores, load average {result['load_average']}; "
        f"{result['tokens_a_list']} tokens a list of {CANDIDATES}, {STEPS} steps:"
    )
    for name, words in (
        ("cold", f"nobody read before, {BATCH} at a time"),
        ("stream", "an event more, one at a time"),
        ("stream_by_8", "an event more, 8 at a time"),
    ):
        row = result[name]
        print(
            f"  {words:<36} {row['lists_s']:>6} lists/s, plain {row['plain_lists_s']:>5}: "
            f"{row['ratio']} x, of CPU time {row['cpu_ratio']} x"
        )
    for name, row in result["scores"].items():
        print(
            f"  scores, {name}: " + ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in row.items())
        )
    for name in ("by_steps", "by_candidates"):
        for row in result[name]:
            print("  " + ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in row.items()))


if __name__ == "__main__":
    main()
