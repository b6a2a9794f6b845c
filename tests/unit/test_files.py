from __future__ import annotations

import functools
import gzip
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from models.errors import InvalidFile
from stream.contracts.declaration import CONTRACTS
from stream.contracts.fields import Json
from stream.files.row_file import RowFile, typed


def rows(path: Path, data: bytes, strict: bool = False) -> tuple[list[Json], RowFile]:
    path.write_bytes(data)
    with RowFile(path, strict) as file:
        return [row for _, row in file], file


#: Without the time: it would be in the tests' names, and every process must give them the same.
packed_of = functools.partial(gzip.compress, mtime=0)

LINES = b'{"item_id":"a"}\n\n{"item_id":"b"}'
TABLE = b'item_id,title\r\na,"Dress, ""linen"""\r\nb,"two\nlines"\r\n'


@pytest.mark.parametrize("name", ["c.jsonl", "c.jsonl.gz", "c", "c.csv"])
def test_json_lines_are_known_by_their_content(tmp_path: Path, name: str) -> None:
    assert rows(tmp_path / name, LINES)[0] == [{"item_id": "a"}, {"item_id": "b"}]
    packed = rows(tmp_path / name, packed_of(LINES))
    assert packed[0] == [{"item_id": "a"}, {"item_id": "b"}]


@pytest.mark.parametrize("data", [TABLE, packed_of(TABLE), b"\xef\xbb\xbf" + TABLE])
def test_csv_keeps_quotes_commas_and_lines_in_cells(tmp_path: Path, data: bytes) -> None:
    got, file = rows(tmp_path / "c.csv", data)
    assert got == [
        {"item_id": "a", "title": 'Dress, "linen"'},
        {"item_id": "b", "title": "two\nlines"},
    ]
    assert file.texts


def test_lines_that_are_no_objects_are_set_aside_with_their_numbers(tmp_path: Path) -> None:
    data = b'{"a":1}\n{"a":\n[1]\n\xff\n' + b'{"a":"' + b"x" * (1 << 20) + b'"}\n{"a":2}\n'
    got, file = rows(tmp_path / "c.jsonl", data)
    assert got == [{"a": 1}, {"a": 2}]
    assert file.aside.count == 4
    assert [words.split(":")[0] for words in file.aside.first] == [
        f"line {n}" for n in (2, 3, 4, 5)
    ]


def test_only_the_first_few_are_kept_in_words(tmp_path: Path) -> None:
    _, file = rows(tmp_path / "c.jsonl", b"{}\n" + b"x\n" * 1000)
    assert (file.aside.count, len(file.aside.first)) == (1000, 5)


def test_strict_stops_at_the_first_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="line 2: not JSON"):
        rows(tmp_path / "c.jsonl", b"{}\n{\n", strict=True)


def test_csv_rows_of_another_width_or_encoding_are_set_aside(tmp_path: Path) -> None:
    data = b"item_id,title\na,b\nc\nd,e,f\ng,\xff\nh,i\n"
    got, file = rows(tmp_path / "c.csv", data)
    assert [row["item_id"] for row in got] == ["a", "h"]
    assert [words[:6] for words in file.aside.first] == ["line 3", "line 4", "line 5"]


def test_a_quote_that_never_closes_does_not_fill_the_memory(tmp_path: Path) -> None:
    data = b'item_id,title\na,"open\n' + b"x,y\n" * 100_000
    got, file = rows(tmp_path / "c.csv", data)
    assert file.aside.count >= 1
    assert len(got) < 100_000


@pytest.mark.parametrize("header", [b"", b"item_id,item_id\n", b"item_id,\n", b",\n"])
def test_a_csv_needs_a_header_that_names_each_column_once(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(InvalidFile, match="first line"):
        rows(tmp_path / "c.csv", header)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'[{"a":1}]', "jq"),
        (b"PAR1....", "damaged or no Parquet"),
        (packed_of(b"PAR1...."), "Parquet file in gzip"),
        (b"PK\x03\x04...", "ZIP"),
        ("{}".encode("utf-16"), "UTF-8"),
        (packed_of(packed_of(b"{}")), "twice"),
        (b"\x1f\x8bnothing", "damaged"),
        (packed_of(LINES)[:-12], "damaged or cut short"),
        (packed_of(LINES)[:20] + b"\x00" * 20, "damaged or cut short"),
    ],
    ids=lambda value: repr(value[:12]),
)
def test_what_is_not_rows_is_refused_with_what_to_do(
    tmp_path: Path, data: bytes, words: str
) -> None:
    with pytest.raises(InvalidFile, match=words):
        rows(tmp_path / "c.jsonl", data)


def test_a_file_that_is_not_there_or_a_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="No such file"):
        RowFile(tmp_path / "none.jsonl")
    with pytest.raises(InvalidFile, match="folder"):
        RowFile(tmp_path)


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    assert rows(tmp_path / "c.jsonl", b"")[0] == []


def test_the_position_reaches_the_size(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl.gz"
    path.write_bytes(packed_of(LINES * 1000))
    with RowFile(path) as file:
        for _ in file:
            assert file.position <= file.size
        assert file.position == file.size


def test_a_csv_header_that_is_no_csv_or_no_text_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="not CSV"):
        rows(tmp_path / "c.csv", b"x" * 200_000 + b",y\n")
    with pytest.raises(InvalidFile, match="not UTF-8"):
        rows(tmp_path / "c.csv", b"item_id,\xff\na,b\n")


def table(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    parquet.write_table(pyarrow.table(columns), path, **options)
    return path


def test_parquet_is_known_by_its_content_and_keeps_its_types(tmp_path: Path) -> None:
    columns = {
        "item_id": ["007", "8"],
        "price": [1.5, None],
        "in_stock": [True, False],
        "attributes": [{"size": "M"}, {"size": None}],
    }
    with RowFile(table(tmp_path / "c", columns)) as file:
        assert [row for _, row in file] == [
            {"item_id": "007", "price": 1.5, "in_stock": True, "attributes": {"size": "M"}},
            {"item_id": "8", "price": None, "in_stock": False, "attributes": {"size": None}},
        ]
        assert not file.texts


def test_times_of_parquet_become_epoch_ms_and_decimals_numbers(tmp_path: Path) -> None:
    noon = datetime(2020, 9, 22, 12, tzinfo=UTC)
    columns = {
        "zoned": pyarrow.array([noon], pyarrow.timestamp("us", "Europe/Berlin")),
        "plain": pyarrow.array([noon.replace(tzinfo=None)], pyarrow.timestamp("ns")),
        "day": pyarrow.array([date(2020, 9, 22)]),
        "price": pyarrow.array([Decimal("12.50")]),
        "colour": pyarrow.array(["red"]).dictionary_encode(),
        "brand": pyarrow.array([b"H&M"]),
        "attributes": pyarrow.array(
            [[("size", "M")]], pyarrow.map_(pyarrow.string(), pyarrow.string())
        ),
    }
    at = int(noon.timestamp() * 1000)
    with RowFile(table(tmp_path / "c.parquet", columns)) as file:
        assert [row for _, row in file] == [
            {
                "zoned": at,
                "plain": at,
                "day": at - 12 * 3_600_000,
                "price": 12.5,
                "colour": "red",
                "brand": "H&M",
                "attributes": {"size": "M"},
            }
        ]


def test_a_row_of_parquet_that_is_no_text_is_set_aside_alone(tmp_path: Path) -> None:
    path = table(tmp_path / "c.parquet", {"item_id": [b"a", b"\xff", b"c"]})
    with RowFile(path) as file:
        assert list(file) == [(1, {"item_id": "a"}), (3, {"item_id": "c"})]
        assert file.aside.first == ["line 2: not UTF-8"]


def test_parquet_streams_through_its_row_groups(tmp_path: Path) -> None:
    numbers = list(range(20_000))
    path = table(tmp_path / "c.parquet", {"n": numbers}, row_group_size=3_000)
    with RowFile(path) as file:
        seen = []
        for number, row in file:
            seen.append(row["n"])
            if number == 1:  # far from all was read for it
                assert file.position < file.size / 2
        assert seen == numbers
        assert file.position == file.size


def test_parquet_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "c.parquet", {"n": list(range(1000))})
    whole = path.read_bytes()
    with pytest.raises(InvalidFile, match="damaged"):
        rows(path, whole[:-20])
    with pytest.raises(InvalidFile, match="damaged"):
        rows(path, whole[:4] + bytes(byte ^ 0x5A for byte in whole[4:400]) + whole[400:])


def test_any_bytes_of_parquet_are_rows_or_refused(tmp_path: Path) -> None:
    columns = {"item_id": ["a", "é"] * 40, "day": [date(2020, 9, 22)] * 80, "b": [b"x"] * 80}
    path = table(tmp_path / "c.parquet", columns, row_group_size=30, compression="none")
    whole, random = path.read_bytes(), Random(1)
    refused = 0
    for _ in range(300):
        changed = bytearray(whole)
        for _ in range(random.choice([1, 2, 5])):
            changed[random.randrange(4, len(changed))] = random.randrange(256)
        try:
            rows(path, bytes(changed))
        except InvalidFile:
            refused += 1
    assert 0 < refused < 300


def test_without_pyarrow_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # Python's own word for "is not here"
    with pytest.raises(InvalidFile, match=r"pip install 'weft\[parquet\]'"):
        rows(tmp_path / "c.parquet", b"PAR1....")


def test_csv_cells_take_the_declared_types() -> None:
    shape = CONTRACTS["products"].value
    assert shape is not None
    row = {
        "item_id": "007",
        "title": "",
        "ts": "1700000000000",
        "price": "12.50",
        "in_stock": "No",
        "brand": "",
        "attributes": '{"size":"M"}',
        "colour": "12",
        "other": "x",
    }
    assert typed(row, shape) == {
        "item_id": "007",
        "title": "",
        "ts": 1_700_000_000_000,
        "price": 12.5,
        "in_stock": False,
        "attributes": {"size": "M"},
        "colour": "12",
    }


def test_a_cell_that_is_not_of_its_type_stays_text() -> None:
    shape = CONTRACTS["products"].value
    assert shape is not None
    row = {"item_id": "1", "title": "t", "ts": "yesterday", "price": "1,50", "in_stock": "maybe"}
    assert typed(row, shape) == row
