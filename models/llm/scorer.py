"""What a causal LLM is asked here: how likely are texts after a prefix, each alone.

The port ``CausalScorer``, and the packing that makes one forward of many questions: a prefix is
run through once, and each of its continuations attends to the prefix and to itself only, so that
no candidate can see, and so none can influence, another. Positions restart behind the prefix, so
that each continuation is computed as if it alone stood there (tree attention, as in SpecInfer,
arXiv 2305.09781, of depth two). The scores are those of a forward a candidate; the cost is the
tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from models.ports import FloatArray

IntArray = NDArray[np.int64]
Tokens = tuple[int, ...]

#: A longer forward is split, where the scorer does not ask for longer ones: the logits of so many
#: tokens hold 100 MB, twice.
MOST_TOKENS: Final = 512
#: Keys and values that stand in front of every prompt, where a model was tuned by such; see
#: models/llm/merge_adapter.py.
SOFT: Final = "soft.safetensors"


@dataclass(frozen=True, slots=True)
class Branch:
    """A prefix of at least one token, and the continuations to score behind it."""

    prefix: Tokens
    continuations: tuple[Tokens, ...]

    @property
    def cost(self) -> int:
        """Tokens that a forward runs through; a continuation's last token is only a target.

        None at all where there is nothing to score.
        """
        if not any(self.continuations):
            return 0
        return len(self.prefix) + sum(len(c) - 1 for c in self.continuations if c)


@dataclass(frozen=True, slots=True)
class Packed:
    """Branches as one sequence of n tokens, of which m predict a target."""

    tokens: IntArray  # (n,)
    positions: IntArray  # (n,), restarting behind each prefix
    visible: NDArray[np.bool_]  # (n, n): row may attend to column
    reads: IntArray  # (m,) rows whose prediction is wanted
    targets: IntArray  # (m,) the token whose probability is wanted there
    owners: IntArray  # (m,) index of the continuation, counted over all branches


class CausalScorer(Protocol):
    """A causal LLM that gives the probabilities of tokens."""

    @property
    def name(self) -> str:
        """The model and what its back end does to the scores, e.g. ``smollm2-135m-int4``."""

    @property
    def tokens_at_once(self) -> int:
        """Tokens of a forward beyond which more of them at once are no quicker per token."""

    def tokenize(self, text: str) -> Tokens:
        """The text's tokens, without markers of begin and end."""

    def log_probabilities(self, packed: Packed) -> FloatArray:
        """The log p of each target (m,), natural logarithm, over the whole vocabulary.

        Raises ``RerankerFailed``.
        """


def pack(branches: Sequence[Branch]) -> Packed:
    """One sequence of all branches; no token sees another branch, nor another continuation."""
    tokens: list[int] = []
    positions: list[int] = []
    spans: list[tuple[int, int, int, int]] = []  # rows start:end see columns from:to of a prefix
    reads: list[int] = []
    targets: list[int] = []
    owners: list[int] = []
    owner = 0
    for branch in branches:
        if not branch.cost:
            owner += len(branch.continuations)
            continue
        first, last = len(tokens), len(tokens) + len(branch.prefix)
        tokens += branch.prefix
        positions += range(len(branch.prefix))
        spans.append((first, last, first, first))
        for continuation in branch.continuations:
            start = len(tokens)
            rows = [last - 1, *range(start, start + len(continuation) - 1)]
            reads += rows[: len(continuation)]
            targets += continuation
            owners += [owner] * len(continuation)
            owner += 1
            tokens += continuation[:-1]
            positions += range(len(branch.prefix), len(branch.prefix) + len(continuation[:-1]))
            spans.append((start, len(tokens), first, last))
    visible = np.zeros((len(tokens), len(tokens)), dtype=np.bool_)
    for start, end, first, last in spans:
        visible[start:end, start:end] = np.tri(end - start, dtype=np.bool_)
        visible[start:end, first:last] = True
    numbers = [np.array(v, dtype=np.int64) for v in (tokens, positions, reads, targets, owners)]
    return Packed(numbers[0], numbers[1], visible, *numbers[2:])


def log_likelihoods(scorer: CausalScorer, branches: Sequence[Branch]) -> list[FloatArray]:
    """For each branch its continuations' log p given the prefix (c,), summed over the tokens.

    A continuation without tokens has log p = 0. Branches share forwards as far as they fit; one
    that is too long for any is run in parts, each with the prefix anew.
    """
    most = max(scorer.tokens_at_once, MOST_TOKENS)
    parts = [(i, part) for i, branch in enumerate(branches) for part in _parts(branch, most)]
    found: list[list[FloatArray]] = [[] for _ in branches]
    for together in _forwards(parts, scorer.tokens_at_once):
        counts = [len(part.continuations) for _, part in together]
        sums = np.zeros(sum(counts), dtype=np.float32)
        packed = pack([part for _, part in together])
        if len(packed.reads):
            np.add.at(sums, packed.owners, scorer.log_probabilities(packed))
        split = np.split(sums, np.cumsum(counts)[:-1])
        for (i, _), values in zip(together, split, strict=True):
            found[i].append(values)
    return [np.concatenate(values) for values in found]


def seconds_per_token(scorer: CausalScorer, clock: Callable[[], float]) -> float:
    """Seconds that a token takes in a forward of common size; a first, slower one warms up."""
    title = scorer.tokenize("Linen midi dress, White Dress\n")
    branch = Branch(title * 16, (title,) * 16)
    log_likelihoods(scorer, [branch])
    began = clock()
    log_likelihoods(scorer, [branch])
    return (clock() - began) / branch.cost


def _parts(branch: Branch, most: int) -> Iterator[Branch]:
    """The branch, its continuations shared out so that no part exceeds ``most`` without need."""
    begin, size = 0, len(branch.prefix)
    for end, continuation in enumerate(branch.continuations):
        size += max(len(continuation) - 1, 0)
        if size > most and end > begin:
            yield Branch(branch.prefix, branch.continuations[begin:end])
            begin, size = end, len(branch.prefix) + max(len(continuation) - 1, 0)
    yield Branch(branch.prefix, branch.continuations[begin:])


def _forwards(
    parts: Sequence[tuple[int, Branch]], tokens_at_once: int
) -> Iterator[list[tuple[int, Branch]]]:
    """Neighbours together as long as they fit; what does not fit goes alone."""
    together: list[tuple[int, Branch]] = []
    room = tokens_at_once
    for part in parts:
        if together and part[1].cost > room:
            yield together
            together, room = [], tokens_at_once
        together.append(part)
        room -= part[1].cost
    if together:
        yield together
