"""What the judge decides, rule by rule; `test_judge_machine` goes through everything at random."""

from __future__ import annotations

import itertools
import math

import pytest

from prs_dask.attempts.chunks import MAX_CHUNK, MeanCost, queue_target
from prs_dask.attempts.gpus import Slot, ToldGpus
from prs_dask.attempts.grants import Answer
from prs_dask.attempts.init_rules import NODE_FACTOR
from prs_dask.attempts.judge import OTHER_PROCESS_SECONDS, SILENT_SECONDS, Counts, Verdict
from prs_dask.attempts.limits import RunLimits
from prs_dask.attempts.losses import NODES_LOST, Loss
from prs_dask.attempts.records import AttemptError, Category, unpack


def one(bench, **limits):
    """One worker with one lane, ready; thresholds off unless told."""
    b = bench(RunLimits(**{"error_threshold": -1, **limits}))
    b.join("a")
    return b


def two(bench, **limits):
    b = one(bench, **limits)
    b.join("b")
    return b


class TestSupply:
    def test_what_was_supplied_before_is_passed_over(self, bench):
        b = one(bench)
        b.supply(0, 1, 2)
        b.supply(1, 2, 3)
        assert b.judge.counts().supplied == 4
        assert b.judge.claimable == 4

    def test_room_is_what_the_queue_lacks_of_its_target(self, bench):
        b = two(bench)
        assert b.judge.room == queue_target(MeanCost(), 2) == 128
        b.supply(0, 1, 2)
        assert b.judge.room == 125
        b.supply(*range(3, 200))
        assert b.judge.room == 0

    def test_it_runs_short_with_less_than_half_of_that_while_more_is_listed(self, bench):
        b = two(bench)
        assert b.judge.runs_short
        b.supply(*range(63))
        assert b.judge.runs_short
        b.supply(63)
        assert not b.judge.runs_short
        ended = two(bench)
        ended.supply(0, total=1)
        assert not ended.judge.runs_short

    def test_without_workers_there_is_room_for_the_first(self, bench):
        assert bench().judge.room > 0

    def test_supply_after_the_end_is_ignored(self, bench):
        b = one(bench)
        b.judge.end("Canceled", "")
        b.supply(0, 1)
        assert b.judge.counts().supplied == 0

    def test_nothing_at_all_is_completed(self, bench):
        b = one(bench)
        b.judge.supply_ended(0)
        assert b.judge.verdict == Verdict("Completed")

    def test_the_run_is_not_completed_before_the_last_mini_batch_was_supplied(self, bench):
        b = one(bench)
        b.supply(0)
        b.judge.supply_ended(2)
        b.succeed(b.grant("a"))
        assert b.judge.verdict is None
        b.supply(1)
        b.succeed(b.grant("a"))
        assert b.judge.verdict == Verdict("Completed")

    def test_the_run_is_not_completed_while_one_is_left_whatever_the_total_says(self, bench):
        b = one(bench)
        b.supply(0, 1, total=1)
        b.succeed(b.grant("a"))
        assert b.judge.verdict is None
        b.succeed(b.grant("a"))
        assert b.judge.verdict == Verdict("Completed")

    def test_mini_batches_that_never_come_end_the_run_after_a_time_without_progress(self, bench):
        b = one(bench)
        b.judge.supply_ended(1)
        b.now += b.limits.progress_seconds + 1
        b.judge.tick(b.now)
        assert b.judge.verdict.state == "Failed"

    def test_counts_of_an_earlier_part_go_on(self, bench):
        b = bench(already=Counts(succeeded=3, failed=1, items=40, succeeded_items=30, failed_items=10, attempts=6))
        b.join("a")
        b.supply(4, total=5)
        b.succeed(b.grant("a"))
        assert b.judge.counts() == Counts(5, 0, 0, 4, 1, 50, 40, 10, 7)
        assert b.judge.verdict.state == "Completed"


class TestClaims:
    def test_a_grant_holds_descriptors_in_order_and_counts_attempts_from_one(self, bench):
        b = one(bench)
        b.supply(*range(500))
        work = b.chunk("a").work
        assert work == [(number, 1, b"%d" % number) for number in range(len(work))]

    def test_the_first_mini_batches_are_handed_out_one_by_one(self, bench):
        b = one(bench)
        b.supply(0, 1, 2)
        assert b.ids(b.grant("a")) == [0]

    def test_the_first_claim_that_is_served_begins_the_run(self, bench):
        b = one(bench)
        b.claim("a")
        assert b.judge.first_run is None
        b.supply(0)
        b.now += 5
        b.grant("a")
        b.now += 5
        assert b.judge.first_run == 1005.0

    def test_a_claim_without_a_permit_gets_nothing(self, bench):
        b = one(bench)
        b.supply(0)
        assert b.judge.claim(99, ("a", 0), "0/0", b.now) == Answer()

    def test_an_ended_permit_is_worth_nothing(self, bench):
        b = one(bench)
        b.supply(0)
        number = b.permit("a")
        b.places.end(number)
        assert b.judge.claim(number, ("a", 0), "0/0", b.now) == Answer()

    def test_while_more_is_being_listed_a_lane_is_told_to_ask_again(self, bench):
        b = one(bench)
        b.supply(0, 1)
        b.succeed(b.grant("a"))
        b.succeed(b.grant("a"))
        assert b.claim("a") == Answer(pause=True)

    def test_when_all_is_handed_out_a_lane_is_told_to_stop(self, bench):
        b = two(bench)
        b.supply(0, 1, total=2)
        b.grant("a")
        b.succeed(b.grant("b"))
        assert b.claim("b") == Answer()
        assert b.judge.verdict is None

    def test_a_slice_of_time_that_is_over_returns_the_thread_to_others(self, bench):
        b = one(bench)
        b.supply(*range(10))
        b.grant("a")
        b.now += 2
        number = b.held["a", 0]
        assert b.judge.claim(number, ("a", 0), "0/0", b.now, others_wait=True) == Answer()

    def test_what_a_lane_did_not_end_goes_back_uncharged_when_it_claims_again(self, bench):
        b = one(bench)
        b.supply(*range(500))
        first = b.chunk("a")
        b.succeed(first, 0, 1)
        second = b.grant("a")
        assert b.ids(second)[0] == 2
        assert second.work[0][1] == 1

    def test_a_report_for_a_grant_that_was_taken_back_counts_for_nothing(self, bench):
        b = one(bench)
        b.supply(*range(500))
        first = b.chunk("a")
        b.grant("a")
        assert b.report(first, [b.success(0), b.success(1)]) is None
        assert b.judge.counts().succeeded == 0
        assert b.judge.dropped == 2

    def test_a_grant_is_open_until_its_report_its_loss_or_the_end(self, bench):
        b = two(bench)
        b.supply(0, 1, 2)
        reported, lost = b.grant("a"), b.grant("b")
        assert b.judge.is_open(reported.token)
        assert b.judge.is_open(lost.token)
        b.succeed(reported, *b.ids(reported))
        b.lose("b")
        assert not b.judge.is_open(reported.token)
        assert not b.judge.is_open(lost.token)
        running = b.grant("a")
        assert b.judge.is_open(running.token)
        b.judge.end("Canceled", "told so")
        assert not b.judge.is_open(running.token)

    def test_a_lane_whose_permit_has_ended_loses_what_it_left_open(self, bench):
        b = two(bench)
        b.supply(0, 1, total=2)
        left = b.grant("a")
        b.succeed(b.grant("b"))
        b.places.end(b.held["a", 0])
        b.judge.tick(b.now)
        assert b.ids(b.grant("b")) == b.ids(left)
        assert b.report(left, [b.success(b.ids(left)[0])]) is None


class TestPermits:
    def test_there_are_none_while_there_is_nothing_to_claim(self, bench):
        b = one(bench)
        assert b.judge.permits(b.now) == []

    def test_there_are_none_after_the_end(self, bench):
        b = one(bench)
        b.supply(0)
        b.judge.end("Canceled", "")
        assert b.judge.permits(b.now) == []
        assert b.claim("a") == Answer()

    def test_one_mini_batch_wants_one_lane(self, bench):
        b = two(bench)
        b.supply(0)
        assert len(b.judge.permits(b.now)) == 1
        assert b.judge.permits(b.now) == []

    def test_plenty_of_work_wants_every_lane_and_a_spare(self, bench):
        b = two(bench)
        b.supply(*range(100))
        assert sorted(permit.worker for permit in b.judge.permits(b.now)) == ["a", "a", "b", "b"]

    def test_a_lane_that_was_told_to_ask_again_takes_the_next_chunk(self, bench):
        b = two(bench)
        b.supply(0)
        b.succeed(b.grant("a"))
        assert b.claim("a").pause
        b.supply(1)
        assert b.judge.permits(b.now) == []
        assert b.ids(b.grant("a")) == [1]

    def test_a_spare_permit_behind_a_busy_lane_does_not_keep_an_idle_one_from_working(self, bench):
        b = two(bench)
        b.supply(0, 1, 2, total=3)
        b.judge.permits(b.now)  # two for each worker
        b.grant("a")
        b.fail(b.grant("b"))
        b.succeed(b.grant("b"))
        b.processes.pop(("b", 0))
        b.judge.process_ended(("b", 0))
        b.ready("b")  # another process, for the retry
        b.places.end(b.held["b", 0])
        for number in list(b.places.workers["b"].permits):
            b.places.end(number)
        assert b.judge.claimable == 1
        assert [permit.worker for permit in b.judge.permits(b.now)] == ["b"]

    def test_a_lane_that_is_still_starting_does_not_keep_a_ready_one_from_working(self, bench):
        b = one(bench)
        b.join("slow", ready=False)
        b.supply(0, 1)
        permits = {permit.worker: permit.number for permit in b.judge.permits(b.now)}
        b.judge.may_start_process(("slow", 0), b.now)
        b.judge.supply_ended(2)
        b.succeed(b.grant("a"))
        b.fail(b.grant("a"))
        b.places.end(b.held["a", 0])
        assert permits["slow"] in b.places.permits
        assert [permit.worker for permit in b.judge.permits(b.now)] == ["a"]

    def test_no_further_worker_is_woken_while_the_only_free_one_starts(self, bench):
        b = bench()
        b.join("a", ready=False)
        b.join("b", ready=False)
        b.supply(0, total=1)
        [permit] = b.judge.permits(b.now)
        b.judge.may_start_process((permit.worker, 0), b.now)
        assert b.judge.permits(b.now) == []

    def test_a_node_that_may_start_nothing_gets_no_permit(self, bench):
        b = bench()
        b.join("broken", ready=False)
        b.join("a")
        for _ in range(NODE_FACTOR):
            b.judge.process_failed(("broken", 0), "no module", b.now)
        b.supply(0, total=1)
        assert [permit.worker for permit in b.judge.permits(b.now)] == ["a"]

    def test_lanes_that_were_ready_before_their_node_was_given_up_go_on(self, bench):
        b = bench()
        b.join("a", threads=2, ready=False)
        b.ready("a", 0)
        for _ in range(NODE_FACTOR):
            b.judge.process_failed(("a", 1), "no memory", b.now)
        b.supply(*range(10))
        assert len(b.judge.permits(b.now)) == 1
        b.grant("a", 0)

    def test_a_node_where_one_lane_works_and_one_cannot_start_replaces_the_process_that_worked(self, bench):
        b = bench()
        b.join("a", threads=2, ready=False)
        b.ready("a", 0)
        b.supply(*range(10))
        b.succeed(b.grant("a", 0))
        for _ in range(2 * NODE_FACTOR):
            b.judge.process_failed(("a", 1), "no memory", b.now)
        assert b.judge.may_start_process(("a", 0), b.now).refused
        b.report(b.grant("a", 0), [b.failure(1, category=Category.PROCESS_DIED)])
        b.judge.process_ended(("a", 0))
        b.judge.tick(b.now)
        assert b.judge.verdict is None
        assert b.judge.may_start_process(("a", 0), b.now).allowed

    def test_a_process_that_has_ended_nothing_proves_nothing_of_its_node(self, bench):
        b = bench()
        b.join("a", threads=2, ready=False)
        b.ready("a", 0)
        for _ in range(2 * NODE_FACTOR):
            b.judge.process_failed(("a", 1), "no memory", b.now)
        b.judge.process_ended(("a", 0))
        assert b.judge.may_start_process(("a", 0), b.now).refused


class TestReports:
    def test_a_success_counts_its_mini_batch_and_items(self, bench):
        b = one(bench)
        b.supply(0, total=1)
        accepted = b.succeed(b.grant("a"))
        assert b.kept(accepted) == [(0, 0, 1)]
        assert accepted.rows == b"row of 0\n"
        assert b.judge.counts() == Counts(1, 0, 0, 1, 0, 10, 10, 0, 1)
        assert b.judge.verdict == Verdict("Completed")

    def test_a_short_result_fails_items_and_not_the_mini_batch(self, bench):
        b = one(bench)
        b.supply(0, 1)
        b.report(b.grant("a"), [b.success(0, results=7)])
        counts = b.judge.counts()
        assert (counts.succeeded, counts.failed) == (1, 0)
        assert (counts.items, counts.succeeded_items, counts.failed_items) == (10, 7, 3)

    def test_more_results_than_items_are_no_error(self, bench):
        b = one(bench)
        b.supply(0, 1)
        b.report(b.grant("a"), [b.success(0, results=70)])
        assert b.judge.counts().succeeded_items == 10

    def test_of_two_records_of_a_mini_batch_in_one_report_the_first_counts(self, bench):
        b = one(bench)
        b.supply(0, 1, total=2)
        accepted = b.report(b.grant("a"), [b.success(0), b.success(0)], rows=b"row of 0\n" + b"twice!!!\n")
        assert b.kept(accepted) == [(0, 0, 1)]
        assert accepted.rows == b"row of 0\n"
        assert b.judge.counts().succeeded == b.judge.counts().attempts == 1
        assert b.judge.dropped == 1

    def test_rows_of_what_was_given_to_somebody_else_are_cut_out(self, bench):
        b = one(bench)
        b.supply(*range(500))
        grant = b.chunk("a")
        b.report(grant, back=[1])
        accepted = b.report(grant, [b.success(0), b.success(1), b.success(2)])
        assert accepted.rows == b"row of 0\nrow of 2\n"
        assert b.judge.counts().attempts == 2

    def test_a_report_that_is_repeated_changes_nothing(self, bench):
        b = one(bench)
        b.supply(*range(500))
        grant = b.chunk("a")
        b.succeed(grant, 0, 1)
        before = b.judge.counts()
        again = b.succeed(grant, 0, 1)
        assert b.kept(again) == []
        assert again.rows == b""
        assert b.judge.counts() == before

    def test_what_is_given_back_is_next_in_its_old_order(self, bench):
        b = two(bench)
        b.supply(*range(500))
        grant = b.chunk("a")
        b.report(grant, back=b.ids(grant)[1:])
        assert b.ids(b.grant("b"))[:3] == [1, 2, 3]

    def test_what_is_given_back_is_not_charged(self, bench):
        b = one(bench, run_max_try=1)
        b.supply(*range(500))
        for _ in range(5):
            grant = b.chunk("a")
            b.report(grant, back=b.ids(grant))
        assert b.grant("a").work[0] == (0, 1, b"0")

    def test_ids_given_back_that_were_never_granted_are_ignored(self, bench):
        b = one(bench)
        b.supply(0, 1)
        b.report(b.grant("a"), back=[1, 77])
        assert b.judge.claimable == 1
        assert b.judge.counts().running == 1

    def test_rows_in_pieces_are_passed_on_with_their_mini_batch(self, bench):
        b = one(bench)
        b.supply(*range(500))
        grant = b.chunk("a")
        records = [b.success(0, length=1009), b.success(1)]
        accepted = b.report(grant, records, rows=b"row of 0\nrow of 1\n", pieced={0: 1000})
        assert accepted.rows == b"row of 0\nrow of 1\n"
        assert accepted.pieced == {0: 1000}

    def test_pieces_of_what_does_not_count_are_not_passed_on(self, bench):
        b = one(bench)
        b.supply(*range(500))
        grant = b.chunk("a")
        accepted = b.report(grant, [b.success(1)], pieced={499: 1000})
        assert accepted.pieced == {}
        accepted = b.report(grant, [b.success(1, length=1009)], rows=b"row of 1\n", pieced={1: 1000})
        assert accepted.pieced == {}

    def test_rows_in_pieces_count_for_the_size_of_chunks(self, bench):
        b = one(bench)
        b.supply(*range(10))
        b.report(b.grant("a"), [b.success(0, length=(4 << 20) + 9)], pieced={0: 4 << 20})
        assert b.judge.mean.bytes > 4 << 20
        assert len(b.grant("a").open) == 1

    def test_reports_after_the_end_count_for_nothing(self, bench):
        b = one(bench)
        b.supply(0, 1)
        grant = b.grant("a")
        b.judge.end("Canceled", "")
        assert b.succeed(grant) is None
        assert b.judge.dropped == 1
        assert b.judge.counts().succeeded == 0


class TestHeaders:
    """One output file has one header line, that of the first rows; other columns fail."""

    def test_the_first_rows_decide_over_the_header(self, bench):
        b = one(bench)
        b.supply(*range(500))
        grant = b.chunk("a")
        b.report(grant, [b.success(0)], headers={0: b"x y\n"})
        assert b.judge.header == b"x y\n"
        assert b.kept(b.report(grant, [b.success(1)], headers={1: b"x y\n"})) == [(1, 0, 1)]

    def test_a_table_with_other_columns_is_a_failed_attempt_that_names_both(self, bench):
        b = one(bench)
        b.supply(*range(500))
        grant = b.chunk("a")
        accepted = b.report(grant, [b.success(0), b.success(1)], headers={0: b"x y\n", 1: b"x z\n"})
        assert b.kept(accepted) == [(0, 0, 1), (1, Category.BAD_RETURN, 0)]
        assert accepted.rows == b"row of 0\n"
        assert "'x z'" in accepted.errors[1].message
        assert "'x y'" in accepted.errors[1].message
        assert [record.length for record in unpack(accepted.records)] == [9, 0]

    def test_a_table_after_rows_without_columns_is_a_failed_attempt(self, bench):
        b = one(bench)
        b.supply(*range(500))
        grant = b.chunk("a")
        b.report(grant, [b.success(0)])
        accepted = b.report(grant, [b.success(1)], headers={1: b"x z\n"})
        assert b.kept(accepted) == [(1, Category.BAD_RETURN, 0)]
        assert "without columns" in accepted.errors[1].message

    def test_behind_refused_files_none_of_the_process_count_and_what_came_with_them_goes_back(self, bench):
        b = one(bench)
        b.supply(*range(500))
        grant = b.chunk("a")
        records = [b.success(0), b.success(1), b.success(2), b.success(3)]
        accepted = b.report(grant, records, headers={0: b"x y\n", 1: b"x z\n"}, filed={0, 1, 3})
        assert b.kept(accepted) == [(0, 0, 1), (1, Category.BAD_RETURN, 0), (2, 0, 1)]
        assert accepted.rows == b"row of 0\nrow of 2\n"
        assert accepted.files_refused
        assert 3 not in grant.open
        assert b.judge.counts().attempts == 3
        assert {number for number, _, _ in b.grant("a", 1).work} & {1, 3}

    def test_where_a_refused_table_came_without_files_the_process_may_stay(self, bench):
        b = one(bench)
        b.supply(*range(500))
        headers = {0: b"x y\n", 1: b"x z\n"}
        accepted = b.report(b.chunk("a"), [b.success(0), b.success(1), b.success(2)], headers=headers, filed={0, 2})
        assert not accepted.files_refused
        assert b.kept(accepted) == [(0, 0, 1), (1, Category.BAD_RETURN, 0), (2, 0, 1)]

    def test_the_same_within_one_report(self, bench):
        b = one(bench)
        b.supply(*range(500))
        accepted = b.report(b.chunk("a"), [b.success(0), b.success(1)], headers={1: b"x z\n"})
        assert b.kept(accepted) == [(0, 0, 1), (1, Category.BAD_RETURN, 0)]

    def test_results_without_any_row_decide_nothing(self, bench):
        b = one(bench)
        b.supply(*range(500))
        grant = b.chunk("a")
        b.report(grant, [b.success(0, length=0)], rows=b"")
        assert b.judge.header is None
        b.report(grant, [b.success(1)], headers={1: b"x\n"})
        assert b.judge.header == b"x\n"

    def test_a_header_that_comes_before_its_rows_waits_for_them(self, bench):
        b = one(bench)
        b.supply(*range(500))
        grant = b.chunk("a")
        b.report(grant, headers={0: b"x y\n"})  # with the first piece of a large table
        assert b.judge.header is None
        b.report(grant, [b.success(0, length=1009)], rows=b"row of 0\n", pieced={0: 1000})
        assert b.judge.header == b"x y\n"
        b.report(grant, headers={1: b"other\n"})
        accepted = b.report(grant, [b.success(1, length=1009)], rows=b"row of 1\n", pieced={1: 1000})
        assert b.kept(accepted) == [(1, Category.BAD_RETURN, 0)]
        assert accepted.pieced == {}

    def test_a_failed_attempt_decides_nothing_and_keeps_its_own_error(self, bench):
        b = one(bench)
        b.supply(*range(500))
        grant = b.chunk("a")
        error = AttemptError("ValueError", "in the middle of the rows")
        b.report(grant, [b.failure(0)], errors={0: error}, headers={0: b"x\n"})
        assert b.judge.header is None
        b.report(grant, [b.success(1)], headers={1: b"y\n"})
        accepted = b.report(grant, [b.failure(2)], errors={2: error}, headers={2: b"x\n"})
        assert accepted.errors == {2: error}
        assert b.kept(accepted) == [(2, Category.EXCEPTION, 0)]

    def test_rows_that_do_not_count_decide_nothing(self, bench):
        b = one(bench)
        b.supply(*range(500))
        grant = b.chunk("a")
        b.report(grant, back=[0])
        b.report(grant, [b.success(0)], headers={0: b"x\n"})
        assert b.judge.header is None


class TestRetries:
    def test_a_mini_batch_has_exactly_run_max_try_attempts(self, bench):
        b = one(bench, run_max_try=3)
        b.supply(0, 1)
        seen = []
        for _ in range(3):
            grant = b.grant("a")
            seen.append(grant.work[0][:2])
            accepted = b.fail(grant)
        assert seen == [(0, 1), (0, 2), (0, 3)]
        assert b.kept(accepted) == [(0, Category.EXCEPTION, 1)]
        assert b.judge.counts().failed == 1
        assert b.judge.counts().attempts == 3
        assert b.ids(b.grant("a")) == [1]

    def test_a_finally_failed_mini_batch_counts_all_its_items_once(self, bench):
        b = one(bench, run_max_try=2)
        b.supply(0, 1)
        b.fail(b.grant("a"))
        b.fail(b.grant("a"))
        assert b.judge.counts().failed_items == b.judge.counts().items == 10

    @pytest.mark.parametrize(("supplied", "told", "counted"), [(None, 0, 1), (None, 7, 7), (5, 0, 5), (5, 7, 7)])
    def test_items_are_those_that_were_read_or_listed_and_one_where_nobody_knows(self, bench, supplied, told, counted):
        b = one(bench, run_max_try=1)
        b.supply(0, 1, items=supplied)
        accepted = b.report(b.grant("a"), [b.failure(0, items=told)])
        assert b.judge.counts().failed_items == counted
        assert [record.items for record in unpack(accepted.records)] == [counted]

    def test_items_that_an_earlier_attempt_had_read_are_remembered(self, bench):
        b = one(bench, run_max_try=2)
        b.supply(0, 1, items=None)
        b.report(b.grant("a"), [b.failure(0, items=42)])
        b.report(b.grant("a"), [b.failure(0, items=0, category=Category.LOAD_ERROR)])
        assert b.judge.counts().failed_items == 42

    def test_a_file_that_cannot_be_cut_safely_ends_the_step_run_whatever_is_allowed_to_fail(self, bench):
        b = one(bench, run_max_try=3)
        b.supply(0, 5)
        error = AttemptError("UnsafeCut", "table.csv, byte 7: a quote")
        accepted = b.report(b.grant("a"), [b.failure(0, category=Category.UNSAFE_CUT)], errors={0: error})
        assert b.kept(accepted) == [(0, Category.UNSAFE_CUT, 1)]
        assert b.judge.verdict == Verdict("Failed", "table.csv, byte 7: a quote")

    def test_a_failure_without_an_error_is_told_by_its_category(self, bench):
        b = one(bench)
        b.supply(0, 1)
        accepted = b.report(b.grant("a"), [b.failure(0, category=Category.OUT_OF_MEMORY)])
        assert accepted.errors[0].type == "out of memory"

    def test_an_exception_that_is_not_worth_it_fails_at_once(self, bench):
        b = one(bench, no_retry_on=("KeyError",))
        b.supply(0, 1)
        assert b.kept(b.fail(b.grant("a"), error="KeyError")) == [(0, Category.EXCEPTION, 1)]

    def test_a_time_limit_is_tried_again_whatever_exceptions_are(self, bench):
        b = one(bench, retry_on=("KeyError",))
        b.supply(0, 1)
        assert b.kept(b.fail(b.grant("a"), error="TimeLimit", category=Category.TIME_LIMIT)) == [
            (0, Category.TIME_LIMIT, 0)
        ]

    def test_only_the_one_that_ran_is_charged_for_a_dead_process(self, bench):
        b = one(bench, run_max_try=2)
        b.supply(*range(500))
        grant = b.chunk("a")
        died = [b.failure(0, category=Category.PROCESS_DIED)]
        accepted = b.report(grant, died, back=b.ids(grant)[1:])
        assert b.kept(accepted) == [(0, Category.PROCESS_DIED, 0)]
        tries = dict(itertools.chain.from_iterable([(n, t) for n, t, _ in b.grant("a").work] for _ in range(2)))
        assert tries == {0: 2} | {number: 1 for number in tries if number}

    def test_another_process_is_preferred(self, bench):
        b = two(bench)
        b.supply(0, 1, 2)
        b.fail(b.grant("a"))
        assert b.ids(b.grant("a")) == [1]
        assert b.grant("b").work[0][:2] == (0, 2)

    def test_another_process_is_waited_for_but_not_for_long(self, bench):
        b = two(bench)
        b.supply(0, total=1)
        b.fail(b.grant("a"))
        assert b.claim("a") == Answer(pause=True)
        b.now += OTHER_PROCESS_SECONDS + 0.1
        assert b.grant("a").work[0][:2] == (0, 2)

    def test_while_there_is_other_work_another_process_is_waited_for(self, bench):
        b = two(bench)
        b.supply(0, 1, 2, total=3)
        b.fail(b.grant("a"))
        b.now += OTHER_PROCESS_SECONDS + 0.1
        for number in (1, 2):
            grant = b.grant("a")
            assert b.ids(grant) == [number]
            b.succeed(grant)
        assert b.grant("a").work[0][:2] == (0, 2)

    def test_the_permit_for_a_retry_goes_to_another_process(self, bench):
        b = two(bench)
        b.supply(0, total=1)
        b.fail(b.grant("a"))
        b.places.end(b.held["a", 0])
        assert [permit.worker for permit in b.judge.permits(b.now)] == ["b"]

    def test_a_process_that_was_replaced_is_another_process(self, bench):
        b = two(bench)
        b.supply(0, total=1)
        b.fail(b.grant("a"))
        b.judge.process_ended(("a", 0))
        b.ready("a")
        assert b.grant("a").work[0][:2] == (0, 2)

    def test_alone_a_process_gets_its_own_failures_again(self, bench):
        b = one(bench)
        b.supply(0, total=1)
        b.fail(b.grant("a"))
        assert b.grant("a").work[0][:2] == (0, 2)

    def test_a_retry_backs_off_for_longer_each_time(self, bench):
        b = one(bench, run_max_try=5, retry_backoff=(10.0, 2.0, 15.0))
        b.supply(0, total=1)
        for delay in (10, 15, 15):
            b.fail(b.grant("a"))
            assert b.claim("a") == Answer()
            assert b.judge.counts().queued == 1
            b.now += delay - 0.5
            assert b.judge.permits(b.now) == []
            b.now += 0.5
            assert len(b.judge.permits(b.now)) == 1

    def test_the_run_is_not_over_while_a_retry_backs_off(self, bench):
        b = one(bench, retry_backoff=(10.0, 1.0, 10.0))
        b.supply(0, total=1)
        b.fail(b.grant("a"))
        assert b.judge.verdict is None
        b.now += 10
        b.succeed(b.grant("a"))
        assert b.judge.verdict == Verdict("Completed")

    def test_exceptions_are_tried_again_by_the_chunk_and_every_lane_gets_its_share(self, bench):
        b = two(bench)
        b.supply(*range(200), total=200)
        grant = b.chunk("a")
        failed = b.ids(grant)
        b.fail(grant)
        share = math.ceil(len(failed) / 4)
        assert b.chunk("b").work == [(number, 2, b"%d" % number) for number in failed[:share]]
        assert not set(b.ids(b.chunk("a"))) & set(failed), "its own failures are left to another process"

    @pytest.mark.parametrize("category", [Category.TIME_LIMIT, Category.PROCESS_DIED, Category.LOAD_ERROR])
    def test_what_ended_its_process_or_could_not_be_read_is_tried_again_by_itself(self, bench, category):
        b = two(bench)
        b.supply(*range(200))
        grant = b.chunk("a")
        numbers = b.ids(grant)
        records = [b.failure(number) for number in numbers]
        records[1] = records[1]._replace(category=category)
        b.report(grant, records)
        several = b.chunk("b")
        assert b.ids(several) == [numbers[0], *numbers[2 : len(several.work) + 1]]
        b.succeed(several)
        assert b.ids(b.grant("b")) == [numbers[1]]

    def test_a_retry_that_was_not_begun_stays_a_retry(self, bench):
        b = one(bench)
        b.supply(0, 1)
        b.fail(b.grant("a"))
        b.report(b.grant("a"), back=[0])
        assert b.grant("a").work[0][:2] == (0, 2)


class TestLostWorkers:
    def test_the_only_one_under_way_is_charged_on_a_budget_of_its_own(self, bench):
        b = one(bench, run_max_try=2)
        b.supply(0, total=1)
        b.fail(b.grant("a"))
        for final in (0, 1):
            assert b.judge.verdict is None
            b.grant("a")
            accepted, _ = b.lose("a")
            assert b.kept(accepted) == [(0, Category.WORKER_LOST, final)]
            [record] = unpack(accepted.records)
            assert record.attempt == 2
            assert record.started == 1e9 + b.now
            assert "worker a" in accepted.errors[0].message
            b.join("a")
        assert b.judge.counts().failed == 1
        assert b.judge.verdict == Verdict("Completed")

    def test_a_worker_that_was_taken_away_is_nobodys_fault(self, bench):
        b = one(bench, run_max_try=1)
        b.supply(0, total=1)
        for _ in range(20):
            b.grant("a")
            assert b.lose("a", Loss.TAKEN_AWAY)[0] is None
            b.join("a")
        assert b.grant("a").work == [(0, 1, b"0")]

    def test_permits_of_a_lost_worker_are_void(self, bench):
        b = one(bench)
        b.supply(*range(10))
        permits = [permit.number for permit in b.judge.permits(b.now)]
        _, void = b.lose("a")
        assert void == permits
        assert b.lose("a") == (None, [])

    def test_of_several_nobody_is_charged_but_each_runs_again_alone(self, bench):
        b = two(bench, run_max_try=1)
        b.supply(*range(500))
        lost = b.ids(b.chunk("a"))
        assert b.lose("a")[0] is None
        again = []
        for _ in lost:
            grant = b.grant("b")
            again += b.ids(grant)
            assert len(grant.open) == 1
            assert grant.work[0][1] == 1
            b.succeed(grant)
        assert sorted(again) == sorted(lost)

    def test_a_second_loss_is_certain(self, bench):
        b = one(bench, run_max_try=1)
        b.supply(*range(500))
        lost = b.ids(b.chunk("a"))
        b.lose("a")
        b.join("a")
        [suspect] = b.ids(b.grant("a"))
        assert suspect in lost
        accepted, _ = b.lose("a")
        assert b.kept(accepted) == [(suspect, Category.WORKER_LOST, 1)]

    def test_two_lanes_at_work_are_not_certain_either(self, bench):
        b = bench(RunLimits(error_threshold=-1, run_max_try=1))
        b.join("a", threads=2)
        b.supply(0, 1)
        b.grant("a", 0)
        b.grant("a", 1)
        assert b.lose("a")[0] is None
        b.join("a", threads=2)
        careful = b.grant("a", 0)
        assert b.claim("a", 1) == Answer(pause=True)
        assert b.ids(careful) in ([0], [1])

    def test_a_worker_is_drained_before_a_suspect_runs_there_alone(self, bench):
        b = bench()
        b.join("a", threads=2)
        b.join("b", threads=2)
        b.supply(*range(20))
        busy = b.grant("a", 0)
        b.grant("b", 0)
        b.grant("b", 1)
        b.lose("b")
        assert b.claim("a", 1) == Answer(pause=True)
        b.succeed(busy)
        careful = b.grant("a", 1)
        assert careful.careful
        assert b.claim("a", 0) == Answer(pause=True)
        b.succeed(careful)
        assert b.grant("a", 0).careful

    def test_nobody_joins_a_suspect_on_its_worker(self, bench):
        b = bench()
        b.join("a", threads=2)
        b.supply(*range(20))
        b.grant("a", 0)
        b.lose("a")
        b.join("a", threads=2)
        assert b.grant("a", 0).careful
        assert b.claim("a", 1) == Answer(pause=True)  # though no other suspect waits

    def test_a_retry_that_was_lost_uncharged_stays_a_retry(self, bench):
        b = one(bench)
        b.supply(*range(500))
        b.fail(b.grant("a"))
        assert b.grant("a").work[0][:2] == (0, 2)
        b.lose("a", Loss.TAKEN_AWAY)
        b.join("a")
        assert [work[:2] for work in b.grant("a").work] == [(0, 2)]

    def test_only_one_worker_is_drained_at_a_time(self, bench):
        b = bench()
        for address in "abc":
            b.join(address, threads=2)
        b.supply(*range(20))
        b.grant("a", 0)
        b.grant("b", 0)
        b.grant("c", 0)
        b.grant("c", 1)
        b.lose("c")
        assert b.claim("a", 1).pause
        assert not b.grant("b", 1).careful

    def test_another_worker_is_drained_where_the_first_is_lost(self, bench):
        b = bench()
        for address in "abc":
            b.join(address, threads=2)
        b.supply(*range(20))
        b.grant("a", 0)
        busy = b.grant("b", 0)
        b.grant("c", 0)
        b.grant("c", 1)
        b.lose("c")
        assert b.claim("a", 1).pause
        b.lose("a", Loss.TAKEN_AWAY)
        assert b.claim("b", 1).pause
        b.succeed(busy)
        assert b.grant("b", 1).careful

    def test_a_suspect_that_is_given_back_is_still_one(self, bench):
        b = one(bench)
        b.supply(*range(500))
        b.chunk("a")
        b.lose("a")
        b.join("a")
        grant = b.grant("a")
        b.report(grant, back=b.ids(grant))
        assert b.grant("a").careful

    def test_a_suspect_that_raises_is_a_retry_like_others(self, bench):
        b = one(bench)
        b.supply(0, 1)
        b.grant("a")
        b.lose("a")
        b.join("a")
        b.fail(b.grant("a"))
        assert not b.grant("a").careful

    def test_a_report_of_a_lost_worker_counts_for_nothing(self, bench):
        b = two(bench)
        b.supply(0, 1)
        grant = b.grant("a")
        b.lose("a")
        assert b.succeed(grant) is None
        b.join("a")
        assert b.succeed(grant) is None

    def test_a_loss_after_the_end_charges_nobody(self, bench):
        b = one(bench)
        b.supply(0)
        b.grant("a")
        b.judge.end("Canceled", "")
        accepted, void = b.lose("a")
        assert accepted is None
        assert len(void) == 1

    def test_a_silent_worker_is_charged_only_where_the_mini_batch_ran_alone_because_of_a_loss(self, bench):
        b = one(bench, run_max_try=1)
        b.supply(0, 1)
        b.grant("a")
        assert b.lose("a", Loss.SILENT)[0] is None
        b.join("a")
        grant = b.grant("a")
        assert grant.careful
        assert b.ids(grant) == [0]
        accepted, _ = b.lose("a", Loss.SILENT)
        assert b.kept(accepted) == [(0, Category.WORKER_LOST, 1)]

    def test_a_silent_worker_whose_host_is_silent_too_charges_nobody(self, bench):
        b = one(bench, run_max_try=1)
        b.supply(0, 1)
        for _ in range(3):
            assert not b.grant("a").careful
            assert b.lose("a", Loss.SILENT, node_there=False)[0] is None
            b.join("a")

    def test_one_that_nobody_knows_to_have_begun_runs_alone_before_it_is_charged(self, bench):
        b = one(bench, run_max_try=1)
        b.supply(0, 1)
        b.grant("a")
        assert b.lose("a", begun=False)[0] is None
        for _ in range(3):
            b.join("a")
            assert b.grant("a").careful
            assert b.lose("a", begun=False)[0] is None  # lost before it began: charges nobody
        b.join("a")
        b.grant("a")
        assert b.kept(b.lose("a")[0]) == [(0, Category.WORKER_LOST, 1)]

    def test_what_has_begun_is_forgotten_with_the_grant(self, bench):
        b = one(bench, run_max_try=1)
        b.supply(0, 1)
        b.grant("a")
        b.lose("a", Loss.TAKEN_AWAY)
        b.join("a")
        b.grant("a")
        assert b.lose("a", begun=False)[0] is None

    def test_news_of_what_has_begun_is_ignored_where_it_is_open_no_more(self, bench):
        b = two(bench, run_max_try=1)
        b.supply(0, 1)
        b.grant("a")
        for begun in ([(0, 7)], [(5, 0)], [(0, 1)]):
            assert b.judge.heard("a", b.now, begun)
        assert not b.judge.heard("nobody", b.now, [(0, 0)])
        assert b.lose("a", begun=False)[0] is None

    def test_nodes_that_are_switched_off_charge_nobody_until_they_are_too_many_for_chance(self, bench):
        b = one(bench, run_max_try=2)
        b.supply(0, 1)
        for _ in range(NODES_LOST):
            assert not b.grant("a").careful
            assert b.lose("a", node_there=False)[0] is None
            b.join("a")
        for final in (0, 1):
            assert b.grant("a").careful
            assert b.kept(b.lose("a", node_there=False)[0]) == [(0, Category.WORKER_LOST, final)]
            b.join("a")

    def test_a_silent_worker_is_noticed_and_one_that_speaks_is_not(self, bench):
        b = two(bench)
        b.now += SILENT_SECONDS
        assert b.judge.heard("a", b.now)
        assert not b.judge.heard("nobody", b.now)
        b.now += 1
        assert b.judge.silent_workers(b.now) == ["b"]


class TestEnd:
    def test_too_many_failed_items_end_the_run(self, bench):
        b = one(bench, run_max_try=1, error_threshold=10)
        b.supply(*range(5))
        b.fail(b.grant("a"))
        assert b.judge.verdict is None
        b.fail(b.grant("a"))
        assert b.judge.verdict == Verdict("Failed", "20 failed items are more than error_threshold=10 allows")

    def test_items_missing_from_results_end_the_run_too(self, bench):
        b = one(bench, error_threshold=2)
        b.supply(*range(5))
        b.report(b.grant("a"), [b.success(0, results=7)])
        assert b.judge.verdict.state == "Failed"

    def test_attempts_that_are_tried_again_do_not_count_as_failed_items(self, bench):
        b = one(bench, error_threshold=0)
        b.supply(0, total=1)
        b.fail(b.grant("a"))
        b.succeed(b.grant("a"))
        assert b.judge.verdict == Verdict("Completed")

    def test_too_many_failed_mini_batches_end_the_run(self, bench):
        b = one(bench, run_max_try=1, allowed_failed_count=1)
        b.supply(*range(5))
        b.fail(b.grant("a"))
        assert b.judge.verdict is None
        b.fail(b.grant("a"))
        assert "allowed_failed_count=1" in b.judge.verdict.cause

    def test_a_percentage_is_judged_as_soon_as_all_are_known(self, bench):
        b = one(bench, run_max_try=1, allowed_failed_percent=10)
        b.supply(*range(5))
        b.fail(b.grant("a"))
        assert b.judge.verdict is None
        b.judge.supply_ended(5)
        assert "1 failed of 5 mini-batches" in b.judge.verdict.cause

    def test_a_percentage_that_is_kept_lets_the_run_go_on(self, bench):
        b = one(bench, run_max_try=1, allowed_failed_percent=20)
        b.supply(*range(5))
        b.fail(b.grant("a"))
        b.judge.supply_ended(5)
        assert b.judge.verdict is None
        for _ in range(4):
            b.succeed(b.grant("a"))
        assert b.judge.verdict == Verdict("Completed")

    def test_the_threshold_wins_over_the_end(self, bench):
        b = one(bench, run_max_try=1, error_threshold=0)
        b.supply(0, total=1)
        b.fail(b.grant("a"))
        assert b.judge.verdict.state == "Failed"

    def test_a_loss_for_good_is_judged_as_well(self, bench):
        b = one(bench, run_max_try=1, allowed_failed_count=0)
        b.supply(0, 1)
        b.grant("a")
        b.lose("a")
        assert b.judge.verdict.state == "Failed"

    def test_what_had_ended_in_the_report_that_breaks_a_threshold_still_counts(self, bench):
        b = one(bench, run_max_try=1, error_threshold=0)
        b.supply(*range(500))
        grant = b.chunk("a")
        accepted = b.report(grant, [b.failure(0), b.success(1)])
        assert b.kept(accepted) == [(0, Category.EXCEPTION, 1), (1, 0, 1)]
        assert b.judge.verdict.state == "Failed"
        assert b.judge.counts().running == b.judge.counts().queued == 0

    def test_the_first_verdict_stands(self, bench):
        b = one(bench)
        b.judge.end("Canceled", "Ctrl-C")
        b.judge.end("Failed", "later")
        b.judge.supply_ended(0)
        b.judge.tick(b.now + 1e6)
        assert b.judge.verdict == Verdict("Canceled", "Ctrl-C")

    def test_what_comes_back_in_the_report_that_ends_the_run_is_dropped(self, bench):
        b = one(bench, run_max_try=1, error_threshold=0)
        b.supply(*range(500))
        grant = b.chunk("a")
        b.report(grant, [b.failure(0)], back=b.ids(grant)[1:])
        assert b.judge.claimable == 0


class TestNoProgress:
    def test_nothing_ended_for_too_long_ends_the_run(self, bench):
        b = one(bench, progress_seconds=200.0)
        b.supply(0, 1)
        b.grant("a")
        b.now += 201
        b.judge.tick(b.now)
        assert b.judge.verdict.state == "Failed"
        assert "--progress_update_timeout 200" in b.judge.verdict.cause

    def test_a_mini_batch_within_its_limits_is_progress_enough(self, bench):
        b = one(bench, progress_seconds=10.0, run_seconds=60.0, overhead_seconds=30.0)
        b.supply(0, 1)
        b.grant("a")
        b.now += 119
        b.judge.tick(b.now)
        assert b.judge.verdict is None
        b.now += 2
        b.judge.tick(b.now)
        assert b.judge.verdict.state == "Failed"

    def test_every_attempt_that_ends_starts_the_clock_again(self, bench):
        b = one(bench, progress_seconds=200.0)
        b.supply(*range(500))
        grant = b.chunk("a")
        for number in range(5):
            b.now += 150
            b.judge.tick(b.now)
            b.succeed(grant, number)
        assert b.judge.verdict is None

    def test_waiting_for_the_listing_is_no_standstill(self, bench):
        b = one(bench)
        b.now += 1e5
        b.judge.tick(b.now)
        assert b.judge.verdict is None

    def test_the_clock_stands_still_while_processes_start(self, bench):
        b = bench()
        b.join("a", ready=False)
        b.supply(0)
        for _ in range(10):
            b.now += 100
            b.judge.tick(b.now)
        b.ready("a")
        b.now += 100
        b.judge.tick(b.now)
        assert b.judge.verdict is None

    def test_gpus_that_processes_which_were_killed_hold_for_ever_are_waited_for_and_then_missed(self, bench):
        b = bench(processes_per_node=2)
        b.places.join("a", "a", 2, b.now, ToldGpus(("0", "1")))
        b.supply(0)
        held = {Slot("0", 0), Slot("1", 0)}
        for lane in (0, 1):
            assert b.judge.may_start_process(("a", lane), b.now).allowed
        assert b.places.gpus.take(("a", 0), held).wait
        b.now += 1000
        b.judge.tick(b.now)
        assert b.judge.waits_for == "starting processes", "the other lane does"
        assert b.places.gpus.take(("a", 1), held).wait
        assert b.judge.waits_for == "waiting for GPUs that processes which were killed still hold"
        b.now += b.limits.progress_seconds + 1
        b.judge.tick(b.now)
        assert b.judge.verdict.cause.endswith(
            "(--progress_update_timeout 270): waiting for GPUs that processes which were killed still hold"
        )

    def test_the_clock_stands_still_while_retries_back_off(self, bench):
        b = one(bench, retry_backoff=(1e4, 1.0, 1e4))
        b.supply(0, 1)
        b.fail(b.grant("a"))
        for _ in range(10):
            b.now += 100
            b.judge.tick(b.now)
        assert b.judge.verdict is None

    def test_workers_that_are_all_gone_are_waited_for_and_then_missed(self, bench):
        b = one(bench, progress_seconds=200.0)
        b.supply(0)
        b.now += 150
        b.lose("a", Loss.TAKEN_AWAY)
        b.now += 150
        b.judge.tick(b.now)
        assert b.judge.verdict is None
        b.now += 100
        b.judge.tick(b.now)
        assert "no worker" in b.judge.verdict.cause


class TestWhatIsWaitedFor:
    def test_workers_then_a_thread_then_a_process_then_nothing(self, bench):
        b = bench()
        b.supply(0)
        assert b.judge.waits_for == "waiting for workers"
        b.join("a", ready=False)
        b.judge.places.workers["a"].prepared = False
        assert b.judge.waits_for == "waiting for workers to get the source and side inputs"
        b.judge.places.prepared("a")
        assert b.judge.waits_for == "waiting for free threads of the workers"
        b.judge.may_start_process(("a", 0), b.now)
        assert b.judge.waits_for == "starting processes"
        b.judge.process_failed(("a", 0), "no such module", b.now)
        assert b.judge.waits_for == "starting processes", "it is tried again"
        b.ready("a")
        assert b.judge.waits_for == ""

    def test_nothing_where_there_is_nothing_to_do(self, bench):
        b = bench()
        b.join("a", ready=False)
        assert b.judge.waits_for == ""
        b.judge.end("Canceled", "")
        assert b.judge.waits_for == ""


class TestClustersThatAdapt:
    def test_workers_are_wanted_for_what_waits_runs_or_is_listed_and_none_after_the_end(self, bench):
        b = two(bench)
        assert b.judge.workers_wanted(0, 5.0) == 0
        b.supply(*range(20))
        assert b.judge.workers_wanted(0, 5.0) == 2
        assert b.judge.workers_wanted(80, 5.0) == 10
        b.judge.end("Canceled", "")
        assert b.judge.workers_wanted(80, 5.0) == 0

    def test_busy_are_those_that_run_something_or_start_a_process_for_what_waits(self, bench):
        b = two(bench)
        b.join("c", ready=False)
        b.judge.may_start_process(("c", 0), b.now)
        assert b.judge.busy_workers == set()
        b.supply(0, 1)
        assert b.judge.busy_workers == {"c"}
        grant = b.grant("a")
        assert b.judge.busy_workers == {"a", "c"}
        b.succeed(grant)
        b.succeed(b.grant("b"))
        assert b.judge.busy_workers == set()


class TestProcesses:
    def test_workers_that_come_leave_gpus_to_those_whose_processes_have_them_and_get_the_others(self, bench):
        b = bench()
        b.places.join("a", "node", 2, b.now, ToldGpus(("0", "1")))

        def starts(*lane) -> bool:
            return b.judge.may_start_process(lane, b.now).allowed and b.places.gpus.take(lane).slot is not None

        assert starts("a", 0)
        b.places.join("b", "node", 2, b.now, ToldGpus(("0", "1")))
        assert [b.places.workers[name].lanes for name in "ab"] == [1, 1]
        assert not starts("a", 1), "its permit was issued before the other worker came"
        assert starts("b", 0)
        assert not starts("b", 1)
        assert starts("a", 0), "the same lane may begin again"
        b.ready("a", 0)
        assert not starts("a", 1)
        b.places.join("c", "node", 2, b.now, ToldGpus(("0", "1")))
        assert [b.places.workers[name].lanes for name in "abc"] == [1, 1, 0]
        assert not starts("c", 0)
        b.places.leave("b")
        assert starts("c", 0)

    def test_a_lane_may_start_a_process_until_the_end(self, bench):
        b = bench()
        b.join("a", ready=False)
        assert b.judge.may_start_process(("a", 0), b.now).allowed
        assert b.judge.may_start_process(("nobody", 0), b.now).refused
        b.judge.end("Canceled", "")
        assert b.judge.may_start_process(("a", 0), b.now).refused

    def test_a_failing_node_is_given_up_and_with_the_last_node_the_run(self, bench):
        b = bench()
        b.join("a", ready=False)
        b.join("b", ready=False)
        for _ in range(NODE_FACTOR):
            b.judge.process_failed(("a", 0), "ImportError: torch", b.now)
        assert b.judge.may_start_process(("a", 0), b.now).refused
        assert b.judge.verdict is None
        for _ in range(NODE_FACTOR):
            b.judge.process_failed(("b", 0), "other", b.now)
        assert b.judge.verdict.state == "Failed"
        assert "ImportError: torch" in b.judge.verdict.cause

    def test_failures_do_not_end_the_run_while_a_process_works(self, bench):
        b = one(bench)
        for _ in range(100):
            b.judge.process_failed(("a", 1), "no", b.now)
        assert b.judge.verdict is None

    def test_the_run_ends_when_the_last_good_node_leaves_the_broken_ones_behind(self, bench):
        b = one(bench)
        b.join("broken", ready=False)
        for _ in range(NODE_FACTOR):
            b.judge.process_failed(("broken", 0), "ImportError: torch", b.now)
        b.supply(0)
        b.lose("a", Loss.TAKEN_AWAY)
        b.judge.tick(b.now)
        assert b.judge.verdict.state == "Failed"
        assert "ImportError: torch" in b.judge.verdict.cause

    def test_a_process_that_is_still_starting_is_waited_for(self, bench):
        b = one(bench)
        b.join("slow", ready=False)
        b.judge.may_start_process(("slow", 0), b.now)
        b.supply(0)
        for _ in range(NODE_FACTOR):
            b.judge.process_failed(("a", 1), "no", b.now)
        b.lose("a", Loss.TAKEN_AWAY)
        b.judge.tick(b.now)
        assert b.judge.verdict is None

    def test_an_init_that_takes_too_long_in_every_process_ends_the_run(self, bench):
        b = bench()
        b.join("a", ready=False)
        b.judge.process_failed(("a", 0), "slow", b.now, too_long=True)
        assert "--init_timeout" in b.judge.verdict.cause

    def test_an_init_that_takes_too_long_waits_for_those_that_still_have_time(self, bench):
        """Rule 3 speaks of all processes: one that began later may be slow, but get there."""
        b = bench()
        for address in "ab":
            b.join(address, ready=False)
            b.judge.may_start_process((address, 0), b.now)
        b.judge.process_failed(("a", 0), "slow", b.now, too_long=True)
        assert b.judge.verdict is None
        b.judge.may_start_process(("a", 0), b.now + 9)  # its second try
        b.judge.process_failed(("b", 0), "slow", b.now + 9, too_long=True)
        assert "init() of every process took longer" in b.judge.verdict.cause

    def test_one_that_was_stuck_and_got_ready_later_is_stuck_no_more(self, bench):
        b = bench()
        for address in "ab":
            b.join(address, ready=False)
            b.judge.may_start_process((address, 0), b.now)
        b.judge.process_failed(("a", 0), "slow", b.now, too_long=True)
        b.ready("a")
        b.judge.process_ended(("a", 0))
        assert b.judge.may_start_process(("a", 0), b.now).allowed
        b.judge.process_failed(("b", 0), "slow", b.now, too_long=True)
        assert b.judge.verdict is None

    def test_a_lost_worker_is_stuck_no_more(self, bench):
        b = bench()
        b.join("a", ready=False)
        b.join("b", ready=False)
        for address in "ab":
            b.judge.may_start_process((address, 0), b.now)
        b.judge.process_failed(("a", 0), "slow", b.now, too_long=True)
        b.lose("a", Loss.TAKEN_AWAY, begun=False)
        b.join("a", ready=False)
        b.now += 1
        assert b.judge.may_start_process(("a", 0), b.now).allowed
        b.judge.process_failed(("b", 0), "slow", b.now, too_long=True)
        assert b.judge.verdict is None

    def test_processes_that_die_as_soon_as_they_are_ready_are_counted_though_init_succeeds(self, bench):
        b = bench()
        b.join("a")
        b.supply(0, total=1)
        for _ in range(NODE_FACTOR):
            assert b.judge.verdict is None
            b.judge.process_failed(("a", 0), "left with exit code 1", b.now, was_ready=True)
            b.now += 10
            if b.judge.may_start_process(("a", 0), b.now).allowed:
                b.ready("a")
        assert "no node may start another process" in b.judge.verdict.cause

    @pytest.mark.parametrize("end", ["succeed", "fail"])
    def test_a_mini_batch_that_ended_proves_a_process(self, bench, end):
        b = bench()
        b.join("a")
        b.supply(*range(20))
        for _ in range(3 * NODE_FACTOR):
            b.judge.process_failed(("a", 0), "left with exit code 1", b.now, was_ready=True)
            b.now += 10
            b.ready("a")
            getattr(b, end)(b.grant("a"))
        assert b.judge.verdict is None

    def test_what_proves_a_process_of_one_lane_proves_none_of_another(self, bench):
        b = two(bench)
        b.supply(*range(20))
        b.judge.process_failed(("a", 0), "left with exit code 1", b.now, was_ready=True)
        b.succeed(b.grant("b"))
        b.ready("a")
        assert b.judge.init_rules.failures_since_success == 1

    def test_kills_from_outside_do_not_count_as_failures(self, bench):
        b = bench()
        b.join("a", ready=False)
        for _ in range(NODE_FACTOR - 1):
            b.judge.process_failed(("a", 0), "SIGKILL", b.now, from_outside=True)
            b.judge.process_failed(("a", 0), "ImportError", b.now)
        assert b.judge.verdict is None
        b.judge.process_failed(("a", 0), "SIGKILL", b.now, from_outside=True)
        assert b.judge.verdict.cause.endswith("the first error: ImportError")

    def test_news_of_processes_of_lost_workers_is_ignored(self, bench):
        b = one(bench)
        b.lose("a", Loss.TAKEN_AWAY)
        b.judge.process_ready(("a", 0), "0/0", b.now)
        b.judge.process_failed(("a", 0), "late", b.now, too_long=True)
        b.judge.process_ended(("a", 0))
        assert b.judge.verdict is None

    def test_a_lost_worker_takes_its_starting_processes_with_it(self, bench):
        b = bench()
        b.join("a", ready=False)
        b.judge.may_start_process(("a", 0), b.now)
        b.lose("a", Loss.TAKEN_AWAY)
        assert b.judge._starting == {}


def test_no_chunk_is_larger_than_the_most(bench):
    b = one(bench)
    b.judge.mean.add(1, 1e-9, 1)
    b.supply(*range(2000))
    assert len(b.grant("a").open) == MAX_CHUNK


def test_chunks_get_smaller_as_the_end_comes_near(bench):
    b = two(bench)
    b.judge.mean.add(1, 1e-9, 1)
    b.supply(*range(100), total=100)
    assert len(b.grant("a").open) == 25
    assert len(b.grant("b").open) == 19


class TestAskingAhead:
    """A lane asks for its next chunk while its process runs the last of this one."""

    def begun(self, bench):
        b = one(bench)
        b.supply(*range(40))
        b.judge.mean.add(1, 0.05, 0)
        grant = b.grant("a")
        assert len(grant.open) == 5
        return b, grant

    def ahead(self, b, keep):
        (number,) = [number for number, permit in b.judge.places.permits.items() if permit.working]
        return b.judge.claim(number, ("a", 0), b.processes["a", 0], b.now, keep=keep)

    def test_what_the_process_has_goes_on_under_the_new_grant(self, bench):
        b, first = self.begun(bench)
        second = self.ahead(b, [3, 4]).grant
        assert list(second.open)[:2] == [3, 4]
        assert [number for number, _, _ in second.work][:3] == [0, 1, 2], "what it had not been given comes first"
        assert b.report(first, [b.success(3)]) is None
        assert b.report(second, [b.success(3), b.success(4)]) is not None
        assert b.judge.counts().succeeded == 2

    def test_without_more_work_it_goes_on_under_the_old_one(self, bench):
        b = one(bench)
        b.supply(0)
        grant = b.grant("a")
        assert self.ahead(b, [0]).grant is None
        assert b.report(grant, [b.success(0)]) is not None

    def test_its_permit_still_works(self, bench):
        b, _ = self.begun(bench)
        self.ahead(b, [3, 4])
        assert [permit.working for permit in b.judge.places.permits.values()].count(True) == 1

    def test_nothing_is_added_to_one_that_has_to_be_alone(self, bench):
        b = two(bench)
        b.supply(*range(10))
        b.judge.mean.add(1, 0.05, 0)
        b.grant("a")
        b.lose("a")
        alone = b.grant("b")
        assert alone.careful
        (number,) = [n for n, p in b.judge.places.permits.items() if p.worker == "b" and p.working]
        assert b.judge.claim(number, ("b", 0), b.processes["b", 0], b.now, keep=list(alone.open)) == Answer()
        assert len(alone.open) == 1

    def test_one_that_has_to_be_alone_waits_for_what_is_kept(self, bench):
        b = two(bench)
        b.supply(*range(20))
        b.judge.mean.add(1, 0.05, 0)
        b.grant("a")
        other = b.grant("b")
        b.lose("a")
        (number,) = [n for n, p in b.judge.places.permits.items() if p.worker == "b" and p.working]
        kept = list(other.open)[-1:]
        assert b.judge.claim(number, ("b", 0), b.processes["b", 0], b.now, keep=kept) == Answer()
        assert b.report(other, [b.success(kept[0])]) is not None


class TestHoarding:
    """A lane whose next files have to be fetched asks as soon as it has begun the last of a chunk."""

    def claim(self, b, address, keep=()):
        number = b.permit(address)
        return b.judge.claim(number, (address, 0), b.processes[address, 0], b.now, keep=keep, hoards=True)

    def begun(self, bench, count, total=None):
        """Two lanes, of two nodes, that run 0 and 1, of ``count`` mini-batches."""
        b = two(bench)
        b.judge.mean.add(1, 1.0, 0)
        b.supply(*range(count), total=total)
        return b, self.claim(b, "a").grant, self.claim(b, "b").grant

    def test_it_gets_more_while_every_lane_would_find_something(self, bench):
        b, first, _ = self.begun(bench, 6)
        second = self.claim(b, "a", keep=list(first.open)).grant
        assert list(second.open) == [0, 2]
        third = self.claim(b, "b", keep=[1]).grant
        assert list(third.open) == [1, 3]
        assert self.claim(b, "a", keep=[0, 2]).grant is None
        assert b.report(second, [b.success(0), b.success(2)]) is not None

    def test_who_has_nothing_to_do_has_another_asked_once(self, bench):
        b, first, other = self.begun(bench, 5, total=5)
        held = self.claim(b, "a", keep=[0]).grant
        assert list(held.open) == [0, 2]
        b.report(other, [b.success(1)])
        for number in (3, 4):
            b.report(self.claim(b, "b").grant, [b.success(number)])
        asked = self.claim(b, "b")
        assert (asked.grant, asked.pause, asked.ask) == (None, True, ("a", 0))
        assert self.claim(b, "b").ask is None
        b.report(held, [], back=[2])
        assert list(self.claim(b, "b").grant.open) == [2]
        assert first.token != held.token

    def all_is_claimed_ahead(self, bench):
        """Lane a runs 0 and has not begun 2; all others have ended."""
        b, first, other = self.begun(bench, 5, total=5)
        held = self.claim(b, "a", keep=list(first.open)).grant
        b.report(other, [b.success(1)])
        for number in (3, 4):
            b.report(self.claim(b, "b").grant, [b.success(number)])
        assert (list(held.open), b.judge.claimable) == ([0, 2], 0)
        return b, held

    def test_a_lane_that_comes_late_gets_what_was_claimed_ahead(self, bench):
        b, held = self.all_is_claimed_ahead(bench)
        b.now += 30
        b.join("late")
        assert self.claim(b, "late") == Answer(pause=True, ask=("a", 0))
        b.report(held, back=[2])
        assert list(self.claim(b, "late").grant.open) == [2]

    def test_a_lane_that_gives_nothing_back_is_asked_again(self, bench):
        b, _ = self.all_is_claimed_ahead(bench)
        assert [self.ask_after(b, seconds) for seconds in (0, 0.5, 0.6, 0.9, 0.2)] == [("a", 0), None] * 2 + [("a", 0)]

    def ask_after(self, b, seconds):
        b.now += seconds
        return self.claim(b, "b").ask

    def test_nobody_gets_a_permit_where_nothing_was_claimed_ahead(self, bench):
        b, _, other = self.begun(bench, 2, total=2)
        b.report(other, [b.success(1)])
        b.join("late")
        assert b.judge.permits(b.now) == []

    def test_one_that_only_runs_is_not_asked(self, bench):
        b, _, other = self.begun(bench, 2, total=2)
        b.report(other, [b.success(1)])
        assert self.claim(b, "b") == Answer()

    def test_lanes_that_do_not_hoard_are_not_asked(self, bench):
        b = two(bench)
        b.judge.mean.add(1, 0.05, 0)
        b.supply(*range(20), total=20)
        assert len(b.grant("a").open) > 1
        b.judge._queue.clear()
        assert b.claim("b").ask is None

    def test_retries_are_left_to_who_has_nothing_to_do(self, bench):
        b, _, other = self.begun(bench, 3)
        b.report(other, [b.failure(1)])
        assert self.claim(b, "a", keep=[0]).grant is None
        assert list(self.claim(b, "b").grant.open) == [2]

    def test_what_a_single_node_gets_next_is_known_before(self, bench):
        b = bench()
        b.join("a", threads=2)
        b.judge.mean.add(1, 1.0, 0)
        b.supply(*range(3))
        first = self.claim(b, "a").grant
        assert self.claim(b, "a", keep=list(first.open)).soon == (b"1", b"2")

    def test_of_several_nodes_nobody_knows(self, bench):
        b, first, _ = self.begun(bench, 4)
        assert self.claim(b, "a", keep=list(first.open)) == Answer()

    def test_its_slice_is_longer_while_it_has_work(self, bench):
        b, _, _ = self.begun(bench, 20)
        number = b.permit("a")
        process = b.processes["a", 0]
        b.now += 2
        held = b.judge.claim(number, ("a", 0), process, b.now, others_wait=True, keep=[0], hoards=True).grant
        assert held is not None
        b.now += 4
        kept = list(held.open)
        assert b.judge.claim(number, ("a", 0), process, b.now, others_wait=True, keep=kept, hoards=True) == Answer()
