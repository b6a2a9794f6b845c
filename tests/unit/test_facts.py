"""The two tables of facts, kinds and topics: whole, and used as they stand."""

import ast
from pathlib import Path

import numpy as np
import orjson
import pytest

from models.domain import KIND_NUMBERS, Item, Kind, Step
from models.ports import Read, Stored
from models.recommend.reasons import grounded
from models.rerank.prompt import history_prefix
from models.space.recency import Signals
from stream.contracts.codec import ShopperEvent, decode_shopper, encode_event
from stream.contracts.declaration import CONTRACTS
from stream.contracts.schema import asyncapi
from stream.contracts.topics import (
    ALL_TOPICS,
    RANKS,
    SHOPPER_TOPICS,
    SOURCES,
    TABLE,
    TOPIC_OF_TYPE,
    TOPICS,
    topic_of,
)
from stream.settings import Settings
from stream.shoppers.state import ShopperState, loads

NOW = 1_700_000_000_000
ROOT = Path(__file__).parents[2]
#: The tables, and what turns other shops' words into these.
SPELLING = {"models/domain.py", "stream/contracts/topics.py", "stream/contracts/declaration.py"}
FOREIGN = "stream/importers/"


def test_what_is_on_disks_stays_as_it_is() -> None:
    """Add a row to both; a row that is there may not change (states, logs and bundles have it)."""
    assert {kind.value: kind.number for kind in Kind} == {"click": 1, "purchase": 2, "search": 3}
    assert RANKS == {"clicks": 0, "purchases": 1, "searches": 2, "erasures": 3}


def test_each_number_rank_and_word_is_there_once() -> None:
    numbers = [kind.number for kind in Kind]
    assert 0 not in numbers  # which pads
    assert len(set(numbers)) == len(numbers)
    assert max(numbers) < KIND_NUMBERS
    assert sorted(RANKS.values()) == list(range(len(RANKS)))
    words = [word for topic in TABLE for word in topic.types]
    assert len(set(words)) == len(words)
    assert all(kind.verb for kind in Kind)


def test_every_kind_has_one_topic_and_every_topic_its_contract() -> None:
    assert sorted(topic_of(kind) for kind in (*Kind, None)) == sorted(SHOPPER_TOPICS)
    assert all(TOPICS[topic_of(kind)].kind is kind for kind in (*Kind, None))
    assert tuple(CONTRACTS) == ALL_TOPICS
    assert {TOPIC_OF_TYPE[TOPICS[topic].word] for topic in SHOPPER_TOPICS} == set(SHOPPER_TOPICS)


def test_the_document_says_what_is_read_and_what_is_written() -> None:
    operations = asyncapi(Settings(), "1")["operations"]
    received = {name for name, flow in operations.items() if flow["action"] == "receive"}
    assert received == {f"read-{topic}" for topic in SOURCES}


def event_of(kind: Kind | None) -> ShopperEvent:
    item, query = ("i1", None) if kind is None or kind.of_item else (None, "linen")
    return ShopperEvent(kind, "nora", NOW, item if kind else None, query)


@pytest.mark.parametrize("kind", [*Kind, None])
def test_an_event_of_each_kind_goes_there_and_back(kind: Kind | None) -> None:
    topic, key, value = encode_event(event_of(kind))
    assert decode_shopper(topic, key, value, NOW) == event_of(kind)
    shape = CONTRACTS[topic].value
    assert shape is not None
    assert set(orjson.loads(value)) <= {field.name for field in shape.fields}


@pytest.mark.parametrize("kind", Kind)
def test_a_step_of_each_kind_is_kept_and_read_back(kind: Kind) -> None:
    state = ShopperState()
    state.apply(topic_of(kind), 7, event_of(kind))
    assert loads(state.dumps()) == state
    (step,) = state.history().steps
    assert (step.kind, step.item_id or step.query) == (kind, "i1" if kind.of_item else "linen")


@pytest.mark.parametrize("kind", Kind)
def test_the_llm_and_the_shopper_read_the_verb(kind: Kind) -> None:
    said: list[str] = []

    def tokenize(text: str) -> tuple[int, ...]:
        said.append(text)
        return (1,)

    item = Item("i1", "Linen dress", NOW)
    step = Step(kind, NOW, "i1" if kind.of_item else None, None if kind.of_item else "linen")
    history_prefix([Read(step, item if kind.of_item else None)], tokenize)
    assert any(kind.verb in text for text in said)
    if kind.of_item:
        stored = {"i1": Stored(item, None), "i2": Stored(Item("i2", "Hat", NOW), None)}
        assert kind.verb in reason_of(step, stored)


def reason_of(step: Step, stored: dict[str, Stored]) -> str:
    vector = np.ones(1, dtype=np.float32)
    shown = {name: Stored(each.item, vector) for name, each in stored.items()}
    known = Signals(vector[None], vector, (0,), (False,))
    (reason,) = grounded(["i2"], known, [step], shown)
    return reason


def spelled(file: Path) -> set[str]:
    """The strings of a program, its docstrings left out."""
    tree = ast.parse(file.read_text("utf-8"))
    bodies = (node.body for node in ast.walk(tree) if isinstance(node, _WITH_DOCSTRING))
    docstrings = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    strings = (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {s.value for s in strings if isinstance(s.value, str) and id(s) not in docstrings}


_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def test_no_other_file_spells_a_kind_or_a_topic_of_what_shoppers_do() -> None:
    facts = {*SHOPPER_TOPICS, *TOPIC_OF_TYPE, *(kind.value for kind in Kind)}
    files = [file for room in ("models", "stream") for file in (ROOT / room).rglob("*.py")]
    names = {str(file.relative_to(ROOT)): file for file in files}
    assert names.keys() >= SPELLING
    assert facts & spelled(names["models/domain.py"]) == {kind.value for kind in Kind}
    told = {name: facts & spelled(file) for name, file in names.items() if name not in SPELLING}
    assert not {name for name, found in told.items() if found and not name.startswith(FOREIGN)}
