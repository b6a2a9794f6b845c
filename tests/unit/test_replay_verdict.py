"""A replay's verdict in sentences, and how its numbers, times and axes are written."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from models.evaluation.intervals import Interval
from stream.replay.report.axis import decades, linear
from stream.replay.result.result import Slice
from stream.replay.result.verdict import Finding, finding, verdict
from stream.replay.result.words import interval, listed, moment, number, seconds, unit
from tests.replay_result import ID_ONLY, PROTOCOL, ZERO, around, bare, contender


def test_a_gain_whose_interval_leaves_out_0_is_called_better() -> None:
    told = verdict(bare(ID_ONLY, contender(gain=Interval(0.005, 0.002, 0.008))))

    assert told[0] == (
        "mix-up is better than ID only: it finds 9.0 [8.6, 9.4] of 100 next items in its first "
        "ten, +0.5 [0.2, 0.8] over ID only’s 8.5."
    )


def test_a_loss_whose_interval_leaves_out_0_is_called_worse() -> None:
    told = verdict(bare(ID_ONLY, contender(hits=8.0, gain=Interval(-0.005, -0.008, -0.002))))

    assert told[0] == (
        "mix-up is worse than ID only: it finds 8.0 [7.6, 8.4] of 100 next items in its first "
        "ten, −0.5 [−0.8, −0.2] against ID only’s 8.5."
    )


@pytest.mark.parametrize("low", [-0.002, 0.0])
def test_where_the_interval_holds_0_the_data_cannot_tell(low: float) -> None:
    told = verdict(bare(ID_ONLY, contender(gain=Interval(0.005, low, 0.012))))

    assert told[0].startswith("The data cannot tell mix-up from ID only: it finds 9.0")
    assert not re.search(r"\b(better|worse)\b", " ".join(told))


def test_a_difference_that_is_not_a_number_is_no_finding() -> None:
    nan = float("nan")

    assert finding(Interval(nan, nan, nan)) is Finding.OPEN


@pytest.mark.parametrize(
    ("by_place", "words"),
    [
        (Interval(0.003, 0.001, 0.005), "the same: +0.0030 [0.0010, 0.0050]."),
        (Interval(0.001, -0.001, 0.003), "the data cannot tell: +0.0010 [−0.0010, 0.0030]."),
        (
            Interval(-0.003, -0.005, -0.001),
            "it is the other way round: worse, −0.0030 [−0.0050, −0.0010].",
        ),
    ],
)
def test_the_verdict_says_whether_ndcg_agrees(by_place: Interval, words: str) -> None:
    gains = {"HR@10": Interval(0.005, 0.002, 0.008), "NDCG@10": by_place}
    told = verdict(bare(ID_ONLY, replace(contender(gain=ZERO), gains=gains)))

    assert told[1] == f"By NDCG@10, where the place counts too, {words}"


def test_where_only_ndcg_finds_a_difference_it_is_told_as_such() -> None:
    gains = {"HR@10": around(0.001, 0.003), "NDCG@10": Interval(0.003, 0.001, 0.005)}
    told = verdict(bare(ID_ONLY, replace(contender(gain=ZERO), gains=gains)))

    assert told[0].startswith("The data cannot tell mix-up from ID only")
    assert told[1].endswith("where the place counts too, it is better, +0.0030 [0.0010, 0.0050].")


def test_with_several_targets_a_question_it_is_questions_that_are_counted() -> None:
    baskets = replace(PROTOCOL, targets=PROTOCOL.questions + 1)
    told = verdict(bare(ID_ONLY, contender(gain=ZERO), protocol=baskets))

    assert "finds a next item in its first ten for 9.0 [8.6, 9.4] of 100 questions" in told[0]


def test_baselines_share_one_sentence_by_what_was_found() -> None:
    told = verdict(
        bare(
            ID_ONLY,
            contender("A", "baseline", 9.0, Interval(0.005, 0.002, 0.008)),
            contender("B", "baseline", 8.5, Interval(0.0, -0.003, 0.003)),
            contender("C", "baseline", 8.0, Interval(-0.005, -0.008, -0.002)),
        )
    )

    assert told == [
        "ID only finds 8.5 [8.1, 8.9] of 100 next items in its first ten.",
        "Of 3 others against ID only: 1 better (A +0.5 [0.2, 0.8]), 1 not to be told from it "
        "(B 0.0 [−0.3, 0.3]), 1 worse (C −0.5 [−0.8, −0.2]).",
    ]


def test_a_contender_alone_is_compared_with_nothing() -> None:
    told = verdict(bare(ID_ONLY))

    assert told[1] == "There is nothing that it was compared with."


def test_without_a_contender_there_is_a_verdict_still() -> None:
    assert verdict(bare())[0] == "Nothing was asked: there is no contender."


@pytest.mark.parametrize(
    ("half", "words"),
    [
        (0.005, "mix-up is better than ID only on cold items (40 questions): it finds 3.0 "
         "[2.0, 4.0] of 100, +2.0 [1.5, 2.5] over ID only’s 1.0."),
        (0.025, "The data cannot tell mix-up from ID only on cold items (40 questions): it finds "
         "3.0 [2.0, 4.0] of 100, +2.0 [−0.5, 4.5] against ID only’s 1.0."),
    ],
)  # fmt: skip
def test_cold_items_have_a_sentence_by_their_own_paired_gain(half: float, words: str) -> None:
    def cold(hits: float, gain: Interval) -> tuple[Slice, ...]:
        found = {"HR@10": around(hits, 0.01)}
        return (Slice("item's age", "cold (no event learnt)", 40, found, {"HR@10": gain}),)

    told = verdict(
        bare(
            replace(ID_ONLY, slices=cold(0.01, ZERO)),
            contender(gain=around(0.0, 0.002), slices=cold(0.03, around(0.02, half))),
        )
    )

    assert told[2] == words


def test_few_questions_and_what_leaks_are_said_in_the_verdict() -> None:
    leaky = replace(PROTOCOL, questions=80, targets=80, warning="It leaks.")
    told = verdict(bare(ID_ONLY, contender(gain=ZERO), protocol=leaky))

    assert told[-2:] == [
        "Only 80 questions were asked: small differences cannot show.",
        "Mind the protocol: It leaks.",
    ]


def test_a_name_cannot_turn_a_terminal_or_the_direction_of_writing() -> None:
    told = " ".join(verdict(bare(ID_ONLY, contender("a\u202eb\x1b[31m", gain=ZERO))))

    assert "a\ufffdb\ufffd[31m" in told
    assert "\u202e" not in told
    assert "\x1b" not in told


def test_a_small_gain_that_is_one_never_shows_bounds_of_0() -> None:
    assert interval(Interval(0.0003, 0.0001, 0.0005), unit("HR@10"), signed=True) == (
        "+0.03 [0.01, 0.05]"
    )


def test_numbers_have_true_minuses_and_no_signed_zero() -> None:
    assert number(-1234.56, 1) == "−1,234.6"
    assert number(-0.04, 1, signed=True) == "0.0"
    assert number(float("nan"), 1) == "–"


def test_times_are_told_as_people_say_them() -> None:
    assert [seconds(each) for each in (0.42, 42, 185, 7800)] == [
        "0.4 s", "42 s", "3 min 5 s", "2 h 10 min",
    ]  # fmt: skip
    assert [moment(each) for each in (0, 60_000, 10**18)] == [
        "1970-01-01", "1970-01-01 00:01", str(10**18),
    ]  # fmt: skip
    assert listed(["a", "b", "c"], 2) == "a, b and 1 more"
    assert listed(["a", "b", "c"]) == "a, b and c"


def test_axes_have_round_ticks_around_their_values() -> None:
    assert linear(0, 0.093).ticks == (0, 0.05, 0.1)
    assert linear(-0.002, 0.0081).ticks == (-0.005, 0, 0.005, 0.01)
    assert linear(0, 0).ticks[-1] == 1
    assert decades(9, 139).ticks == (1, 10, 100, 1000)
