"""A small working CausalScorer: a unigram model of what a token may see.

p(token | visible) = (occurrences among the visible + 1) / (visible + vocabulary): Laplace's rule.
It reads ``visible`` as a real model does, so what it may not see cannot change its answer.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable

import numpy as np

from models.errors import RerankerFailed
from models.llm.scorer import Packed, Tokens
from models.ports import FloatArray

VOCABULARY = 100_003


class CountingScorer:
    """``forwards`` has the tokens of each forward; each token takes ``seconds`` by ``sleep``."""

    name = "counting"

    def __init__(
        self,
        seconds: float = 0.0,
        sleep: Callable[[float], None] = lambda _seconds: None,
        tokens_at_once: int = 200,
    ) -> None:
        self.seconds = seconds
        self.tokens_at_once = tokens_at_once
        self.forwards: list[int] = []
        self.failures = 0
        self._sleep = sleep

    def tokenize(self, text: str) -> Tokens:
        pieces = re.findall(r" ?\w+|[^\w]", text)
        return tuple(zlib.crc32(p.strip(" ").encode()) % VOCABULARY for p in pieces)

    def log_probabilities(self, packed: Packed) -> FloatArray:
        if self.failures > 0:
            self.failures -= 1
            raise RerankerFailed("the fake scorer was told to fail")
        self.forwards.append(len(packed.tokens))
        self._sleep(self.seconds * len(packed.tokens))
        answers = []
        for row, target in zip(packed.reads, packed.targets, strict=True):
            seen = packed.tokens[packed.visible[row]]
            answers.append(np.log(((seen == target).sum() + 1) / (len(seen) + VOCABULARY)))
        return np.array(answers, dtype=np.float32)
