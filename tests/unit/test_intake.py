from __future__ import annotations

from stream.shoppers.offset_check import OffsetWatch, Verdict

P = ("clicks", 0)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def watch(start: int = 5) -> tuple[OffsetWatch, Clock]:
    clock = Clock()
    made = OffsetWatch(clock)
    made.start(P, start)
    return made, clock


def test_offsets_that_follow_on_are_taken() -> None:
    made, _ = watch()
    assert [made.see(P, offset) for offset in (5, 6, 7)] == [Verdict.TAKE] * 3


def test_a_gap_is_never_taken_on_trust() -> None:
    made, _ = watch()
    made.see(P, 5)
    assert made.see(P, 7) is Verdict.CHECK
    assert made.held() == {P: 6}


def test_a_gap_between_the_committed_offset_and_the_first_record_is_seen() -> None:
    made, _ = watch(5)
    assert made.see(P, 6) is Verdict.CHECK


def test_records_of_the_older_fetch_are_skipped_until_the_rewind_arrives() -> None:
    made, _ = watch()
    made.see(P, 5)
    made.rewound(P, 6)
    assert made.see(P, 8) is Verdict.SKIP
    assert [made.see(P, offset) for offset in (6, 7, 8)] == [Verdict.TAKE] * 3


def test_a_rewind_that_is_dropped_as_well_is_checked_again() -> None:
    made, clock = watch()
    made.see(P, 5)
    made.rewound(P, 6)
    clock.now = 3.0
    assert made.see(P, 8) is Verdict.CHECK


def test_a_redelivered_record_is_taken_and_moves_nothing() -> None:
    made, _ = watch()
    made.see(P, 5)
    made.see(P, 6)
    assert made.see(P, 5) is Verdict.TAKE
    assert made.see(P, 7) is Verdict.TAKE


def test_records_of_a_revoked_partition_are_skipped() -> None:
    made, _ = watch()
    made.clear()
    assert made.see(P, 5) is Verdict.SKIP


def test_a_hole_that_holds_nothing_is_stepped_over() -> None:
    made, _ = watch()
    made.see(P, 5)
    made.accept(P, 9)
    assert made.see(P, 10) is Verdict.TAKE
