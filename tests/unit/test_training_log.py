from pathlib import Path

import numpy as np
import pytest

from models.domain import Item, Kind
from models.errors import InvalidFile
from models.training.data.log import Logged, TrainingLog
from models.training.data.write_log import prepare
from tests.training_log import encode, events, items, small_log

SHOES = [Item("a", "red shoe", 0, brand="B"), Item("b", "blue shoe", 0), Item("c", "", 0)]


def sequences(log: TrainingLog) -> list[list[tuple[int, int]]]:
    """(row, kind) of each shopper."""
    bounds = zip(log.offsets[:-1], log.offsets[1:], strict=True)
    return [
        list(zip(log.rows[s:e].tolist(), log.kinds[s:e].tolist(), strict=True)) for s, e in bounds
    ]


def test_events_are_grouped_by_shopper_and_sorted_by_time(tmp_path: Path) -> None:
    told = [
        Logged("u", 30, Kind.CLICK, "a"),
        Logged("v", 10, Kind.PURCHASE, "b"),
        Logged("u", 20, Kind.PURCHASE, "b"),
        Logged("u", 20, Kind.CLICK, "c"),
    ]
    log = prepare(tmp_path, SHOES, told, encode)
    assert sorted(sequences(log)) == [[(2, 2)], [(2, 2), (3, 1), (1, 1)]]
    assert log.counts.tolist() == [0, 1, 2, 1]


def test_a_query_is_a_search_before_its_click_and_its_text_is_kept(tmp_path: Path) -> None:
    told = [
        Logged("u", 1, Kind.SEARCH, query="red dress"),
        Logged("u", 2, Kind.CLICK, "a", "red shoe"),
        Logged("u", 3, Kind.CLICK, "b", "red dress"),
    ]
    log = prepare(tmp_path, SHOES, told, encode)
    assert sequences(log) == [[(4, 3), (5, 3), (1, 1), (4, 3), (2, 1)]]
    assert (log.query(4), log.query(5)) == ("red dress", "red shoe")
    assert log.titles[4].any()


def test_a_search_and_the_clicks_that_it_led_to_are_one_search(tmp_path: Path) -> None:
    told = [
        Logged("u", 1, Kind.SEARCH, query="dress"),
        Logged("u", 2, Kind.CLICK, "a", "dress"),
        Logged("u", 3, Kind.CLICK, "b", "dress"),
        Logged("u", 4, Kind.CLICK, "c"),
        Logged("u", 5, Kind.PURCHASE, "b", "dress"),
        Logged("u", 6, Kind.SEARCH, query="dress"),
        Logged("v", 1, Kind.CLICK, "a", "dress"),
        Logged("v", 2, Kind.CLICK, "gone", "shoe"),
        Logged("v", 3, Kind.CLICK, "b", "shoe"),
    ]
    log = prepare(tmp_path, SHOES, told, encode)
    dress, shoe = (4, 3), (5, 3)
    assert sorted(sequences(log), key=len) == [
        [dress, (1, 1), shoe, (2, 1)],
        [dress, (1, 1), (2, 1), (3, 1), dress, (2, 2), dress],
    ]


def test_an_item_keeps_what_a_prompt_may_say_and_an_empty_title_has_no_vector(
    tmp_path: Path,
) -> None:
    log = prepare(tmp_path, SHOES, [Logged("u", 1, Kind.CLICK, "a")], encode)
    assert log.item(1) == SHOES[0]
    assert log.item_ids == ["a", "b", "c"]
    assert np.allclose(log.titles[1], encode(["red shoe"])[0], atol=1e-3)
    assert not log.titles[3].any()
    assert not log.titles[0].any()


def test_titles_and_queries_are_kept_by_their_words(tmp_path: Path) -> None:
    told = [Logged("u", 1, Kind.SEARCH, query="blue shoe"), Logged("u", 2, Kind.CLICK, "a")]
    shelf = [Item("a", "Red shoe", 0), Item("b", "blue coat", 0), Item("c", "Blue shoe, red", 0)]
    log = prepare(tmp_path, shelf, told, encode)
    assert log.vocabulary.words == ("blue", "red", "shoe")
    assert [row[row > 0].tolist() for row in log.words] == [[], [2, 3], [1], [1, 3, 2], [1, 3]]


def test_events_of_unknown_items_are_left_out_and_counted(tmp_path: Path) -> None:
    told = [Logged("u", 1, Kind.CLICK, "gone"), Logged("u", 2, Kind.CLICK, "a")]
    log = prepare(tmp_path, SHOES, told, encode)
    assert log.summary.unknown_items == 1
    assert log.summary.events == 1


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    one = small_log(tmp_path / "1").summary.fingerprint
    assert small_log(tmp_path / "2").summary.fingerprint == one
    other = prepare(tmp_path / "3", items(), events(seed=1), encode)
    assert other.summary.fingerprint != one


def test_no_shoppers_id_is_written(tmp_path: Path) -> None:
    prepare(tmp_path, SHOES, [Logged("ines-1987", 1, Kind.CLICK, "a")], encode)
    assert not any(b"ines-1987" in file.read_bytes() for file in tmp_path.iterdir())


def test_a_log_of_another_catalogue_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="belong together"):
        prepare(tmp_path, SHOES, [Logged("u", 1, Kind.CLICK, "gone")], encode)
