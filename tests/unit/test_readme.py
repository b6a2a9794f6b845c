"""The README and the pages in docs/ say what is so: settings, commands, files and examples.

``docs/log.md`` is history: what it names may be gone.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
import socket
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from models import errors
from models.rerank.fusion import GATE_WEIGHT
from models.rerank.likelihood import GENERAL_KEPT
from stream.cli import cli
from stream.contracts.codec import MAX_BYTES, decode_product, decode_recommendation, decode_shopper
from stream.kafka.broker import EmbeddedBroker
from stream.settings import PREFIX, Settings, describe
from stream.shoppers.faust_settings import faust_settings
from stream.shoppers.rerank_queue import KEPT
from stream.shoppers.state import BOUGHT_KEPT, EVENT_IDS_KEPT, STEPS_KEPT
from testbed.kafka import RealKafka
from tests.generated_docs import PACKAGES, generated

ROOT = Path(__file__).parents[2]
FILES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
TEXTS = {file.relative_to(ROOT).as_posix(): file.read_text("utf-8") for file in FILES}
README = TEXTS["README.md"]
#: What the pages say of today's code.
NOW = {name: text for name, text in TEXTS.items() if name != "docs/log.md"}
PAGES = "\n".join(NOW.values())
LONGEST = 220
#: Environment variables that are no settings.
OTHERS = {"WEFT_CONFIG", "WEFT_TEST_QDRANT_URL", "WEFT_DATA", "WEFT_"}


def blocks(language: str, text: str = README) -> list[str]:
    """The text's code in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def typed() -> Iterator[list[str]]:
    """The words of each command of a shell block; settings, pipes and comments left out."""
    for block in blocks("sh", PAGES):
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="|>&")
            lexer.whitespace_split = True
            words = list(lexer)
            while words and re.match(rf"{PREFIX}\w+=", words[0]):
                words.pop(0)
            end = next((i for i, word in enumerate(words) if word in ("|", ">")), len(words))
            if words := words[:end]:
                yield words


def weft_commands() -> list[list[str]]:
    """What is typed after ``weft``."""
    return [words[1:] for words in typed() if words[0] == "weft"]


def module_commands() -> list[tuple[str, ...]]:
    """(module, argument, …) of each ``python -m`` of ours, in a block or in a line."""
    inline = re.findall(rf"python -m ((?:{'|'.join(PACKAGES)})\.[^`\n]+)", PAGES)
    return sorted({tuple(shlex.split(words.split(" | ")[0], comments=True)) for words in inline})


def anchors(text: str) -> set[str]:
    """The headings of a page as a code host links to them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links() -> list[tuple[str, str]]:
    """(page, target) of each link that is not to another site."""
    return [
        (name, target)
        for name, text in TEXTS.items()
        for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text)
    ]


def test_both_commands_stand_at_the_top() -> None:
    top = README.splitlines()[:15]
    assert any(line.startswith("make demo") for line in top)
    assert any(line.startswith("make test") for line in top)


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= LONGEST


def test_what_is_generated_is_up_to_date() -> None:
    old = [file.name for file, text in generated().items() if file.read_text("utf-8") != text]
    assert not old, "run `python -m tests.generated_docs`"


def test_every_variable_that_a_page_names_is_a_setting() -> None:
    known = {variable for variable, _, _ in describe()}
    for variable in set(re.findall(rf"\b{PREFIX}[A-Z_]*", PAGES)) - OTHERS:
        assert variable in known or variable.removesuffix("_FILE") in known, variable


@pytest.mark.parametrize("words", weft_commands(), ids=" ".join)
def test_the_command_line_takes_what_a_page_types(words: list[str]) -> None:
    command: click.Command = cli
    while isinstance(command, click.Group):
        name, *words = words
        found = command.get_command(click.Context(command), name)
        assert found is not None, name
        command = found
    command.make_context(name, words)  # parses, and runs nothing


@pytest.mark.parametrize("words", module_commands(), ids=" ".join)
def test_a_module_that_a_page_runs_is_there_and_has_the_options(words: tuple[str, ...]) -> None:
    module, *arguments = words
    spec = importlib.util.find_spec(module)
    assert spec is not None, module
    if spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{module}.__main__")
        assert spec is not None, f"{module} cannot be run"
    assert spec.origin is not None
    source = Path(spec.origin).read_text("utf-8")
    for option in (word.partition("=")[0] for word in arguments if word.startswith("--")):
        assert f'"{option}"' in source or option in parsed_options(source), option


def parsed_options(source: str) -> set[str]:
    """The options of a bench: the names that it gives ``bench.frame.parsed``."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "parsed"]
    names = {each.arg for call in named for each in call.keywords if each.arg} | {"json"}
    return {f"--{name.replace('_', '-')}" for name in names} if named else set()


def test_make_has_the_targets_that_a_page_names() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)`", PAGES))
    named |= {words[1] for words in typed() if words[0] == "make"}
    assert named
    assert named <= targets


@pytest.mark.parametrize(("page", "target"), links())
def test_every_link_leads_to_a_file_and_a_heading(page: str, target: str) -> None:
    path, _, anchor = target.partition("#")
    file = (ROOT / page).parent / path if path else ROOT / page
    assert file.is_file()
    if anchor:
        assert anchor in anchors(file.read_text("utf-8"))


def test_every_file_that_a_page_names_is_there() -> None:
    named = {
        (page, path)
        for page, text in NOW.items()
        for path in re.findall(rf"`((?:{'|'.join(PACKAGES)})/[\w/.-]*)`", text)
    }
    assert named
    assert [each for each in sorted(named) if not (ROOT / each[1]).exists()] == []


def test_every_error_says_what_to_do_about_it() -> None:
    section = NOW["docs/operations.md"].partition("## When something is wrong\n")[2]
    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    tree = {each for each in kinds if issubclass(each, errors.WeftError)}
    leaves = {error.__name__ for error in tree if not tree & set(error.__subclasses__())}
    assert len(leaves) > 10
    assert {name for name in leaves if f"`{name}`" not in section.partition("\n## ")[0]} == set()


def test_every_page_is_reached_from_the_readme() -> None:
    linked = {target.partition("#")[0] for page, target in links() if page == "README.md"}
    assert {name for name in TEXTS if name.startswith("docs/")} <= linked


def test_the_picture_stands_alone_and_is_drawn_for_light_and_dark() -> None:
    (picture,) = re.findall(r"^!\[.+\]\((.+\.svg)\)$", README, re.MULTILINE)
    text = (ROOT / picture).read_text("utf-8")
    root = ET.fromstring(text)
    name = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{name}title") is not None  # what a screen reader says
    assert "prefers-color-scheme: dark" in text
    assert "<script" not in text
    assert re.findall(r"https?://[^\"\s]+", text) == ["http://www.w3.org/2000/svg"]


def test_the_gates_weight_is_the_one_that_ships() -> None:
    assert f"what validation chose: `{GATE_WEIGHT:g}`" in NOW["docs/configuration.md"]


def test_the_bounds_are_the_codes_own() -> None:
    buffer = faust_settings(Settings(), 1)["stream_buffer_maxsize"]
    bounded = NOW["docs/architecture.md"].partition("## What is bounded")[2]
    for words in (
        f"{STEPS_KEPT} steps, {BOUGHT_KEPT} purchases, {EVENT_IDS_KEPT} event ids",
        f"{buffer:,} in Faust's buffer",
        f"{KEPT:,} shoppers",
        f"{GENERAL_KEPT:,}",
        f"{MAX_BYTES // 1024} KiB",
    ):
        assert words in bounded


def test_the_example_of_a_list_keeps_the_contract() -> None:
    (example,) = blocks("json")
    user = json.loads(example)["user_id"]
    assert decode_recommendation(user.encode(), example.encode()) is not None


def snippet(client: str) -> str:
    """The README's program with one of the clients."""
    (found,) = [block for block in blocks("python") if f"{client}(" in block]
    return found


def run(program: str, bootstrap: str) -> dict[str, object]:
    """Runs a snippet to its end against a broker; what it has defined."""
    names: dict[str, object] = {}
    assert "127.0.0.1:9092" in program
    exec(program.replace("127.0.0.1:9092", bootstrap), names)
    return names


def closed_port() -> str:
    """An address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_the_example_of_a_subscriber_holds_every_list_and_says_that_it_has_caught_up(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (example,) = blocks("json")
    with EmbeddedBroker() as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap})
        producer.produce("recommendations", json.dumps({"items": ["old"]}), "nora", partition=1)
        producer.produce("recommendations", example, "nora", partition=1)
        producer.produce("recommendations", None, "ines", partition=3)
        assert producer.flush(10) == 0
        names = run(snippet("Consumer"), broker.bootstrap)
    assert names["lists"] == {"nora": json.loads(example)["items"], "ines": []}
    assert capsys.readouterr().out == "caught up: the lists of 2 shoppers\n"


@pytest.mark.kafka
def test_the_example_of_a_subscriber_shows_no_list_of_an_aborted_transaction(
    kafka: RealKafka,
) -> None:
    topic = "readme-recommendations"
    kafka.create_topics(topic, partitions=2)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": "readme"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, json.dumps({"items": ["committed"]}), "nora", partition=0)
    producer.commit_transaction(30)
    producer.begin_transaction()
    producer.produce(topic, json.dumps({"items": ["aborted"]}), "nora", partition=0)
    assert producer.flush(30) == 0
    producer.abort_transaction(30)
    names = run(snippet("Consumer").replace("recommendations", topic), kafka.bootstrap)
    assert names["lists"] == {"nora": ["committed"]}


def test_the_example_of_a_subscriber_fails_where_no_broker_answers() -> None:
    program = snippet("Consumer").replace("timeout=10", "timeout=1")
    with pytest.raises(KafkaException):
        run(program, closed_port())


def test_what_the_example_of_a_publisher_sends_keeps_the_contract() -> None:
    with EmbeddedBroker() as broker:
        run(snippet("Producer"), broker.bootstrap)
        now = time.time_ns() // 1_000_000
        dress = decode_product(*_only(broker.bootstrap, "products"), now)
        click_ = decode_shopper("clicks", *_only(broker.bootstrap, "clicks"), now)
        assert click_.item_id == dress.item_id


def test_the_example_of_a_publisher_says_why_nothing_was_delivered() -> None:
    program = snippet("Producer").replace("10_000", "1_000")
    with pytest.raises(SystemExit) as ended:
        run(program, closed_port())
    words = str(ended.value.code)
    assert "products: " in words
    assert "clicks: " in words
    assert "refused" in words


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
