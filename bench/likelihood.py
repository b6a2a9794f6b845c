"""The likelihood reranker beside a plain transformers loop: same weights, histories and scores.

    python -m bench.likelihood [--shoppers 6] [--threads 0] [--json]

The plain loop scores a list as one would write it: each candidate behind the whole history, all of
a list as one padded batch, in fp32 or bf16, whichever is quicker in here; what a title is likely
for anyone is kept from the first time on, as the reranker keeps it. Both score the same lists, one
at a time; rounds take turns, and the best of each counts, so that titles are known in it. ``ratio``
is of lists a second at 12 steps and 20 candidates. Titles are made up.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.frame import Best, parsed
from models.domain import Item, Kind, Step
from models.encoder.probe_titles import titles
from models.llm.choose import load_scorer
from models.llm.tokens import Tokenizer
from models.ports import Deadline, FloatArray, Read, RerankRequest
from models.rerank import prompt
from models.rerank.fusion import NAT
from models.rerank.likelihood import LikelihoodReranker
from models.weights import locate
from stream.settings import load

LOADS = ((1, 20), (4, 20), (12, 20), (12, 10), (12, 50))  # steps, candidates
ROUNDS = 3
ENDLESS = Deadline(lambda: 0.0, float("inf"))


class Shop:
    """Made-up products, and shoppers who choose among them."""

    def __init__(self, seed: int = 5) -> None:
        self._random = np.random.default_rng(seed)
        self._items = [Item(f"i{n}", title, 0) for n, title in enumerate(titles(2000))]

    def request(self, steps: int, candidates: int) -> RerankRequest:
        history = tuple(self._step(ts) for ts in range(steps))
        rows = self._random.choice(len(self._items), candidates, replace=False)
        return RerankRequest(history, tuple(self._items[row] for row in rows))

    def _step(self, ts: int) -> Read:
        """Six of ten are clicks, three purchases, one a search."""
        item = self._items[self._random.integers(len(self._items))]
        chance = self._random.random()
        if chance < 0.1:
            return Read(Step(Kind.SEARCH, ts, query=item.title.lower()), None)
        kind = Kind.CLICK if chance < 0.7 else Kind.PURCHASE
        return Read(Step(kind, ts, item.item_id), item)


class PlainLoop:
    """A padded batch a list."""

    def __init__(self, folder: Path, requests: Sequence[RerankRequest]) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self._torch = torch
        self._tokenize = Tokenizer(folder / "tokenizer.json")
        self._usual: dict[tuple[int, ...], float] = {}
        self._models = {
            kind: AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, kind)).eval()
            for kind in ("float32", "bfloat16")
        }
        self.seconds = {kind: Best() for kind in self._models}
        for kind, best in self.seconds.items():
            for _ in range(2):
                best.round(lambda kind=kind: self.score(requests, kind))  # type: ignore[misc]
        self.kind = min(self.seconds, key=lambda kind: self.seconds[kind].wall)

    def score(self, requests: Sequence[RerankRequest], kind: str = "") -> list[FloatArray]:
        found = []
        for request in requests:
            texts = [prompt.candidate(item, self._tokenize) for item in request.candidates]
            prefix = prompt.history_prefix(request.history, self._tokenize)
            unknown = [text for text in dict.fromkeys(texts) if text not in self._usual]
            general = prompt.general_prefix(self._tokenize)
            if unknown:
                usual = self._log_p(general, unknown, kind or self.kind)
                self._usual.update(zip(unknown, usual, strict=True))
            told = self._log_p(prefix, texts, kind or self.kind)
            ratios = [
                NAT * (likely - self._usual[text]) / len(text)
                for text, likely in zip(texts, told, strict=True)
            ]
            found.append(np.array(ratios, dtype=np.float32))
        return found

    def _log_p(self, prefix: Sequence[int], texts: Sequence[Sequence[int]], kind: str) -> Any:
        torch = self._torch
        width = max(map(len, texts))
        rows = [[*prefix, *text, *[0] * (width - len(text))] for text in texts]
        with torch.inference_mode():
            logits = self._models[kind](torch.tensor(rows), use_cache=False).logits
            log_p = logits[:, len(prefix) - 1 : -1].float().log_softmax(-1)
            targets = torch.tensor([row[len(prefix) :] for row in rows])
            each = log_p.gather(2, targets[:, :, None])[:, :, 0]
            there = torch.arange(width) < torch.tensor([[len(text)] for text in texts])
            return (each * there).sum(1).tolist()


def scored(reranker: LikelihoodReranker, requests: Sequence[RerankRequest]) -> list[FloatArray]:
    """One list at a time."""
    found = [scores for one in requests for scores in reranker.score([one], ENDLESS)]
    return [scores for scores in found if scores is not None]


def agreement(ours: Sequence[FloatArray], theirs: Sequence[FloatArray]) -> float:
    """Spearman's correlation, mean over the lists."""
    return float(
        np.mean([
            np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1]
            for a, b in zip(ours, theirs, strict=True)
        ])
    )  # fmt: skip


def main() -> None:
    args, data_dir = parsed(__doc__, shoppers=6, threads=0), load().data_dir
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    folder = locate.smollm2("", data_dir, print)
    reranker = LikelihoodReranker(load_scorer("", data_dir, args.threads, print), 0.0)
    shop = Shop()
    asked = {load: [shop.request(*load) for _ in range(args.shoppers)] for load in LOADS}
    plain = PlainLoop(folder, asked[12, 20][:2])
    print(f"{reranker.name}; the plain loop in {plain.kind}, the quicker one here")
    print("steps  candidates  ours, lists/s  plain, lists/s  ratio  of CPU time  rank correlation")
    lines = []
    for (steps, candidates), requests in asked.items():
        ours, theirs = Best(), Best()
        for _ in range(ROUNDS):
            mine = ours.round(lambda r=requests: scored(reranker, r))  # type: ignore[misc]
            others = theirs.round(lambda r=requests: plain.score(r))  # type: ignore[misc]
        line = {
            "steps": steps, "candidates": candidates,
            "lists/s": round(len(requests) / ours.wall, 3),
            "plain lists/s": round(len(requests) / theirs.wall, 3),
            "ratio": round(theirs.wall / ours.wall, 2),
            "cpu ratio": round(theirs.cpu / ours.cpu, 2),
            "rank correlation": round(agreement(mine, others), 4),
        }  # fmt: skip
        lines.append(line)
        print("  ".join(f"{value:>11}" for value in line.values()), flush=True)
    if args.json:
        main_load = next(line for line in lines if (line["steps"], line["candidates"]) == (12, 20))
        print(json.dumps({"ratio": main_load["ratio"], "loads": lines}))


if __name__ == "__main__":
    main()
