from __future__ import annotations

from typing import Any

import jsonschema
import orjson
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from models.domain import Recommendation, RecommendedItem
from models.errors import BadMessage
from stream.cli import cli
from stream.contracts.codec import (
    AsOf,
    decode_product,
    decode_recommendation,
    decode_shopper,
    encode_recommendation,
)
from stream.contracts.declaration import CONTRACTS
from stream.contracts.fields import Field, Json
from stream.contracts.schema import asyncapi, json_schema
from stream.contracts.topics import ALL_TOPICS, PRODUCTS, RECOMMENDATIONS, SHOPPER_TOPICS
from stream.settings import Settings

NOW = 1_700_000_000_000
TOPICS = (PRODUCTS, *SHOPPER_TOPICS, RECOMMENDATIONS)


def _decodes(topic: str, row: Any) -> bool:
    contract = CONTRACTS[topic]
    key = row.get(contract.key) if isinstance(row, dict) else None
    value = orjson.dumps(row)
    try:
        if topic == PRODUCTS:
            decode_product(str(key).encode(), value, NOW)
        elif topic == RECOMMENDATIONS:
            decode_recommendation(str(key).encode(), value)
        else:
            decode_shopper(topic, str(key).encode(), value, NOW)
    except BadMessage:
        return False
    return True


def _list() -> Json:
    made = Recommendation((RecommendedItem("i1", 0.5, "because", "history"),), True, "m")
    as_of = AsOf(0, {"clicks": 3}, NOW)
    value = encode_recommendation(made, user_id="u", trigger="click", as_of=as_of, ts=NOW)
    row: Json = orjson.loads(value)
    return row


VALID: dict[str, Json] = {
    "products": {"item_id": "i", "title": "", "ts": NOW, "price": 1.5, "attributes": {"a": 1}},
    "clicks": {"user_id": "u", "item_id": "i", "ts": NOW, "query": "midi", "session_id": "s"},
    "purchases": {"user_id": "u", "item_id": "i", "ts": NOW, "quantity": 2, "price": 3},
    "searches": {"user_id": "u", "query": "midi", "ts": NOW},
    "erasures": {"user_id": "u", "ts": NOW},
    "recommendations": _list(),
}
#: Whatever a field may be confronted with, small enough for the bounds in bytes not to matter.
ANYTHING: list[Any] = [
    None, True, False, 0, 1, -1, 2.5, 3.0, -0.5, NOW, NOW + 0.5, 2**53, 946_684_799_999, "", "x",
    "1700000000000", "x" * 300, "x" * 5000, [], [1], [{}], {}, {"a": 1}, {"a": -1}, {"a": "b"},
    {"a": None}, {"a": []}, {"a": True}, {"a": 1.5}, {"x" * 257: "a"}, {"a": "x" * 1025},
]  # fmt: skip


@pytest.mark.parametrize("topic", TOPICS)
def test_a_schema_is_one_and_takes_the_example(topic: str) -> None:
    schema = json_schema(topic)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(VALID[topic])
    assert _decodes(topic, VALID[topic])


def _nested(fields: tuple[Field, ...]) -> list[str]:
    return [field.name for field in fields]


@pytest.mark.parametrize("topic", TOPICS)
def test_schema_and_decoder_agree_on_every_field_with_anything_in_it(topic: str) -> None:
    validator = jsonschema.Draft202012Validator(json_schema(topic))
    value = CONTRACTS[topic].value
    assert value is not None
    verdicts = set()
    for name in _nested(value.fields):
        rows = [VALID[topic] | {name: entry} for entry in ANYTHING]
        rows.append({key: entry for key, entry in VALID[topic].items() if key != name})
        for row in rows:
            said = validator.is_valid(row)
            assert said == _decodes(topic, row), (name, row.get(name))
            verdicts.add(said)
    assert verdicts == {True, False}


_SMALL = st.sampled_from(ANYTHING) | st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
_FIELDS = sorted({name for topic in TOPICS for name in VALID[topic]} | {"event_id", "in_stock"})


@settings(max_examples=400, deadline=None)
@given(
    topic=st.sampled_from(TOPICS),
    changes=st.dictionaries(st.sampled_from(_FIELDS), _SMALL, max_size=3),
    gone=st.sets(st.sampled_from(_FIELDS), max_size=1),
)
def test_the_decoder_takes_what_the_schema_takes(topic: str, changes: Json, gone: set[str]) -> None:
    row = {name: entry for name, entry in (VALID[topic] | changes).items() if name not in gone}
    validator = jsonschema.Draft202012Validator(json_schema(topic))
    assert validator.is_valid(row) == _decodes(topic, row)


def _resolved(document: Json, node: Json) -> Json:
    if "$ref" not in node:
        return node
    found: Any = document
    for part in node["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found  # type: ignore[no-any-return]


def test_the_asyncapi_document_holds_every_topic_and_no_dangling_reference() -> None:
    document = asyncapi(Settings(topic_prefix="shop-"), "1.2.3")
    assert document["asyncapi"] == "3.0.0"
    assert document["info"]["version"] == "1.2.3"
    assert {c["address"] for c in document["channels"].values()} == {
        "shop-" + topic for topic in ALL_TOPICS
    }
    for topic, channel in document["channels"].items():
        for reference in channel["messages"].values():
            message = _resolved(document, reference)
            payload = _resolved(document, message["payload"])
            assert payload == {"type": "null"} or payload["title"] == topic
    actions = {
        operation["channel"]["$ref"].removeprefix("#/channels/"): operation["action"]
        for operation in document["operations"].values()
    }
    read = {"products", "clicks", "purchases", "searches", "erasures"}
    assert {topic for topic, action in actions.items() if action == "receive"} == read
    assert set(actions) == set(ALL_TOPICS)


def test_null_values_are_messages_of_their_own_where_they_mean_something() -> None:
    channels = asyncapi(Settings(), "1")["channels"]
    with_tombstone = {t for t, channel in channels.items() if len(channel["messages"]) == 2}
    assert with_tombstone == {"products", "recommendations"}


def test_channels_say_how_their_topics_are_kept() -> None:
    channels = asyncapi(Settings(), "1")["channels"]
    kept = {t: c["bindings"]["kafka"]["topicConfiguration"] for t, c in channels.items()}
    assert kept["products"]["cleanup.policy"] == ["compact"]
    assert kept["dead-letters"]["retention.bytes"] == 1 << 30
    assert kept["clicks"] == {}


def test_a_dead_letters_headers_are_described() -> None:
    message = asyncapi(Settings(), "1")["components"]["messages"]["dead-letters"]
    assert "weft-error" in message["headers"]["required"]


def test_the_command_prints_either_document() -> None:
    run = CliRunner().invoke
    one = orjson.loads(run(cli, ["schema", "--topic", "clicks"]).output)
    assert one == json_schema("clicks")
    every = orjson.loads(run(cli, ["schema"]).output)
    assert set(every) == set(ALL_TOPICS)
    assert orjson.loads(run(cli, ["schema", "--format", "asyncapi"]).output)["asyncapi"] == "3.0.0"
    assert run(cli, ["schema", "--format", "asyncapi", "--topic", "clicks"]).exit_code == 2
