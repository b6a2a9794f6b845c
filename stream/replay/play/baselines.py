"""Baselines as contenders: tuned on the last of what may be learnt, fitted on all of it, and asked.

The same questions as the live contenders get, in the same order; nothing of what is asked is used
but what the shopper did before, and by a baseline that counts as it goes, what all did before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from models.errors import InvalidSettings
from models.training.data.log import TrainingLog
from models.training.data.splits import Questions, block_of, last_events
from stream.replay.play.driver import Progress
from stream.replay.play.scored import put_scores
from stream.replay.questions.answers import Answers
from stream.replay.questions.baskets import Baskets, by_basket
from stream.replay.questions.prepare import Prepared, Request
from stream.replay.questions.protocols import Asked

if TYPE_CHECKING:
    from models.atomic_folder import Say

#: Share of the learnt events that baselines are tuned on, and the most questions of it.
_VALIDATION: Final = 0.1
_QUESTIONS: Final = 2000
_SEED: Final = 1


def names_of(told: str) -> tuple[str, ...]:
    """The baselines that are asked for. Raises ``InvalidSettings`` for an unknown one."""
    from models.baselines import NAMES

    if told in ("", "none"):
        return ()
    if told == "all":
        return NAMES
    asked = tuple(name.strip() for name in told.split(",") if name.strip())
    if unknown := [name for name in asked if name not in NAMES]:
        raise InvalidSettings(f"no baseline {unknown[0]!r}; there are {', '.join(NAMES)}")
    return asked


def answered_by(
    name: str, request: Request, prepared: Prepared, say: Say, progress: Progress
) -> tuple[str, Answers] | None:
    """What the baseline is, and its answers; None where what it needs is not installed."""
    from models.baselines import candidates
    from models.baselines.base import Asked as Questioned
    from models.baselines.base import tuned

    log, cut, baskets = prepared.log, prepared.asked, prepared.asked.baskets
    folder = request.asked_in / f"baseline-{name}"
    answers = Answers(folder, baskets)
    done = folder / "words.txt"  # written last
    if done.is_file():
        return done.read_text("utf-8"), answers
    ends, validation = learnt(log, cut, new_only=request.new_only)
    again = not request.new_only and cut.name != "last"
    try:
        settings = candidates(name, streaming=cut.name != "last", work=request.work / "members")
        best = tuned(settings, log, ends, validation, again=again)
        best.fit(log, cut.ends)
    except InvalidSettings as error:
        say(f"{name} is left out: {error}")
        return None
    block, enters = block_of(log), prepared.enters
    for start in range(0, len(baskets), block):
        some = slice(start, start + block)
        asked = Questioned(
            baskets.shoppers[some], baskets.starts[some], baskets.ends[some], baskets.ts[some]
        )
        scores = best.scores(log, asked).clone()
        put_scores(answers, baskets, log, start, scores, again=again, enters=enters)
        progress(min(start + block, len(baskets)), len(baskets))
    answers.flush()
    done.write_text(best.words, "utf-8")
    return best.words, answers


def learnt(
    log: TrainingLog, cut: Asked, *, new_only: bool
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], Questions]:
    """What may be learnt while tuning, (shoppers,) ends, and the questions that choose."""
    if cut.name == "last":
        split = last_events(log)
        return split.ends, split.validation.sample(_QUESTIONS, _SEED)
    ts = np.asarray(log.ts)
    before = np.sort(ts[ts < cut.first])
    if not len(before):
        return cut.ends, _flat(by_basket(log, 0, 0))
    boundary = int(before[int(len(before) * (1 - _VALIDATION))])
    asked = by_basket(log, boundary, cut.first, new_only=new_only)
    return log.ends_before(boundary), _flat(asked).sample(_QUESTIONS, _SEED)


def _flat(baskets: Baskets) -> Questions:
    """A question for each target."""
    of = np.repeat(np.arange(len(baskets)), np.diff(baskets.offsets))
    return Questions(baskets.shoppers[of], baskets.starts[of], baskets.ends[of], baskets.targets)
