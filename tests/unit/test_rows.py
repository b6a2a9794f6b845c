"""A row of a file has one verdict, whichever command reads it, and a refusal the same words."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stream.contracts.topics import TopicNames
from stream.files.publish import event_entries, product_entries
from stream.files.row_file import RowFile
from stream.files.training_rows import sources
from stream.importers.run import import_log
from stream.replay.questions.prepare import Live, Request, prepare
from stream.settings import Settings
from testbed.published_logs import lines
from testbed.stand_ins import HashEncoder

T0 = 1_600_000_000_000
DAY = 86_400_000
GOOD = {"type": "purchase", "user_id": "u", "item_id": "i", "ts": T0}
PRODUCT = {"item_id": "i", "title": "Dress"}


class Missing:
    """No value at all, by one name in every process of tests."""

    def __repr__(self) -> str:
        return "missing"


MISSING = Missing()


@dataclass(frozen=True)
class Verdict:
    """What came of a file: (user, item, ts) of each row that is used; of the others the words."""

    used: list[tuple[str, str, int]]
    count: int
    words: list[str] | None  # None: the command says only how many


def publish(log: Path, _catalogue: Path) -> Verdict:
    with RowFile(log) as rows:
        values = [json.loads(e.record.value or b"") for e in event_entries(rows, TopicNames())]
    return _verdict([(v["user_id"], v["item_id"], v["ts"]) for v in values], rows.aside)


def train(log: Path, catalogue: Path) -> Verdict:
    asides: list[Any] = []
    told = sources(catalogue, log, lambda rows: asides.append(rows.aside))
    used = [(each.user_id, each.item_id or "", each.ts) for each in told.events()]
    return _verdict(used, asides[0])


def replay(log: Path, catalogue: Path) -> Verdict:
    live = (Live("zero-shot", "", "never"),)
    request = Request(log, catalogue, Settings(), log.parent / "report", live)
    prepared = prepare(request, HashEncoder(), lambda _words: None)
    records = [prepared.spool.record(n) for n in range(len(prepared.spool))]
    values = [json.loads(record.value or b"") for record in records]
    used = [
        (v["user_id"], v["item_id"], int(ts))
        for v, ts in zip(values, prepared.spool.ts, strict=True)
    ]
    assert all(v["ts"] == ts for v, (_, _, ts) in zip(values, used, strict=True))
    return Verdict(used, prepared.set_aside, None)


def imported(log: Path, catalogue: Path) -> Verdict:
    """The same rows under the names that Amazon's have."""
    names = {"item_id": "parent_asin", "ts": "timestamp"}
    files = log.parent / "published"
    files.mkdir()
    path = files / f"All_Beauty{log.suffix}"
    for source, target in ((log, path), (catalogue, files / "meta_All_Beauty.jsonl")):
        text = source.read_text("utf-8")
        for own, theirs in names.items():
            text = text.replace(f'"{own}"', f'"{theirs}"').replace(f"{own},", f"{theirs},")
        target.write_text(text.replace(",ts\n", ",timestamp\n"), "utf-8")
    told = import_log("amazon2023", [files], log.parent / "out")
    events = lines(log.parent / "out" / "events.jsonl.gz")
    used = [(event["user_id"], event["item_id"], event["ts"]) for event in events]
    count, words = told.set_aside.get(path.name, (0, []))
    return Verdict(used, count, [each.partition(": ")[2] for each in words])


def _verdict(used: list[tuple[str, str, int]], aside: Any) -> Verdict:
    return Verdict(used, aside.count, [each.partition(": ")[2] for each in aside.first])


COMMANDS: dict[str, Callable[[Path, Path], Verdict]] = {
    "publish": publish, "train": train, "replay": replay, "import": imported,
}  # fmt: skip
OWN_RANGE = "must be from 946684800000 to 9007199254740991"
#: A field, its value in JSON, and the words of the refusal; None: it is used.
ODD: list[tuple[str, Any, str | None]] = [
    ("ts", 1_600_000_000_000.0, None),
    ("ts", 1.6e12, None),
    ("ts", 1_600_000_000_000.5, "ts must be a whole number, not a fraction"),
    ("ts", "1600000000000", "ts must be a whole number, not text"),
    ("ts", "2020-09-22", "ts must be a whole number, not text"),
    ("ts", "", "ts must be a whole number, not text"),
    ("ts", 10**30, f"ts {OWN_RANGE}"),
    ("ts", 2**64, f"ts {OWN_RANGE}"),
    ("ts", 1_600_000_000, f"ts {OWN_RANGE}"),  # seconds
    ("ts", -1, f"ts {OWN_RANGE}"),
    ("ts", 4_000_000_000_000, "ts is over one day ahead of this machine's clock"),
    ("ts", None, "ts is missing"),
    ("ts", MISSING, "ts is missing"),
    ("ts", True, "ts must be a whole number, not true or false"),
    ("ts", [T0], "ts must be a whole number, not a list"),
    ("ts", {"$date": T0}, "ts must be a whole number, not an object"),
    *(
        (name, value, f"{name} {words}")
        for name in ("user_id", "item_id")
        for value, words in (
            (MISSING, "is missing"),
            (None, "is missing"),
            ("", "is empty"),
            (7, "must be text, not a number"),
            (7.0, "must be text, not a number"),
            (False, "must be text, not true or false"),
            (["u"], "must be text, not a list"),
            ({"id": "u"}, "must be text, not an object"),
            ("é" * 129, "is longer than 256 bytes: shorten it"),
        )
    ),
    ("user_id", "a\0b\n", None),
    ("user_id", "👗" * 64, None),
]
#: In CSV every cell is text, and a number is what JSON calls one.
ODD_CELLS = [
    ("ts", "1600000000000.0", None),
    ("ts", " 1600000000000 ", None),
    ("ts", "1600000000000.5", "ts must be a whole number, not a fraction"),
    ("ts", "1_600_000_000_000", "ts must be a whole number, not text"),
    ("ts", "", "ts must be a whole number, not text"),
    ("ts", "true", "ts must be a whole number, not true or false"),
    ("ts", "NaN", "ts must be a whole number, not text"),
    ("ts", "null", "ts is missing"),
    ("user_id", "", "user_id is empty"),
    ("item_id", "", "item_id is empty"),
]


def rows_around(odd: dict[str, Any]) -> list[dict[str, Any]]:
    """The row among good ones, so that there is something to train on, replay and import."""
    around = [{**GOOD, "user_id": f"u{n % 3}", "ts": T0 + n * DAY} for n in range(12)]
    return [*around[:6], odd, *around[6:]]


def with_field(name: str, value: Any) -> dict[str, Any]:
    return {k: v for k, v in {**GOOD, name: value}.items() if v is not MISSING}


def judged(command: str, log: Path, odd_used: bool, words: str | None) -> None:
    catalogue = log.with_name("catalog.jsonl")
    catalogue.write_text("\n".join(json.dumps({**PRODUCT, "item_id": i}) for i in ("i", "j")))
    found = COMMANDS[command](log, catalogue)
    assert (len(found.used), found.count) == ((13, 0) if odd_used else (12, 1))
    if odd_used:
        assert found.used[6][2] == T0
        assert type(found.used[6][2]) is int
    elif found.words is not None:
        assert found.words[0].startswith(words or "")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("name", "value", "words"), ODD, ids=lambda value: repr(value)[:24])
def test_an_odd_row_of_json_has_one_verdict(
    tmp_path: Path, command: str, name: str, value: Any, words: str | None
) -> None:
    log = tmp_path / "events.jsonl"
    log.write_text("\n".join(map(json.dumps, rows_around(with_field(name, value)))), "utf-8")
    judged(command, log, words is None, words)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("name", "value", "words"), ODD_CELLS)
def test_an_odd_row_of_csv_has_one_verdict(
    tmp_path: Path, command: str, name: str, value: str, words: str | None
) -> None:
    log = tmp_path / "events.csv"
    with log.open("w", newline="") as opened:
        table = csv.DictWriter(opened, ["type", "user_id", "item_id", "ts"], lineterminator="\n")
        table.writeheader()
        table.writerows(rows_around(with_field(name, value)))
    judged(command, log, words is None, words)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("value", "words"),
    [(value, words) for name, value, words in ODD if name == "item_id"],
    ids=lambda value: repr(value)[:24],
)
def test_an_odd_product_has_one_verdict(
    tmp_path: Path, command: str, value: Any, words: str
) -> None:
    log, catalogue = tmp_path / "events.jsonl", tmp_path / "catalog.jsonl"
    log.write_text("\n".join(map(json.dumps, rows_around(GOOD))), "utf-8")
    odd = {k: v for k, v in {**PRODUCT, "item_id": value}.items() if v is not MISSING}
    rows = [PRODUCT, odd, {**PRODUCT, "item_id": "j"}]
    catalogue.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    used, told = PRODUCTS_OF[command](log, catalogue)
    assert used == ["i", "j"]
    assert told is None or told == [f"line 2: {words}"]


def published_products(_log: Path, catalogue: Path) -> tuple[list[str], list[str] | None]:
    with RowFile(catalogue) as rows:
        keys = [(e.record.key or b"").decode() for e in product_entries(rows, TopicNames())]
    return keys, rows.aside.first


def trained_products(log: Path, catalogue: Path) -> tuple[list[str], list[str] | None]:
    asides: list[Any] = []
    told = sources(catalogue, log, lambda rows: asides.append(rows.aside))
    return [item.item_id for item in told.items()], asides[0].first


def replayed_products(log: Path, catalogue: Path) -> tuple[list[str], list[str] | None]:
    live = (Live("zero-shot", "", "never"),)
    request = Request(log, catalogue, Settings(), log.parent / "report", live)
    prepared = prepare(request, HashEncoder(), lambda _words: None)
    assert prepared.set_aside == 1
    return [(entry.record.key or b"").decode() for entry in prepared.products], None


def imported_products(log: Path, catalogue: Path) -> tuple[list[str], list[str] | None]:
    files = log.parent / "published"
    files.mkdir()
    for source, name in ((log, "All_Beauty.jsonl"), (catalogue, "meta_All_Beauty.jsonl")):
        text = source.read_text("utf-8").replace('"item_id"', '"parent_asin"')
        (files / name).write_text(text.replace('"ts"', '"timestamp"'), "utf-8")
    told = import_log("amazon2023", [files], log.parent / "out")
    items = [item["item_id"] for item in lines(log.parent / "out" / "catalog.jsonl.gz")]
    return items, told.set_aside["meta_All_Beauty.jsonl"][1]


PRODUCTS_OF: dict[str, Callable[[Path, Path], tuple[list[str], list[str] | None]]] = {
    "publish": published_products, "train": trained_products, "replay": replayed_products,
    "import": imported_products,
}  # fmt: skip
