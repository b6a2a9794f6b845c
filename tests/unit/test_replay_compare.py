"""Two replays side by side: paired on what both were asked, and refused where they cannot be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from models.errors import InvalidFile
from stream.replay.report.compare import Comparison, compare
from stream.replay.result import result
from stream.replay.result.result import Contender, Result
from tests.replay_result import DATA, HARM, PROTOCOL, bare, contender

N = 600
Values = npt.NDArray[np.float64]


def run(
    folder: Path, hits: Values, told: Result | None = None, first: int = 0,
    ndcg: Values | None = None, **more: object,
) -> Path:  # fmt: skip
    """A replay's folder: the questions ``first`` to first + n, three to a shopper."""
    folder.mkdir()
    told = told or bare(contender("popular", "baseline", 2.0), contender("mix-up"))
    result.write(told, folder)
    count = len(hits)
    arrays: dict[str, object] = {
        "questions": (np.arange(first, first + count, dtype=np.uint64) * 7919)[::-1],
        "shoppers": (np.arange(first, first + count, dtype=np.uint64) // 3 + 10**15)[::-1],
    }
    for place, each in enumerate(told.contenders):
        mine = hits if each.kind == "live" else np.zeros(count)
        arrays[f"hr10_{place}"] = mine[::-1].astype(np.float32)
        arrays[f"ndcg10_{place}"] = (mine / 2 if ndcg is None else ndcg)[::-1].astype(np.float32)
    np.savez_compressed(folder / "answers.npz", **(arrays | more))  # type: ignore[arg-type]
    return folder


def share(every: int, count: int = N) -> Values:
    """A hit at every so many questions."""
    hits: Values = (np.arange(count) % every == 0).astype(np.float64)
    return hits


@pytest.fixture
def better(tmp_path: Path) -> Comparison:
    """B finds a third, A a tenth."""
    return compare(run(tmp_path / "a", share(10)), run(tmp_path / "b", share(3)))


def test_the_run_that_finds_more_is_better(better: Comparison) -> None:
    assert better.better == "b"
    assert better.words()[0] == "B (mix-up) is better than A (mix-up)."
    assert better.words()[1].startswith("HR@10: A 10.0 of 100, B 33.3; B less A is +23.3 [")
    assert better.words()[1].endswith("B is better.")


def test_turned_round_the_other_is_better_by_as_much(tmp_path: Path) -> None:
    found = compare(run(tmp_path / "b", share(3)), run(tmp_path / "a", share(10)))

    assert found.better == "a"
    assert found.differences["HR@10"].mean == pytest.approx(-7 / 30)


def test_a_run_beside_itself_cannot_be_told(tmp_path: Path) -> None:
    folder = run(tmp_path / "a", share(4))
    found = compare(folder, folder)

    assert found.better == ""
    assert found.words()[0] == "The data cannot tell B (mix-up) from A (mix-up)."


def test_as_many_hits_at_other_questions_cannot_be_told(tmp_path: Path) -> None:
    found = compare(run(tmp_path / "a", share(4)), run(tmp_path / "b", np.roll(share(4), 1)))

    assert found.differences["HR@10"].low < 0 < found.differences["HR@10"].high
    assert found.better == ""


def test_metrics_that_disagree_give_no_winner(tmp_path: Path) -> None:
    found = compare(
        run(tmp_path / "a", share(10), ndcg=share(2)), run(tmp_path / "b", share(3), ndcg=share(9))
    )

    assert found.better == ""
    assert found.words()[0] == "The metrics disagree on A (mix-up) and B (mix-up)."


def test_only_questions_that_both_were_asked_count(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", share(1)), run(tmp_path / "b", share(1), first=N - 30)
    found = compare(a, b)

    assert (found.questions, found.shoppers) == (30, 10)
    assert found.words()[3] == (
        "Paired on 30 questions of 10 shoppers that both were asked; A was asked 570 others; "
        "B was asked 570 others."
    )


def test_questions_are_paired_by_id_not_by_place(tmp_path: Path) -> None:
    ids = np.arange(N, dtype=np.uint64)
    hits = share(5).astype(np.float32)
    order = np.random.default_rng(0).permutation(N)
    a = run(tmp_path / "a", share(5), questions=ids, hr10_1=hits, ndcg10_1=hits)
    b = run(
        tmp_path / "b", share(5), questions=ids[order], hr10_1=hits[order], ndcg10_1=hits[order]
    )
    found = compare(a, b).differences["HR@10"]

    assert (found.low, found.mean, found.high) == (0, 0, 0)


def test_shoppers_are_drawn_not_questions(tmp_path: Path) -> None:
    """A shopper's questions are alike here: one draw each would make them seem far surer."""
    alike = np.repeat(share(4, N // 3), 3)
    alone = np.arange(N, dtype=np.uint64)
    zero = np.zeros(N)
    by_shopper = compare(run(tmp_path / "a", zero), run(tmp_path / "b", alike))
    by_question = compare(run(tmp_path / "c", zero, shoppers=alone), run(tmp_path / "d", alike))

    def width(found: Comparison) -> float:
        return found.differences["HR@10"].high - found.differences["HR@10"].low

    assert width(by_shopper) > 1.5 * width(by_question)


def test_a_named_contender_is_compared(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", share(3)), run(tmp_path / "b", share(3))
    found = compare(a, b, of_a="popular")

    assert found.better == "b"
    assert found.words()[0] == "B (mix-up) is better than A (popular)."


def test_without_a_live_contender_the_first_one_stands_for_the_run(tmp_path: Path) -> None:
    told = bare(contender("popular", "baseline", 2.0))
    folder = run(tmp_path / "a", share(3), told)

    assert compare(folder, folder).a.contender == "popular"


def test_other_protocols_and_warnings_are_said(tmp_path: Path) -> None:
    last = replace(PROTOCOL, name="last", warning="It leaks.")
    a = run(tmp_path / "a", share(3))
    b = run(tmp_path / "b", share(3), bare(contender("mix-up"), protocol=last))

    assert compare(a, b).words()[-2:] == [
        "The protocols differ, prequential and last: what could be learnt before a question is "
        "not the same.",
        "Mind the protocol: It leaks.",
    ]


def other_data(name: str) -> Result:
    return bare(contender(name), data=replace(DATA, fingerprint="00" * 32))


def test_other_data_are_refused(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", share(3)), run(tmp_path / "b", share(3), other_data("mix-up"))

    with pytest.raises(InvalidFile, match=r"different data.*replay both over the same log"):
        compare(a, b)


def test_no_shared_question_is_refused(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", share(3)), run(tmp_path / "b", share(3), first=10**6)

    with pytest.raises(InvalidFile, match=r"no question of .* was asked in"):
        compare(a, b)


def test_an_unknown_name_is_refused_with_those_there_are(tmp_path: Path) -> None:
    a = run(tmp_path / "a", share(3))

    with pytest.raises(InvalidFile, match="no contender 'x'; it has popular, mix-up"):
        compare(a, a, of_b="x")


def test_a_run_without_contenders_is_refused(tmp_path: Path) -> None:
    a = run(tmp_path / "a", share(3), bare())

    with pytest.raises(InvalidFile, match="has no contender"):
        compare(a, a)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ({"questions": np.zeros(N, np.uint64)}, "a question is there twice"),
        ({"hr10_1": np.zeros(5, np.float32)}, "not of one length"),
        ({"ndcg10_1": np.full(N, np.nan, np.float32)}, "a metric is not a number"),
        ({"hr10_1": np.array([None] * N)}, "damaged: ValueError"),  # a pickle, which may run code
    ],
)
def test_damaged_answers_are_refused(tmp_path: Path, harm: dict[str, Any], words: str) -> None:
    a, b = run(tmp_path / "a", share(3)), run(tmp_path / "b", share(3), **harm)

    with pytest.raises(InvalidFile, match=words):
        compare(a, b)


def test_a_file_that_is_no_archive_or_is_missing_is_refused(tmp_path: Path) -> None:
    a = run(tmp_path / "a", share(3))
    (a / "answers.npz").write_bytes(b"PK\x03\x04 not one")
    with pytest.raises(InvalidFile, match="damaged"):
        compare(a, a)

    (a / "answers.npz").unlink()
    with pytest.raises(InvalidFile, match="missing: run that replay again"):
        compare(a, a)


def test_a_comparison_is_json(better: Comparison) -> None:
    told = json.loads(json.dumps(better.to_json()))

    assert told["better"] == "b"
    assert told["questions"] == N
    assert told["a"]["contender"] == "mix-up"
    assert set(told["differences"]["NDCG@10"]) == {"mean", "low", "high"}


def test_the_page_says_the_verdict_and_both_commands(tmp_path: Path) -> None:
    a = run(tmp_path / "a", share(10), bare(contender("mix-up"), command="weft replay --seed 1"))
    b = run(tmp_path / "b", share(3), bare(contender("mix-up"), command="weft replay --seed 2"))
    page = compare(a, b).page()

    assert "B (mix-up) is better than A (mix-up)." in page
    assert page.index("weft replay --seed 1") < page.index("weft replay --seed 2")


def test_outside_words_bring_no_element_to_the_page(tmp_path: Path) -> None:
    def harmed(each: Contender) -> Result:
        return bare(each, title=HARM, notes=(HARM,), command=HARM, versions={HARM: HARM})

    folder = run(tmp_path / "a", share(3), harmed(contender(HARM, words=HARM)))
    page = compare(folder, folder).page()

    assert page.count("<script") == 1
    assert "<img" not in page
    assert "\u202e" not in page
