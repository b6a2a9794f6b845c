"""A short run of each fuzz target; ``python -m bench.fuzz`` makes a million inputs of them."""

from __future__ import annotations

from random import Random

import orjson
import pytest

from testbed import damage
from testbed.fuzz_targets import ALL, Fuzzed, run

#: Of a target with share 1; the codec's 20,000 are in test_contracts_fuzz.py.
_INPUTS = 6_000
_LEAST = 60
#: What passes must not be so little that only the parsers are tried, nor all.
_TAKEN = 0.03


@pytest.mark.parametrize("fuzzed", ALL, ids=lambda fuzzed: fuzzed.name)
def test_whatever_comes_in_nothing_but_the_named_error_comes_out(fuzzed: Fuzzed) -> None:
    told = run(fuzzed.target, max(_LEAST, int(_INPUTS * fuzzed.share)), seed=6)
    assert told.failures == []
    assert _TAKEN < told.taken / told.inputs < 1


def test_a_reader_that_trusts_its_input_is_found_out_and_the_input_is_found_again() -> None:
    def trusting(dice: Random) -> bool:
        return bool(orjson.loads(damage.of_json(dice, b'{"v":1,"o":{"clicks":3}}'))["o"]["clicks"])

    told = run(trusting, 200, seed=1)
    assert 0 < told.failed < 200
    assert told.failed + told.taken <= told.inputs == 200
    number, words = told.failures[0]
    with pytest.raises((TypeError, KeyError, IndexError)) as caught:
        trusting(Random(1 << 40 | number))
    assert words == f"{type(caught.value).__name__}: {caught.value}"
