from __future__ import annotations

import gzip
from pathlib import Path

import orjson
import pyarrow
import pytest
from pyarrow import parquet

from models.errors import InvalidFile
from stream.contracts.fields import Json
from stream.contracts.topics import TopicNames
from stream.files.publish import event_entries, product_entries
from stream.files.row_file import RowFile
from stream.importers.run import SOURCES, Imported, chosen, import_log
from testbed.published_logs import DAY, HM_SALES, WRITERS, hm, lines


def imported(tmp_path: Path, name: str, share: float | None = None) -> tuple[Imported, Path]:
    files, out = tmp_path / "files", tmp_path / "out"
    files.mkdir(exist_ok=True)
    WRITERS[name](files)
    return import_log(name, [files], out, share), out


def compact(events: list[Json]) -> list[tuple[object, ...]]:
    assert all(list(event) == ["type", "user_id", "item_id", "ts"] for event in events)
    return [tuple(event.values()) for event in events]


def test_hm_keeps_its_ids_zeros_its_files_order_and_makes_titles(tmp_path: Path) -> None:
    told, out = imported(tmp_path, "hm")
    assert compact(lines(out / "events.jsonl.gz")) == [
        ("purchase", "c0ffee", "0700000001", DAY),
        ("purchase", "c0ffee", "0700000002", DAY),
        ("purchase", "beef", "0700000001", DAY - 86_400_000),
    ]
    assert lines(out / "catalog.jsonl.gz") == [
        {
            "item_id": "0700000001",
            "title": "Tilda dress, Teal Dress",
            "category": "Ladieswear > Garment Full body > Dress",
            "colour": "Teal",
            "description": 'Knee-length, in "airy" cotton.',
        },
        {
            "item_id": "0700000002",
            "title": "Ole cap, Rust Cap",
            "category": "Menswear > Accessories > Cap",
            "colour": "Rust",
        },
    ]
    assert told.set_aside == {
        "transactions_train.csv": (
            3,
            [
                "line 4: ts is not an ISO date, e.g. 2020-09-22 or 2020-09-22T10:30",
                "line 5: 2 cells, but the header has 5",
                "line 7: user_id is empty",
            ],
        ),
        "articles.csv": (1, ["line 4: 3 cells, but the header has 25"]),
    }
    assert not told.sorted_by_ts


def test_hm_as_parquet_with_numbers_for_ids_is_the_same_log(tmp_path: Path) -> None:
    _, out = imported(tmp_path, "hm")
    columns = {
        "t_dat": ["2020-09-22", "2020-09-22", "2020-09-21"],
        "customer_id": ["c0ffee", "c0ffee", "beef"],
        "article_id": [700000001, 700000002, 700000001],
    }
    table = pyarrow.table(columns)
    table = table.set_column(0, "t_dat", table["t_dat"].cast(pyarrow.date32()))
    parquet.write_table(table, tmp_path / "transactions_train.parquet")
    paths = [tmp_path / "transactions_train.parquet", tmp_path / "files" / "articles.csv"]
    import_log("hm", paths, tmp_path / "other")
    assert lines(tmp_path / "other" / "events.jsonl.gz") == lines(out / "events.jsonl.gz")


def test_amazon_2014s_literals_are_read_as_data_and_never_run(tmp_path: Path) -> None:
    told, out = imported(tmp_path, "amazon2014")
    assert compact(lines(out / "events.jsonl.gz")) == [
        ("purchase", "AX1", "B0X1", 1_400_457_600_000),
        ("purchase", "AX2", "B0X1", 1_400_371_200_000),
    ]
    assert lines(out / "catalog.jsonl.gz") == [
        {
            "item_id": "B0X1",
            "title": 'Nell\'s "Dew" cream',
            "category": "Beauty > Skin Care > Face",
            "brand": "Nell",
            "price": 8.5,
            "currency": "USD",
            "image_url": "http://example.invalid/1.jpg",
        },
        {"item_id": "B0X2", "title": "", "category": "Beauty", "description": "No title é."},
    ]
    count, words = told.set_aside["meta_Beauty.json.gz"]
    assert count == 5
    assert words == [
        "line 3: not a Python literal (ValueError)",
        "line 4: not a Python literal (ValueError)",
        "line 5: item_id is missing",
        "line 6: it holds characters that are no text",
        "line 7: not a JSON object",
    ]
    assert told.set_aside["reviews_Beauty_5.json.gz"][0] == 3


def test_amazon_2023s_items_are_parents_and_their_stores_brands(tmp_path: Path) -> None:
    told, out = imported(tmp_path, "amazon2023")
    assert compact(lines(out / "events.jsonl.gz")) == [("purchase", "AE1", "B1", 1588687728923)]
    assert lines(out / "catalog.jsonl.gz") == [
        {
            "item_id": "B1",
            "title": "Ivo scarf",
            "category": "Clothing > Scarves",
            "brand": "Ivo",
            "description": "Soft.\nLong.",
            "price": 19.99,
            "currency": "USD",
            "image_url": "http://example.invalid/l.jpg",
        },
        {"item_id": "B2", "title": "", "category": "AMAZON FASHION"},
    ]
    assert told.set_aside["All_Beauty.jsonl.gz"][0] == 2


def test_retailrockets_category_is_the_earliest_known_and_there_is_no_title(
    tmp_path: Path,
) -> None:
    told, out = imported(tmp_path, "retailrocket")
    assert [event[0] for event in compact(lines(out / "events.jsonl.gz"))] == [
        "click",
        "cart",
        "purchase",
    ]
    assert lines(out / "catalog.jsonl.gz") == [
        {"item_id": "9", "title": "", "category": "30"},
        {"item_id": "355", "title": "", "category": "10"},
    ]
    assert told.set_aside["events.csv"] == (
        2,
        [
            "line 5: the event must be one of view, addtocart, transaction",
            "line 6: ts must be from 946684800000 to 9007199254740991",
        ],
    )
    assert told.set_aside["item_properties_part2.csv"][0] == 2
    assert any("no titles" in note for note in SOURCES["retailrocket"].notes)


def test_taobaos_catalogue_is_each_item_of_the_log_once(tmp_path: Path) -> None:
    told, out = imported(tmp_path, "taobao")
    assert compact(lines(out / "events.jsonl.gz")) == [
        ("click", "1", "2268", 1_511_544_070_000),
        ("purchase", "1", "2268", 1_511_561_733_000),
        ("fav", "2", "007", 1_511_561_734_000),
        ("cart", "2", "7", 1_511_572_885_000),
    ]
    assert lines(out / "catalog.jsonl.gz") == [
        {"item_id": "2268", "title": "", "category": "2520"},
        {"item_id": "007", "title": "", "category": "2521"},
        {"item_id": "7", "title": "", "category": "2521"},
    ]
    assert told.set_aside["UserBehavior.csv"][0] == 3


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_written_keeps_the_topics_contracts_and_no_product_has_a_ts(
    tmp_path: Path, name: str
) -> None:
    told, out = imported(tmp_path, name)
    with RowFile(out / "events.jsonl.gz", strict=True) as rows:
        assert len(list(event_entries(rows, TopicNames()))) == told.events > 0
    with RowFile(out / "catalog.jsonl.gz", strict=True) as rows:
        assert len(list(product_entries(rows, TopicNames()))) == told.items > 0
    assert all("ts" not in row for row in lines(out / "catalog.jsonl.gz"))


@pytest.mark.parametrize("name", WRITERS)
def test_the_report_says_what_was_read_and_whose_licence_it_is(tmp_path: Path, name: str) -> None:
    told, out = imported(tmp_path, name)
    report = orjson.loads((out / "import.json").read_bytes())
    assert (report["events"], report["items"]) == (told.events, told.items)
    assert sum(report["by_type"].values()) == told.events
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "files").iterdir()}
    sizes.pop("category_tree.csv", None)
    assert {each["name"]: each["bytes"] for each in report["files"]} == sizes
    assert report["home"].startswith("https://")
    assert "licence is the publisher's" in report["licence"]
    aside = {name: each["rows"] for name, each in report["set_aside"].items()}
    assert aside == {name: count for name, (count, _) in told.set_aside.items()}


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_files_give_the_same_bytes_in_place_of_the_earlier_import(
    tmp_path: Path, name: str
) -> None:
    _, out = imported(tmp_path, name)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    imported(tmp_path, name)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert set(before) == {"events.jsonl.gz", "catalog.jsonl.gz", "import.json"}


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(InvalidFile, match="holds other files"):
        imported(tmp_path, "hm")
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def test_an_import_that_fails_leaves_the_earlier_one_and_nothing_else(tmp_path: Path) -> None:
    _, out = imported(tmp_path, "hm")
    before = (out / "events.jsonl.gz").read_bytes()
    bad = tmp_path / "bad" / "transactions_train.csv.gz"
    bad.parent.mkdir()
    bad.write_bytes(gzip.compress(HM_SALES.encode() * 100)[:-9])
    with pytest.raises(InvalidFile, match="cut short"):
        import_log("hm", [bad, tmp_path / "files" / "articles.csv"], out)
    assert (out / "events.jsonl.gz").read_bytes() == before
    left = {path.name for path in tmp_path.iterdir()} - {".out.lock"}
    assert left == {"out", "files", "bad"}


def test_a_sample_takes_whole_shoppers_and_a_larger_one_holds_it(tmp_path: Path) -> None:
    rows = "".join(f"{user},{user + n},1,pv,151154407{n}\n" for user in range(900) for n in (1, 2))
    (tmp_path / "UserBehavior.csv").write_text(rows)
    users: list[set[str]] = []
    for share in (0.1, 0.3):
        told = import_log("taobao", [tmp_path], tmp_path / "out", share)
        events = lines(tmp_path / "out" / "events.jsonl.gz")
        users.append({event["user_id"] for event in events})
        assert len(events) == 2 * len(users[-1]) == told.events
        assert told.events + told.left_out == 1800
        assert abs(len(users[-1]) - 900 * share) < 50  # over three standard deviations
        assert told.items == 901
    assert users[0] < users[1]


@pytest.mark.parametrize(("share", "expected"), [(1.0, 1000), (1e-9, 0)])
def test_a_share_of_all_is_all_and_of_next_to_none_is_none(share: float, expected: int) -> None:
    assert sum(chosen(str(n), share) for n in range(1000)) == expected


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "there is no transactions_train.csv in"),
        (["transactions_train.csv"], "there is no articles.csv in"),
        (["transactions_train.csv", "transactions_train.csv.gz", "articles.csv"], "which one of"),
    ],
)
def test_files_that_are_missing_or_twice_there_are_said(
    tmp_path: Path, names: list[str], words: str
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for name in names:
        (files / name).write_text(HM_SALES)
    with pytest.raises(InvalidFile, match=words):
        import_log("hm", [files], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_no_shape_asks_for_is_said(tmp_path: Path) -> None:
    hm(tmp_path)
    other = tmp_path / "customers.csv"
    other.write_text("customer_id\n")
    with pytest.raises(InvalidFile, match=r"customers\.csv is none of the files"):
        import_log("hm", [tmp_path, other], tmp_path / "out")


def test_a_file_of_another_shape_is_said_with_its_columns(tmp_path: Path) -> None:
    hm(tmp_path)
    (tmp_path / "transactions_train.csv").write_text("day,customer_id,article_id\n2020-09-22,a,b\n")
    with pytest.raises(InvalidFile, match="has no column t_dat; it has day, customer_id, article"):
        import_log("hm", [tmp_path], tmp_path / "out")


def test_a_file_of_which_no_row_can_be_used_is_no_import(tmp_path: Path) -> None:
    (tmp_path / "UserBehavior.csv").write_text("user,item,category,behavior,ts\n1,2,3,view,4\n")
    with pytest.raises(InvalidFile, match="not one row can be used; line 1: the event must be"):
        import_log("taobao", [tmp_path], tmp_path / "out")
