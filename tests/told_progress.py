"""A training's progress that remembers, and that dies when told to."""

from __future__ import annotations


class Told:
    """``steps``: (done, total, loss, metric) of each; at the ``until``-th one it is killed."""

    def __init__(self, until: int = 0) -> None:
        self.steps: list[tuple[int, int, float, float]] = []
        self.until = until

    def step(self, done: int, total: int, *, loss: float, metric: float) -> None:
        self.steps.append((done, total, loss, metric))
        if len(self.steps) == self.until:
            raise KeyboardInterrupt
