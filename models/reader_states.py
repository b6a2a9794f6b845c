"""What the history reader asks of a causal LLM: the states behind some of a prompt's tokens.

The port ``StateModel``, which keeps what it computed of a prompt: given the keys and values of the
tokens before, only the new tokens are run through. And how many prompts share a forward.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from models.llm import Tokens
from models.ports import FloatArray

#: A forward's attention may compute so many times the pairs that are needed, the rest is padding.
_PAIRS_WASTED: Final = 1.5
#: Pairs of a row and a column that a forward may always compute: too few to matter.
_PAIRS_FREE: Final = 1 << 15


@dataclass(frozen=True, slots=True)
class Kept:
    """Keys and values of a prompt's first tokens, (layers, 2, tokens, width) of a back end's type.

    Only for the model that gave it.
    """

    values: Any

    @property
    def tokens(self) -> int:
        """How many tokens it stands for."""
        return int(self.values.shape[2])

    @property
    def bytes(self) -> int:
        """What it takes in memory."""
        return int(self.values.nbytes)

    def first(self, tokens: int) -> Kept:
        """The same of fewer tokens; shares the memory."""
        return Kept(self.values[:, :, :tokens])


@dataclass(frozen=True, slots=True)
class Segment:
    """New tokens (at least one) of a prompt behind those of ``kept``, if any.

    ``wanted``: the positions among the new ones whose state is asked for.
    """

    tokens: Tokens
    wanted: tuple[int, ...]
    kept: Kept | None = None

    @property
    def before(self) -> int:
        """How many tokens stand before the new ones."""
        return self.kept.tokens if self.kept else 0


@dataclass(frozen=True, slots=True)
class Ran:
    """A segment's answer: the wanted states (w, h), and what to keep of all its tokens."""

    states: FloatArray
    kept: Kept


class StateModel(Protocol):
    """A causal LLM that gives its last layer's states behind the last norm."""

    @property
    def name(self) -> str:
        """The model and what its back end does to the states, e.g. ``smollm2-135m-int8``."""

    @property
    def width(self) -> int:
        """h, the length of a state."""

    @property
    def tokens_at_once(self) -> int:
        """New tokens of a forward beyond which more of them at once are no quicker per token."""

    def tokenize(self, text: str) -> Tokens:
        """The text's tokens, without markers of begin and end."""

    def keep(self, values: FloatArray) -> Kept:
        """Keys and values (layers, 2, tokens, width) of tokens that were not run here."""

    def run(self, segments: Sequence[Segment]) -> list[Ran]:
        """Each segment's states, as if it had been run alone and whole; in forwards of its own.

        Raises ``RerankerFailed``.
        """


def forwards(
    segments: Sequence[Segment], tokens_at_once: int, *, padded: bool
) -> Iterator[list[int]]:
    """Shares segments out to forwards, as indices; each segment is in one of them.

    Those of like lengths go together, so that little is computed for padding's sake: of the rows
    where ``padded`` (a back end that fills all up to the longest), else of the attention alone.
    """
    order = sorted(range(len(segments)), key=lambda i: _lengths(segments[i]), reverse=True)
    together: list[int] = []
    for i in order:
        if together and not _fits([segments[n] for n in (*together, i)], tokens_at_once, padded):
            yield together
            together = []
        together.append(i)
    if together:
        yield together


def _fits(segments: Sequence[Segment], tokens_at_once: int, padded: bool) -> bool:
    lengths = [_lengths(segment) for segment in segments]
    rows, columns = max(n for n, _ in lengths), max(t for _, t in lengths)
    needed = sum(n for n, _ in lengths)
    pairs = sum(n * t for n, t in lengths)
    computed = len(lengths) * rows
    if computed * columns > max(_PAIRS_WASTED * pairs, _PAIRS_FREE):
        return False
    return (computed if padded else needed) <= tokens_at_once


def _lengths(segment: Segment) -> tuple[int, int]:
    """New tokens, and all that they may attend to."""
    return len(segment.tokens), len(segment.tokens) + segment.before
