"""The contracts as documents: JSON Schema 2020-12 for one topic's values, AsyncAPI 3 for all.

Both are printed from ``stream.contracts.declaration``, which is also what the decoders check by. A
schema cannot say that a key is the id in the value, that ``ts`` is at most a day ahead, or how long
a text is in bytes: ``x-max-bytes`` and the descriptions say these.
"""

from __future__ import annotations

from typing import Final

from stream.contracts.declaration import CONTRACTS, ID, Contract
from stream.contracts.fields import Json
from stream.contracts.topics import SOURCES, TOPICS, TopicNames
from stream.settings import Settings

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_BINDING: Final = "0.5.0"  # of AsyncAPI's Kafka bindings
_CHANGES: Final = "A reader must ignore fields that it does not know: later versions add some."


def json_schema(topic: str) -> Json:
    """The schema of the values of ``topic`` (its plain name); a dead letter's value is free."""
    contract = CONTRACTS[topic]
    body = contract.value.schema if contract.value else {}
    return {
        "$schema": DIALECT,
        "$id": f"urn:weft:topic:{topic}",
        "title": topic,
        "description": contract.words,
        **body,
    }


def json_schemas() -> Json:
    """The schemas of all topics, by topic."""
    return {topic: json_schema(topic) for topic in CONTRACTS}


def asyncapi(settings: Settings, version: str) -> Json:
    """The AsyncAPI 3 document; channels have the topics' names on the broker."""
    names = TopicNames(settings.topic_prefix, settings.group)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Weft",
            "version": version,
            "description": f"Shopper events in, recommendations out. {_CHANGES}",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": _server(settings)},
        "channels": {
            topic: {
                "address": names.of(topic),
                "description": contract.words,
                "messages": {name: _ref("messages", name) for name in _messages(contract)},
                "bindings": {"kafka": _topic_binding(topic, names, settings)},
            }
            for topic, contract in CONTRACTS.items()
        },
        "operations": {_operation(topic): _flow(topic) for topic in CONTRACTS},
        "components": {
            "messages": {
                name: message
                for contract in CONTRACTS.values()
                for name, message in _messages(contract).items()
            },
            "schemas": json_schemas(),
        },
    }


def _server(settings: Settings) -> Json:
    secure = settings.security_protocol.endswith("ssl")
    host = settings.kafka.split(",")[0]
    return {"host": host, "protocol": "kafka-secure" if secure else "kafka"}


def _topic_binding(topic: str, names: TopicNames, settings: Settings) -> Json:
    config: Json = dict(TOPICS[topic].config)
    if policy := config.pop("cleanup.policy", None):
        config = {"cleanup.policy": [policy], **config}  # AsyncAPI wants a list
    return {
        "topic": names.of(topic),
        "partitions": settings.partitions,
        "replicas": settings.replicas,
        "topicConfiguration": config,
        "bindingVersion": _BINDING,
    }


def _messages(contract: Contract) -> dict[str, Json]:
    """A channel's messages: the value, and where it has a meaning, the null value."""
    key = {**ID.schema, "description": f"UTF-8: {contract.key}"}
    shared = {"bindings": {"kafka": {"key": key, "bindingVersion": _BINDING}}}
    message = {
        "name": contract.topic,
        "summary": contract.words,
        "payload": _ref("schemas", contract.topic),
        **shared,
    }
    if contract.headers:
        message["headers"] = contract.headers.schema
    messages = {contract.topic: message}
    if contract.tombstone:
        name = f"{contract.topic}-tombstone"
        words = f"A null value: {contract.tombstone}."
        messages[name] = {"name": name, "summary": words, "payload": {"type": "null"}, **shared}
    return messages


def _operation(topic: str) -> str:
    return f"{'read' if topic in SOURCES else 'write'}-{topic}"


def _flow(topic: str) -> Json:
    """What Weft does with the channel, in AsyncAPI's words: receive or send."""
    action = "receive" if topic in SOURCES else "send"
    return {"action": action, "channel": {"$ref": f"#/channels/{topic}"}}


def _ref(section: str, name: str) -> Json:
    return {"$ref": f"#/components/{section}/{name}"}
