"""What the options of `weft train` ask for, and which do not go together."""

from __future__ import annotations

from typing import Any

import click
import pytest

from models.llm.tuned import UNTUNED
from stream.cli.train import _method, _preset


def options(**more: Any) -> dict[str, Any]:
    return {"method": None, "rank": None, "llm_tokens": None, **more}


def test_the_llm_stays_as_it_is_unless_a_tuning_is_asked_for() -> None:
    assert _method(options()) == UNTUNED
    assert _method(options(method="dora")) == "dora"
    assert _method(options(rank=4)) is None  # the preset's
    assert _method(options(llm_tokens=1000)) is None


def test_a_tuning_of_nothing_is_refused() -> None:
    with pytest.raises(click.UsageError, match="leave out --rank"):
        _method(options(method=UNTUNED, rank=8))


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"strategy": "id"}, "--strategy"),
        ({"zero_shot": False}, "--from-scratch"),
        ({"epochs": 2}, "--epochs"),
    ],
)
def test_what_learns_nothing_has_no_options_of_learning(more: dict[str, Any], named: str) -> None:
    plain: dict[str, Any] = {
        "preset": "untrained",
        "strategy": None,
        "zero_shot": None,
        "epochs": None,
    }
    told = options(device="auto", **plain)
    assert _preset(told).training.epochs == 0
    with pytest.raises(click.UsageError, match=f"leave out {named}"):
        _preset({**told, **more})
