"""The fault bench in short: the promise is kept, and with a deliberate bug the bench says so."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from bench.faults.__main__ import parsed, run
from testbed.kafka import real_kafka, why_missing

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.long,
    pytest.mark.skipif(bool(why_missing()), reason=why_missing() or ""),
]


def short_run(folder: Path, *arguments: str) -> dict[str, Any]:
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)  # shown where the test fails; the bench repeats it
    options = parsed(["--seed", str(seed), "--rate", "60", *arguments])
    with real_kafka() as kafka:  # its own: the bench stops it
        return run(kafka, folder, options)


def test_nothing_is_lost_doubled_or_stale_after_a_minute_of_every_fault(tmp_path: Path) -> None:
    found = short_run(tmp_path, "--minutes", "1")
    assert found["sound"], found["examples"]
    wrong = ("lost", "duplicated", "wrong_states", "stale", "letters_missing", "letters_unexpected")
    assert {name: found[name] for name in wrong} == dict.fromkeys(wrong, 0)
    done = ("kills", "zombies", "broker_outages", "index_outages", "bundles_switched")
    assert all(found[name] >= 1 for name in done), found
    assert found["events"] == 60 * 60
    assert found["letters_expected"] == 1000


@pytest.mark.parametrize(
    ("bug", "fault", "found_by"),
    [  # the others of docs/reliability.md are too long for every run of the tests
        ("ack-before-delivery", "kills", ("lost",)),
    ],
)
def test_a_deliberate_bug_makes_the_bench_fail(
    bug: str, fault: str, found_by: tuple[str, ...], tmp_path: Path
) -> None:
    arguments = ("--minutes", "0.5", "--only", fault, "--bug", bug, "--drain", "20")
    found = short_run(tmp_path, *arguments)
    assert not found["sound"]
    assert sum(found[name] for name in found_by) > 0, found
