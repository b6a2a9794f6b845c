"""A whole replay: every contender asked the same questions, measured, written down.

    files ──▶ prepared ──▶ live contenders ─┐
                  │                         ├──▶ answers ──▶ metrics ──▶ result.json, report.html
                  └──────▶ baselines ───────┘

Each stage stands in the work folder, so that a replay that was killed goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from models.atomic_folder import Say
from models.ports import TitleEncoder
from stream.replay.finish import Answered, finished
from stream.replay.play.baselines import answered_by
from stream.replay.play.driver import Progress
from stream.replay.play.live import play
from stream.replay.questions.prepare import Live, Prepared, Request, prepare
from stream.replay.result.result import Result

#: Gives each contender, by its name and what is counted, something to show its progress with.
Bars = Callable[[str, str], Progress]


def replay(request: Request, encoder: TitleEncoder, say: Say, bar: Bars) -> Result:
    """Runs what was not run before, and writes the report's folder.

    Raises ``InvalidFile`` where there is nothing to ask; ``Fatal`` errors of the live code.
    """
    began = time.monotonic()
    prepared = prepare(request, encoder, say)
    say(f"{len(prepared.asked.baskets):,} questions; {prepared.asked.words}")
    if prepared.asked.warning:
        say(prepared.asked.warning)
    asked = [_live(request, live, prepared, say, bar) for live in request.lives]
    for name in request.baselines:
        found = _baseline(request, name, prepared, say, bar)
        asked += [] if found is None else [found]
    say("measuring")
    return finished(request, prepared, asked, time.monotonic() - began)


def _live(request: Request, live: Live, prepared: Prepared, say: Say, bar: Bars) -> Answered:
    say(f"{live.name}: through the live processors")
    began = time.monotonic()
    answers = play(request, live, prepared, say, bar(live.name, "events"))
    words = "the live processors"
    words += "; no bundle" if not live.bundle else f"; the bundle {live.bundle}"
    words += {"gate": ", the LLM by its gate", "always": ", the LLM always", "never": ", no LLM"}[
        live.rerank
    ]
    return Answered(live.name, "live", words, answers, time.monotonic() - began)


def _baseline(
    request: Request, name: str, prepared: Prepared, say: Say, bar: Bars
) -> Answered | None:
    """None where what it needs is not installed, which is said."""
    say(f"{name}: fitted, tuned on validation, and asked")
    began = time.monotonic()
    found = answered_by(name, request, prepared, say, bar(name, "questions"))
    if found is None:
        return None
    words, answers = found
    return Answered(name, "baseline", words, answers, time.monotonic() - began)
