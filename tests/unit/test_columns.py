from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from models.errors import InvalidFile, InvalidSettings
from stream.contracts.fields import Json
from stream.contracts.topics import TopicNames
from stream.files.columns import EVENTS, PRODUCTS, UNITS, Columns, milliseconds
from stream.files.publish import Entry, event_entries, product_entries
from stream.files.row_file import RowFile
from stream.files.training_rows import sources

HM = "type==purchase,user_id=customer_id,item_id=article_id,ts=t_dat:date"
DAY = 1_600_732_800_000  # 2020-09-22


def events(path: Path, columns: str) -> tuple[list[Entry], RowFile]:
    with RowFile(path, columns=Columns.parse(columns, EVENTS)) as rows:
        return list(event_entries(rows, TopicNames())), rows


def mapped(path: Path, data: str, columns: str) -> list[Json]:
    path.write_text(data, "utf-8")
    with RowFile(path, columns=Columns.parse(columns, EVENTS)) as rows:
        return [row for _, row in rows]


def test_a_csv_of_other_names_is_a_log_by_a_map(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("t_dat,customer_id,article_id\n2020-09-22,u,007\n22.9.2020,u,008\n")
    entries, rows = events(path, HM)
    assert [(entry.ts, entry.record.topic, entry.record.key) for entry in entries] == [
        (DAY, "purchases", b"u")
    ]
    assert rows.aside.first == [
        "line 3: ts is not an ISO date, e.g. 2020-09-22 or 2020-09-22T10:30"
    ]


def test_a_parquet_of_other_names_and_numbers_for_ids_is_a_log_by_a_map(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    columns = {"t_dat": [date(2020, 9, 22)], "customer_id": [12], "article_id": ["007"]}
    parquet.write_table(pyarrow.table(columns), path)
    for unit in ("", ":s", ":date"):  # the file says its own unit
        entries, _ = events(path, HM.removesuffix(":date") + unit)
        assert [(entry.ts, entry.record.key) for entry in entries] == [(DAY, b"12")]


@pytest.mark.parametrize("value", ["1600732800000", 1_600_732_800_000.5, True])
def test_a_time_in_ms_has_the_verdict_that_it_has_without_a_map(
    tmp_path: Path, value: object
) -> None:
    path, row = tmp_path / "e.jsonl", {"type": "click", "user_id": "u", "item_id": "i"}
    path.write_text(json.dumps({**row, "ts": value, "at": value}))
    with RowFile(path) as plain:
        assert list(event_entries(plain, TopicNames())) == []
    entries, rows = events(path, "ts=at:ms")
    assert (entries, rows.aside.first) == ([], plain.aside.first)


def test_json_lines_of_other_names_are_a_catalogue_by_a_map(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"sku":7,"name":"Dress","at":1600732800.5}\n{"sku":8,"name":"Coat"}\n')
    told = Columns.parse("item_id=sku,title=name,ts=at:s,brand==H&M,in_stock==false", PRODUCTS)
    with RowFile(path, columns=told) as rows:
        first, second = product_entries(rows, TopicNames(), undated=DAY)
    assert (first.record.key, first.ts, second.ts) == (b"7", DAY + 500, DAY)
    assert first.record.value is not None
    assert b'"brand":"H&M"' in first.record.value
    assert b'"in_stock":false' in first.record.value


def test_what_the_map_does_not_name_stays_and_names_may_be_swapped(tmp_path: Path) -> None:
    rows = mapped(
        tmp_path / "e.jsonl",
        '{"user_id":"a","item_id":"b","z":1}',
        "user_id=item_id,item_id=user_id",
    )
    assert rows == [{"user_id": "b", "item_id": "a", "z": 1}]


def test_a_column_whose_name_has_commas_or_colons_can_be_named(tmp_path: Path) -> None:
    data = '"at, then",item:no\n2020-09-22,7\n'
    (row,) = mapped(tmp_path / "e.csv", data, '"ts=at, then:date",item_id=item:no')
    assert (row["ts"], row["item_id"]) == (DAY, "7")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("usr=a", "'usr' is no field of an event; there are type, user_id"),
        ("user_id", "write field=column or field==value"),
        ("user_id=", "write field=column"),
        ("=a", "write field=column"),
        ("user_id=a,user_id=b", "named twice"),
        ("type=a,type==b", "named twice"),
        ("ts=a:day", "'day' is no unit of time"),
        ("ts=:ms", "is no unit of time"),
        ("ts==5", "cannot be the same in every row"),
        ("type==", "type has no value"),
        ("quantity==many", "quantity==many cannot be"),
        ("price==-1", "at least 0"),
        ('"user_id=a', "one line"),
        ("user_id=a\nb", "one line"),
    ],
)
def test_a_map_that_says_nothing_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(InvalidSettings, match=words):
        Columns.parse(text, EVENTS)


@pytest.mark.parametrize("name", ["e.csv", "e.jsonl", "e.parquet"])
def test_a_missing_column_is_said_with_what_the_file_has(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("parquet"):
        parquet.write_table(pyarrow.table({"customer": ["u"], "day": ["2020-09-22"]}), path)
    else:
        json = name.endswith("jsonl")
        path.write_text('{"customer":"u","day":"2020-09-22"}' if json else "customer,day\nu,d\n")
    with pytest.raises(InvalidFile, match="has no column customer_id; it has customer, day"):
        events(path, "user_id=customer_id,ts=day:date")


def test_an_optional_column_may_be_absent_from_json_lines(tmp_path: Path) -> None:
    data = '{"u":"a","query":"hat"}\n{"u":"a","i":"b"}\n'
    rows = mapped(tmp_path / "e.jsonl", data, "user_id=u,item_id=i")
    assert [row.get("item_id") for row in rows] == [None, "b"]


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (1_600_732_800, "s", DAY),
        ("1600732800.25", "s", DAY + 250),
        ("2020-09-22", "date", DAY),
        ("2020-09-22T02:00:00+02:00", "date", DAY),
        ("2020-09-22 00:00:01.5", "date", DAY + 1500),
        ("2020-09-22T00:00:00Z", "date", DAY),
        ("1969-12-31T23:59:59.999", "date", -1),
    ],
)
def test_a_time_is_read_by_its_unit(value: object, unit: str, expected: int) -> None:
    assert milliseconds(value, unit) == expected


@given(
    st.one_of(
        st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.datetimes().map(str)
    ),
    st.sampled_from([unit for unit in UNITS if unit != "ms"]),  # it is left as it is
)
def test_any_time_is_whole_milliseconds_or_refused(value: object, unit: str) -> None:
    try:
        got = milliseconds(value, unit)
    except ValueError as error:
        words = str(error)
    else:
        words = f"ts {type(got).__name__}"
    assert words.startswith(("ts int", "ts is not", "ts must be"))


@given(st.text() | st.lists(st.sampled_from([*',=:"\n', "ts", "type", "a", "ms"])).map("".join))
def test_any_map_is_read_or_refused_in_words(text: str) -> None:
    try:
        words = f"columns: {Columns.parse(text, EVENTS)}"
    except InvalidSettings as error:
        words = str(error)
    assert words.startswith("columns: ")


def test_training_reads_both_files_by_their_maps_and_knows_another_map(tmp_path: Path) -> None:
    log, catalogue = tmp_path / "t.csv", tmp_path / "a.csv"
    log.write_text("t_dat,customer_id,article_id\n2020-09-22,u,007\n")
    catalogue.write_text("article_id,prod_name\n007,Dress\n")
    products = Columns.parse("item_id=article_id,title=prod_name", PRODUCTS)
    told = sources(catalogue, log, lambda _: None, products, Columns.parse(HM, EVENTS))
    assert [item.title for item in told.items()] == ["Dress"]
    assert [(each.user_id, each.ts, each.item_id) for each in told.events()] == [("u", DAY, "007")]
    clicks = HM.replace("purchase", "click")
    other = sources(catalogue, log, lambda _: None, products, Columns.parse(clicks, EVENTS))
    assert told.key != other.key
