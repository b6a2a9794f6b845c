"""The suite itself: no test says how fast the machine has to be."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.waiting import eventually

ROOT = Path(__file__).parents[2]
TESTS = sorted([*(ROOT / "tests").rglob("*.py"), *(ROOT / "bench" / "tests").rglob("*.py")])
CLOCKS = {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "time", "time_ns"}


def asserts_a_speed(node: ast.AST) -> bool:
    """Whether it is an assertion over a clock that was read there and then."""
    return isinstance(node, ast.Assert) and any(
        isinstance(part, ast.Call)
        and isinstance(part.func, ast.Attribute)
        and part.func.attr in CLOCKS
        for part in ast.walk(node.test)
    )


def bounds_an_example(node: ast.AST) -> bool:
    """Whether it gives hypothesis a deadline."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "settings"
        and any(
            word.arg == "deadline"
            and not (isinstance(word.value, ast.Constant) and word.value.value is None)
            for word in node.keywords
        )
    )


@settings(max_examples=1)
@given(st.just(0.3))
def test_an_example_may_take_its_time(seconds: float) -> None:
    time.sleep(seconds)  # past hypothesis' own deadline, as on a busy machine


def test_no_test_asserts_how_long_something_took() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"  # type: ignore[attr-defined]
        for path in TESTS
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if asserts_a_speed(node) or bounds_an_example(node)
    ]
    assert found == [], "wait with testbed.waiting instead; figures are for bench"


@pytest.mark.parametrize(
    "code", ["assert time.monotonic() - began < 2", "settings(max_examples=5, deadline=200)"]
)
def test_what_is_looked_for_is_found(code: str) -> None:
    nodes = list(ast.walk(ast.parse(code)))
    assert any(asserts_a_speed(node) or bounds_an_example(node) for node in nodes)


def test_waiting_ends_with_its_own_words() -> None:
    with pytest.raises(AssertionError, match="the broker never came"):
        eventually(lambda: False, "the broker never came", patience=0.0)
