"""What is halved, in which order halves are tried, and what a bisected mini-batch counts as."""

from __future__ import annotations

from collections import Counter

import pytest

from prs_dask.attempts.bisecting import FIRST_PART, Bisected, PartlyDone, halves_of
from prs_dask.attempts.judge import Counts
from prs_dask.attempts.limits import RunLimits
from prs_dask.attempts.records import AttemptError, AttemptRecord, Category, unpack
from prs_dask.mini_batches import (
    BisectedMiniBatch,
    FileMiniBatch,
    FrameMiniBatch,
    Part,
    QueryMiniBatch,
    TextMiniBatch,
    decode,
    encode,
)

FILES = FileMiniBatch(0, tuple("abcdefgh"))
TABLE = TextMiniBatch(0, "t.csv", 0, 100)


def failed(category: Category = Category.EXCEPTION, items: int = 8) -> AttemptRecord:
    return AttemptRecord(7, 3, category, 0, items, 0, 0, 0.0, 1.0, 0.0, 1.0, 0.0)


def halves(mini_batch, record: AttemptRecord, part: Part | None = None, items: int | None = 8) -> list[Part]:
    found = halves_of(7, part, items, encode(mini_batch), record)
    for half, descriptor in found:
        assert decode(descriptor) == BisectedMiniBatch.of(mini_batch, half)
    return [half for half, _ in found]


class TestWhatIsHalved:
    @pytest.mark.parametrize(
        "category", set(Category) - {Category.SUCCEEDED, Category.WORKER_LOST, Category.UNSAFE_CUT}
    )
    def test_files_are_whatever_happened_to_their_mini_batch(self, category):
        for items in (8, 0):
            assert halves(FILES, failed(category, items)) == [Part(7, 0, 4, 8), Part(7, 4, 8, 8)]

    @pytest.mark.parametrize("category", [Category.WORKER_LOST, Category.UNSAFE_CUT])
    def test_nothing_is_after_a_lost_worker_or_an_unsafe_cut(self, category):
        assert halves(FILES, failed(category)) == []

    def test_a_table_that_was_read_is(self):
        assert halves(TABLE, failed()) == [Part(7, 0, 4, 8), Part(7, 4, 8, 8)]
        assert halves(FrameMiniBatch(0, b"", 0, 8), failed(Category.PROCESS_DIED)) != []

    def test_a_table_that_could_not_be_read_is_not(self):
        assert halves(TABLE, failed(Category.LOAD_ERROR)) == []
        assert halves(TABLE, failed(Category.TIME_LIMIT, items=0)) == []
        assert halves(TABLE, failed(items=0), items=None) == []

    def test_the_result_of_a_query_is_not_because_it_may_come_in_another_order(self):
        assert halves(QueryMiniBatch(0), failed()) == []

    def test_a_single_item_is_not(self):
        assert halves(FileMiniBatch(0, ("a",)), failed(items=1), items=1) == []
        assert halves(BisectedMiniBatch.of(FILES, Part(7, 3, 4, 8)), failed(items=1), Part(7, 3, 4, 8), 1) == []

    def test_a_part_is_halved_again(self):
        part = Part(7, 4, 7, 8)
        assert halves(BisectedMiniBatch.of(FILES, part), failed(items=3), part) == [Part(7, 4, 5, 8), Part(7, 5, 7, 8)]


class TestCounting:
    def test_it_has_succeeded_when_all_its_items_have_ended_and_none_has_failed(self):
        bisected = Bisected()
        bisected.begin(7, 3)
        assert bisected
        assert bisected.ended(Part(7, 0, 2, 3), failed=False) == (0, 0)
        assert bisected.ended(Part(7, 2, 3, 3), failed=False) == (1, 0)
        assert not bisected

    def test_it_counts_as_failed_from_its_first_failed_item_on_and_once(self):
        bisected = Bisected()
        bisected.begin(7, 4)
        assert bisected.ended(Part(7, 3, 4, 4), failed=True) == (0, 1)
        assert bisected.ended(Part(7, 2, 3, 4), failed=True) == (0, 0)
        assert bisected
        assert bisected.ended(Part(7, 0, 2, 4), failed=False) == (0, 0)
        assert not bisected

    def test_one_that_had_failed_before_a_resume_is_not_counted_again(self):
        bisected = Bisected()
        parts = bisected.parts_left(7, PartlyDone(9, ((0, 2), (5, 6)), failed=True))
        assert list(parts) == [Part(7, 0, 2, 9), Part(7, 5, 6, 9)]
        assert bisected.ended(Part(7, 0, 2, 9), failed=True) == (0, 0)
        assert bisected.ended(Part(7, 5, 6, 9), failed=False) == (0, 0)
        assert not bisected

    def test_numbers_of_parts_are_never_used_twice(self):
        bisected = Bisected()
        assert [bisected.next_number() for _ in range(3)] == [FIRST_PART, FIRST_PART + 1, FIRST_PART + 2]


class Isolation:
    """One mini-batch of files (or rows) on one lane; what it holds fails by ``bad``, and everything is written down."""

    def __init__(self, bench, count: int, bad: set[int] = frozenset(), *, table: bool = False, **limits) -> None:
        self.b = bench(RunLimits(**{"error_threshold": -1, "bisect": True, **limits}))
        self.b.join("a")
        mini_batch = TABLE if table else FileMiniBatch(0, tuple(map(str, range(count))))
        self.b.judge.supply([(0, None if table else count, encode(mini_batch))])
        self.b.judge.supply_ended(1)
        self.count, self.bad = count, bad
        self.tries: list[str] = []
        self.records: list[tuple[str, AttemptRecord]] = []

    def part_of(self, number: int, descriptor: bytes) -> Part:
        mini_batch = decode(descriptor)
        if number < FIRST_PART:
            items = mini_batch.items or self.count
            return Part(number, 0, items, items)
        assert isinstance(mini_batch, BisectedMiniBatch)
        return mini_batch.part

    def step(self, category: Category = Category.EXCEPTION, *, read: bool = True, fails: bool | None = None) -> str:
        [(number, attempt, descriptor)] = (grant := self.b.grant("a")).work
        part = self.part_of(number, descriptor)
        if fails is None:
            fails = bool(self.bad & set(range(part.start, part.stop)))
        items = part.items if read else 0
        name = str(part) if number >= FIRST_PART else str(number)
        self.tries.append(name)
        if fails:
            record = self.b.failure(number, category=category, items=items)._replace(attempt=attempt)
            accepted = self.b.report(grant, [record], errors={number: AttemptError("ValueError", "no")})
        else:
            record = self.b.success(number, items=items, results=items, length=2)._replace(attempt=attempt)
            accepted = self.b.report(grant, [record], rows=b"x\n")
        assert {n: str(p) for n, p in accepted.parts.items()} == ({number: name} if number >= FIRST_PART else {})
        [kept] = unpack(accepted.records)
        self.records.append((name, kept))
        return name

    def run(self, **how) -> Isolation:
        while self.b.judge.verdict is None:
            self.step(**how)
        return self

    @property
    def final(self) -> dict[str, int]:
        """Parts that have ended, and how many items of each have failed."""
        return {name: kept.items if kept.category else 0 for name, kept in self.records if kept.final}


class TestIsolation:
    def test_the_bad_item_is_alone_in_the_end(self, bench):
        one = Isolation(bench, 8, {5}, run_max_try=2).run()
        assert one.final == {"0[0:4]": 0, "0[4:5]": 0, "0[5:6]": 1, "0[6:8]": 0}
        counts = one.b.judge.counts()
        assert (counts.succeeded, counts.failed) == (0, 1)
        assert (counts.items, counts.succeeded_items, counts.failed_items) == (8, 7, 1)
        assert counts.attempts == len(one.tries)
        assert one.b.judge.verdict.state == "Completed"

    def test_halves_are_tried_at_once_and_depth_first(self, bench):
        one = Isolation(bench, 8, {5}, run_max_try=2)
        one.b.judge.supply([(1, 1, encode(FileMiniBatch(0, ("z",))))])
        one.run()
        assert one.tries == [
            "0", "0", "0[0:4]", "0[4:8]", "0[4:6]", "0[4:5]", "0[5:6]", "0[5:6]", "0[6:8]", "1",
        ]  # fmt: skip

    @pytest.mark.parametrize("tries", [1, 2, 3])
    @pytest.mark.parametrize("count", [2, 3, 7, 10, 64, 100])
    def test_a_single_bad_item_costs_two_attempts_a_level_and_its_other_tries(self, bench, count, tries):
        levels = (count - 1).bit_length()
        for bad in (0, count // 2, count - 1):
            one = Isolation(bench, count, {bad}, run_max_try=tries).run()
            assert len(one.tries) <= tries + 2 * levels + tries - 1
            assert sum(one.final.values()) == 1

    @pytest.mark.parametrize("tries", [1, 3])
    @pytest.mark.parametrize("count", [2, 3, 10, 100])
    def test_where_every_item_is_bad_parts_are_tried_once_and_items_have_all_their_tries(self, bench, count, tries):
        one = Isolation(bench, count, set(range(count)), run_max_try=tries).run()
        assert len(one.tries) == tries + (count - 2) + count * tries
        assert set(Counter(one.tries).values()) <= {1, tries}
        assert one.b.judge.counts().failed_items == count
        assert one.b.judge.counts().failed == 1

    def test_the_error_threshold_ends_a_storm_early(self, bench):
        one = Isolation(bench, 1024, set(range(1024)), run_max_try=1, error_threshold=3).run()
        assert one.b.judge.verdict.state == "Failed"
        assert "4 failed items" in one.b.judge.verdict.cause
        assert len(one.tries) < 20

    def test_the_threshold_of_mini_batches_ends_it_with_the_first_item(self, bench):
        one = Isolation(bench, 1024, set(range(1024)), run_max_try=1, allowed_failed_count=0).run()
        assert "1 failed mini-batch is more" in one.b.judge.verdict.cause
        assert one.b.judge.counts().failed_items == 1

    def test_a_mini_batch_that_is_only_too_large_succeeds_in_halves(self, bench):
        one = Isolation(bench, 8, run_max_try=1)
        while one.b.judge.verdict is None:
            one.step(Category.TIME_LIMIT, fails=not one.tries)
        assert one.final == {"0[0:4]": 0, "0[4:8]": 0}
        assert (one.b.judge.counts().succeeded, one.b.judge.counts().failed) == (1, 0)

    def test_a_single_item_that_fails_now_and_then_is_tried_again(self, bench):
        one = Isolation(bench, 2, run_max_try=2)
        for fails in (True, True, True, False, False):
            one.step(fails=fails)
        assert one.tries == ["0", "0", "0[0:1]", "0[0:1]", "0[1:2]"]
        assert one.b.judge.counts().succeeded == 1

    def test_what_is_not_worth_another_attempt_is_halved_at_once(self, bench):
        one = Isolation(bench, 4, {0}, run_max_try=3, no_retry_on=("ValueError",)).run()
        assert one.tries == ["0", "0[0:2]", "0[0:1]", "0[1:2]", "0[2:4]"]

    def test_a_part_of_a_table_that_cannot_be_read_has_all_its_tries_and_fails_whole(self, bench):
        one = Isolation(bench, 4, {0}, table=True, run_max_try=2)
        one.step()
        one.step()
        assert one.step(Category.LOAD_ERROR, read=False, fails=True) == "0[0:2]"
        assert one.step(Category.LOAD_ERROR, read=False, fails=True) == "0[0:2]"
        assert one.step() == "0[2:4]"
        assert one.final == {"0[0:2]": 2, "0[2:4]": 0}
        assert one.b.judge.counts().failed == 1

    def test_items_of_a_table_are_those_that_were_read(self, bench):
        one = Isolation(bench, 6, {1}, table=True, run_max_try=1).run()
        assert one.final == {"0[0:1]": 0, "0[1:2]": 1, "0[2:3]": 0, "0[3:6]": 0}

    def test_without_bisect_nothing_is_halved(self, bench):
        one = Isolation(bench, 8, {5}, run_max_try=2, bisect=False).run()
        assert one.tries == ["0", "0"]
        assert one.final == {"0": 8}


class TestLosses:
    def test_a_part_that_loses_its_workers_fails_whole_and_its_losses_are_those_of_the_whole(self, bench):
        one = Isolation(bench, 8, {0}, run_max_try=2)
        one.b.grant("a")
        one.b.lose("a")
        one.b.held.clear()
        one.b.join("a")
        one.step()
        one.step()
        assert one.b.judge.counts().failed == 0
        grant = one.b.grant("a")
        [(number, _, descriptor)] = grant.work
        assert decode(descriptor).part == Part(0, 0, 4, 8)
        accepted, _ = one.b.lose("a")
        [record] = unpack(accepted.records)
        assert (record.final, record.items) == (1, 4)
        assert accepted.parts == {number: Part(0, 0, 4, 8)}
        assert one.b.judge.counts().failed == 1

    def test_a_part_that_was_given_back_is_handed_out_next(self, bench):
        one = Isolation(bench, 8, {0}, run_max_try=1)
        one.b.judge.supply([(1, 1, encode(FileMiniBatch(0, ("z",))))])
        one.step()
        grant = one.b.grant("a")
        one.b.report(grant, back=one.b.ids(grant))
        assert one.step() == "0[0:4]"


class TestResume:
    def resumed(self, bench, done: PartlyDone, already: Counts):
        b = bench(RunLimits(error_threshold=-1, bisect=True, run_max_try=1), already=already, partly_done={3: done})
        b.join("a")
        b.judge.supply([(3, 8, encode(FILES)), (4, 8, encode(FILES))])
        b.judge.supply_ended(5)
        return b

    @pytest.mark.parametrize("had_failed", [False, True])
    def test_only_what_is_left_is_tried(self, bench, had_failed):
        failed = int(had_failed)
        before = Counts(succeeded=3, failed=failed, items=21, succeeded_items=21 - failed, failed_items=failed)
        b = self.resumed(bench, PartlyDone(8, ((2, 4), (7, 8)), had_failed), before)
        assert b.judge.counts().supplied == 5
        parts = []
        while b.judge.verdict is None:
            [(number, attempt, descriptor)] = (grant := b.grant("a")).work
            assert attempt == 1
            mini_batch = decode(descriptor)
            if number >= FIRST_PART:
                parts.append(mini_batch.part)
                assert mini_batch.source.paths == FILES.paths[mini_batch.part.start : mini_batch.part.stop]
            b.report(grant, [b.success(number, items=mini_batch.items, results=mini_batch.items, length=0)], rows=b"")
        assert parts == [Part(3, 2, 4, 8), Part(3, 7, 8, 8)]
        counts = b.judge.counts()
        assert (counts.succeeded, counts.failed) == ((4, 1) if had_failed else (5, 0))
        assert counts.items == 21 + 3 + 8
