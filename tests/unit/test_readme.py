"""The README says what is so: its map, its settings, its commands and its examples.

Commands and settings of the pages in docs/ are held to the same.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from models.fusion import GATE_WEIGHT
from stream.broker import EmbeddedBroker
from stream.cli import cli
from stream.contracts import decode_product, decode_recommendation, decode_shopper
from stream.settings import PREFIX, describe

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = "\n".join([README, *(page.read_text("utf-8") for page in (ROOT / "docs").glob("*.md"))])
FOLDERS = (
    "models",
    "models/training",
    "models/baselines",
    "stream",
    "stream/cli",
    "stream/replay",
    "stream/importers",
    "bench",
    "tests",
)


def blocks(language: str, text: str = README) -> list[str]:
    """The text's code in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands() -> Iterator[list[str]]:
    """The words of each `weft` command in a shell block; settings, pipes and comments left out."""
    for block in blocks("sh", PAGES):
        for line in block.splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="|>&")
            lexer.whitespace_split = True
            words = list(lexer)
            while words and re.match(rf"{PREFIX}\w+=", words[0]):
                words.pop(0)
            if words and words[0] == "weft":
                end = next((i for i, word in enumerate(words) if word in ("|", ">")), len(words))
                yield words[1:end]


def section(folder: str) -> str:
    """What the map says of a folder."""
    found = re.search(rf"^### {folder}/$\n(.*?)(?=^##)", README, re.MULTILINE | re.DOTALL)
    assert found, f"the map has no section on {folder}/"
    return found.group(1)


def says_something(file: Path) -> bool:
    """Whether the file holds more than a docstring."""
    return len(ast.parse(file.read_text("utf-8")).body) > 1


def settings_table() -> str:
    """The table of settings as the README should have it."""
    rows = ["| variable | default | what it is |", "| --- | --- | --- |"]
    for variable, default, words in describe():
        shown = f"`{default}`" if default else ""
        rows.append(f"| `{variable}` | {shown} | {words.replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def test_both_commands_stand_at_the_top() -> None:
    top = README.splitlines()[:15]
    assert any(line.startswith("make demo") for line in top)
    assert any(line.startswith("make test") for line in top)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_map_names_every_file_and_nothing_else(folder: str) -> None:
    named = re.findall(r"`(\w+\.py)`", section(folder))
    there = [file.name for file in (ROOT / folder).glob("*.py") if says_something(file)]
    assert sorted(named) == sorted(there)


def test_the_table_of_settings_is_the_settings_own() -> None:
    assert settings_table() in README, f"the README's table should be:\n\n{settings_table()}"


def test_every_variable_that_a_page_names_is_a_setting() -> None:
    known = {variable for variable, _, _ in describe()}
    others = {"WEFT_CONFIG", "WEFT_TEST_QDRANT_URL", "WEFT_DATA", "WEFT_"}  # not settings
    for variable in set(re.findall(rf"\b{PREFIX}[A-Z_]*", PAGES)) - others:
        assert variable in known or variable.removesuffix("_FILE") in known, variable


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_the_command_line_takes_what_a_page_types(words: list[str]) -> None:
    command: click.Command = cli
    while isinstance(command, click.Group):
        name, *words = words
        found = command.get_command(click.Context(command), name)
        assert found is not None, name
        command = found
    command.make_context(name, words)  # parses, and runs nothing


@pytest.mark.parametrize("file", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_every_link_leads_to_a_file(file: str) -> None:
    assert (ROOT / file).is_file()


def test_the_gates_weight_is_the_one_that_ships() -> None:
    assert f"what validation chose: `{GATE_WEIGHT:g}`" in README


def test_the_example_of_a_list_keeps_the_contract() -> None:
    (example,) = blocks("json")
    user = json.loads(example)["user_id"]
    assert decode_recommendation(user.encode(), example.encode()) is not None


def test_the_example_of_a_subscriber_holds_what_to_show_each_shopper() -> None:
    (subscriber,) = [block for block in blocks("python") if "Consumer" in block]
    (example,) = blocks("json")
    found: dict[str, dict[str, list[object]]] = {}
    with EmbeddedBroker() as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap})
        producer.produce("recommendations", example, "nora")
        producer.produce("recommendations", None, "ines")
        assert producer.flush(120) == 0
        code = subscriber.replace("127.0.0.1:9092", broker.bootstrap)
        exec(f"{code}    if len(lists) == 2: break\n", found)
    assert found["lists"] == {"nora": json.loads(example)["items"], "ines": []}


def test_what_the_example_of_a_publisher_sends_keeps_the_contract() -> None:
    (publisher,) = [block for block in blocks("python") if "Producer" in block]
    with EmbeddedBroker() as broker:
        exec(publisher.replace("127.0.0.1:9092", broker.bootstrap), {})
        now = time.time_ns() // 1_000_000
        dress = decode_product(*_only(broker.bootstrap, "products"), now)
        click_ = decode_shopper("clicks", *_only(broker.bootstrap, "clicks"), now)
        assert click_.item_id == dress.item_id


def _only(bootstrap: str, topic: str) -> tuple[bytes | None, bytes | None]:
    """Key and value of the one record of a topic."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "readme"})
    partitions = consumer.list_topics(topic, timeout=120).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    message = consumer.poll(120)
    consumer.close()
    assert message is not None
    assert message.error() is None
    return message.key(), message.value()
