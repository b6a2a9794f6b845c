from __future__ import annotations

import pytest

from models.space.query_vectors import QueryVectors
from testbed.stand_ins import HashEncoder


def test_a_vector_is_what_the_encoder_makes_of_the_words() -> None:
    encoder = HashEncoder()
    found = QueryVectors(encoder).of(["red dress", "boots"])
    assert found["red dress"] == pytest.approx(encoder.encode(["red dress"])[0])
    assert list(found) == ["red dress", "boots"]


def test_known_words_are_not_encoded_again() -> None:
    encoder = HashEncoder()
    queries = QueryVectors(encoder)
    queries.of(["a", "b", "a"])
    queries.of(["b", "c"])
    assert encoder.encoded == 3


def test_the_memory_is_bounded_and_keeps_the_words_used_last() -> None:
    encoder = HashEncoder()
    queries = QueryVectors(encoder, kept=2)
    queries.of(["a", "b"])
    queries.of(["a"])
    queries.of(["c"])  # b goes
    queries.of(["a", "c"])
    assert encoder.encoded == 3
    queries.of(["b"])
    assert encoder.encoded == 4


def test_more_words_at_once_than_are_kept_are_all_answered() -> None:
    queries = QueryVectors(HashEncoder(), kept=2)
    assert len(queries.of(["a", "b", "c", "d"])) == 4


def test_blank_words_have_no_vector() -> None:
    encoder = HashEncoder()
    assert QueryVectors(encoder).of(["", "  "]) == {}
    assert encoder.encoded == 0
