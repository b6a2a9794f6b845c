from __future__ import annotations

import numpy as np

from models.reader_cache import Entry, PrefixCache, step_keys
from models.reader_prompt import ReaderPrompt
from models.reader_states import Kept

TOKEN = 2 * 2 * 8 * 2  # bytes: two layers, keys and values, eight float16


def prompt(*lines: str) -> ReaderPrompt:
    """A line is a step of a token a letter, behind an opening of one token."""
    tokens, ends = [0], []
    for line in lines:
        tokens += [ord(letter) for letter in f"{line}\n"]
        ends.append(len(tokens) - 1)
    return ReaderPrompt(tuple(tokens), tuple(ends), tuple(range(len(lines))))


def entry(*lines: str) -> Entry:
    asked = prompt(*lines)
    values = np.zeros((2, 2, len(asked.tokens), 8), dtype=np.float16)
    return Entry(step_keys(asked), Kept(values), np.ones(4, dtype=np.float32))


def steps(cache: PrefixCache, *lines: str) -> int:
    return cache.find(step_keys(prompt(*lines))).steps


def test_the_longest_beginning_is_found() -> None:
    cache = PrefixCache()
    cache.keep(entry("hat", "boots"))
    assert steps(cache, "hat", "boots", "scarf") == 2
    assert steps(cache, "hat", "boots") == 2
    assert steps(cache, "hat", "scarf") == 1
    assert steps(cache, "boots", "hat") == 0


def test_a_line_that_begins_like_another_is_another() -> None:
    cache = PrefixCache()
    cache.keep(entry("hat", "boots"))
    assert steps(cache, "hats") == 0
    assert steps(cache, "ha", "tboots") == 0


def test_only_the_end_of_what_was_run_has_a_vector() -> None:
    cache = PrefixCache()
    cache.keep(entry("hat", "boots"))
    assert cache.find(step_keys(prompt("hat", "boots"))).vector is not None
    assert cache.find(step_keys(prompt("hat"))).vector is None
    assert cache.find(step_keys(prompt("scarf"))).vector is None


def test_a_longer_prompt_takes_the_place_of_its_beginning() -> None:
    cache = PrefixCache()
    cache.keep(entry("hat"))
    cache.keep(entry("hat", "boots"))
    assert cache.bytes == 11 * TOKEN
    assert steps(cache, "hat", "scarf") == 1


def test_prompts_that_share_a_beginning_are_both_kept() -> None:
    cache = PrefixCache()
    cache.keep(entry("hat", "boots"))
    cache.keep(entry("hat", "scarf"))
    assert steps(cache, "hat", "boots") == 2
    assert steps(cache, "hat", "scarf") == 2


def test_the_oldest_go_when_there_is_too_much() -> None:
    cache = PrefixCache(15 * TOKEN)
    cache.keep(entry("hat"))  # five tokens each
    cache.keep(entry("bag"))
    cache.keep(entry("cap"))
    assert steps(cache, "hat") == 1  # the youngest now
    cache.keep(entry("tie"))
    assert cache.bytes == 15 * TOKEN
    assert [steps(cache, name) for name in ("hat", "bag", "cap", "tie")] == [1, 0, 1, 1]


def test_what_is_larger_than_all_is_not_kept() -> None:
    cache = PrefixCache(3 * TOKEN)
    cache.keep(entry("hat"))
    assert cache.bytes == 0
    assert steps(cache, "hat") == 0


def test_a_forgotten_prompt_goes_with_all_that_share_its_steps() -> None:
    cache = PrefixCache()
    cache.keep(entry("hat", "boots", "scarf"))
    cache.keep(entry("hat", "bag"))
    cache.keep(entry("cap"))
    cache.forget(step_keys(prompt("hat", "boots")))
    assert [steps(cache, name) for name in ("hat", "cap")] == [0, 1]
    assert cache.bytes == 5 * TOKEN


def test_a_shared_beginning_is_found_again_after_one_of_its_prompts_went() -> None:
    cache = PrefixCache(15 * TOKEN)
    cache.keep(entry("hat", "boots"))
    cache.keep(entry("hat", "bag"))  # 11 + 9 tokens: the first has to go
    assert steps(cache, "hat", "boots") == 1
    assert cache.bytes == 9 * TOKEN


def test_cleared_nothing_is_left() -> None:
    cache = PrefixCache()
    cache.keep(entry("hat"))
    cache.clear()
    assert (cache.bytes, steps(cache, "hat")) == (0, 0)
