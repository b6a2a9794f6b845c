"""Baselines as contenders: fitted on what may be learnt, tuned on its last part, asked the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stream.replay.answers import KEPT, Answers
from stream.replay.driver import Progress
from stream.replay.prepare import Prepared, Request

if TYPE_CHECKING:
    from models.making import Say


def names_of(told: str) -> tuple[str, ...]:
    """The baselines that ``--baselines`` asks for."""
    return ()


def answered_by(
    name: str, request: Request, prepared: Prepared, say: Say, progress: Progress
) -> tuple[str, Answers] | None:
    """What the baseline is, and its answers; None where what it needs is not installed."""
    return None
