"""What a training says of itself while it runs; the command line draws bars of it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """One stage's progress."""

    def step(self, done: int, total: int, *, loss: float, metric: float) -> None:
        """``done`` of ``total`` steps; ``metric`` is validation's NDCG@10 so far, 0 before it."""


class Silent:
    """Says nothing."""

    def step(self, done: int, total: int, *, loss: float, metric: float) -> None:
        """Nothing."""
