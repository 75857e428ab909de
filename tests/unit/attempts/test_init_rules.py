"""Failing imports and init() calls are counted, never looped."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prs_dask.attempts.init_rules import LONGEST_BACKOFF, NODE_FACTOR, RUN_SECONDS, InitRules, StartPermission


def failing(rules: InitRules, node: int, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        rules.failed(node, "ImportError", now)


def test_a_node_without_a_failure_may_start_at_once():
    assert InitRules(1, 1, 0.0).may_start(0, 0.0) == StartPermission(allowed=True)


def test_a_node_gets_nothing_more_after_three_failures_for_each_process():
    rules = InitRules(4, 1, 0.0)
    failing(rules, 0, 11)
    assert not rules.may_start(0, 1e6).refused
    failing(rules, 0, 1)
    assert rules.may_start(0, 1e6) == StartPermission(allowed=False, refused=True)


def test_a_success_forgets_the_failures_of_its_node():
    rules = InitRules(1, 2, 0.0)
    failing(rules, 0, NODE_FACTOR)
    failing(rules, 1, NODE_FACTOR)
    rules.succeeded(0)
    assert rules.may_start(0, 0.0).allowed
    assert rules.may_start(1, 0.0).refused
    assert rules.failures_since_success == 0


def test_a_failing_node_waits_longer_each_time_but_never_for_long():
    rules = InitRules(100, 1, 0.0)
    waits = []
    for _ in range(20):
        failing(rules, 0, 1)
        waits.append(rules.may_start(0, 0.0).wait)
    assert waits == sorted(waits)
    assert waits[0] == 0.1
    assert waits[-1] == LONGEST_BACKOFF
    assert rules.may_start(0, LONGEST_BACKOFF).allowed


def test_a_node_does_not_wait_for_the_failures_of_another():
    rules = InitRules(1, 2, 0.0)
    failing(rules, 0, 1)
    assert rules.may_start(1, 0.0).allowed


def test_the_run_fails_at_once_when_no_node_may_start_a_process():
    rules = InitRules(1, 2, 0.0)
    failing(rules, 0, NODE_FACTOR)
    assert rules.verdict({0, 1}, 0.0) is None
    failing(rules, 1, NODE_FACTOR)
    assert "no node may start another process" in rules.verdict({0, 1}, 0.0)
    assert "6 times" in rules.verdict({0, 1}, 0.0)


def test_nodes_that_are_not_used_do_not_matter():
    rules = InitRules(1, 1, 0.0)
    failing(rules, 0, NODE_FACTOR)
    assert rules.verdict({1}, 0.0) is None
    assert rules.verdict(set(), 0.0) is None


def test_the_run_fails_after_two_minutes_and_two_failures_for_each_process_of_all_nodes():
    rules = InitRules(2, 3, 1000.0)
    failing(rules, 0, 5)
    failing(rules, 1, 6)
    assert rules.verdict({0, 1, 2}, 1000.0 + RUN_SECONDS) is None
    failing(rules, 2, 1)
    assert rules.verdict({0, 1, 2}, 1000.0 + RUN_SECONDS - 0.1) is None
    assert "12 times in 120 s" in rules.verdict({0, 1, 2}, 1000.0 + RUN_SECONDS)


def test_a_success_begins_the_count_of_the_run_again():
    rules = InitRules(2, 3, 0.0)
    failing(rules, 0, 5)
    failing(rules, 1, 5)
    rules.succeeded(2)
    failing(rules, 2, 5)
    assert rules.verdict({0, 1, 2}, 1e6) is None


def test_the_first_error_is_kept():
    rules = InitRules(1, 1, 0.0)
    rules.failed(0, "ImportError: torch", 0.0)
    rules.failed(0, "something later", 0.0)
    assert rules.first_error == "ImportError: torch"


@given(st.integers(1, 16), st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=200))
def test_a_node_is_refused_exactly_when_it_has_failed_too_often_since_its_last_success(processes, events):
    rules = InitRules(processes, 4, 0.0)
    since: dict[int, int] = dict.fromkeys(range(4), 0)
    for node, succeeded in events:
        if succeeded:
            rules.succeeded(node)
            since[node] = 0
        else:
            rules.failed(node, "no", 0.0)
            since[node] += 1
    for node, failures in since.items():
        permission = rules.may_start(node, 1e9)
        assert permission.refused is (failures >= 3 * processes)
        assert permission.allowed is not permission.refused
        assert permission.wait == 0
        assert 0 <= rules.may_start(node, 0.0).wait <= LONGEST_BACKOFF


class TestKillsFromOutside:
    """A process that somebody kills on its way to readiness is no failure of the script."""

    def test_one_kill_never_ends_a_nodes_part(self):
        rules = InitRules(1, 1, 0.0)
        for _ in range(NODE_FACTOR - 1):
            rules.failed(0, "ImportError", 0.0)
        rules.failed(0, "SIGKILL", 0.0, from_outside=True)
        assert not rules.may_start(0, 100.0).refused
        assert rules.verdict({0}, 100.0) is None

    def test_kills_without_end_do(self):
        rules = InitRules(2, 1, 0.0)
        for _ in range(2 * NODE_FACTOR):
            assert not rules.may_start(0, 100.0).refused
            rules.failed(0, "the process was killed by SIGKILL", 0.0, from_outside=True)
        assert rules.may_start(0, 100.0).refused
        cause = rules.verdict({0}, 100.0)
        assert cause is not None
        assert "the process was killed from outside 6 times before it was ready" in cause
        assert "init() failed" not in cause
        assert "SIGKILL" in rules.first_error

    def test_both_are_told_and_the_first_failure_rather_than_the_first_kill(self):
        rules = InitRules(1, 1, 0.0)
        rules.failed(0, "SIGKILL", 0.0, from_outside=True)
        for number in range(NODE_FACTOR):
            rules.failed(0, f"ImportError {number}", 0.0)
        cause = rules.verdict({0}, 1.0)
        assert cause is not None
        assert "failed 3 times and the process was killed from outside 1 times" in cause
        assert rules.first_error == "ImportError 0"

    def test_a_success_forgets_them(self):
        rules = InitRules(1, 1, 0.0)
        for _ in range(NODE_FACTOR - 1):
            rules.failed(0, "SIGKILL", 0.0, from_outside=True)
        rules.succeeded(0)
        rules.failed(0, "another", 0.0, from_outside=True)
        assert not rules.may_start(0, 100.0).refused
        assert rules.first_error == "another"

    def test_they_are_waited_after_as_failures_are(self):
        rules = InitRules(8, 1, 0.0)
        waits = []
        for _ in range(4):
            rules.failed(0, "SIGKILL", 0.0, from_outside=True)
            waits.append(rules.may_start(0, 0.0).wait)
        assert waits == sorted(set(waits))

    def test_they_do_not_count_for_the_whole_step_run(self):
        rules = InitRules(2, 2, 0.0)
        for node in (0, 1):
            for _ in range(2 * NODE_FACTOR - 1):
                rules.failed(node, "SIGKILL", 0.0, from_outside=True)
        assert rules.verdict({0, 1}, RUN_SECONDS + 1) is None


def test_without_a_number_of_nodes_those_in_use_count():
    rules = InitRules(2, None, 0.0)
    for node in (0, 1, 2):
        for _ in range(3):
            rules.failed(node, "ImportError", 0.0)
    assert rules.verdict({0, 1, 2}, RUN_SECONDS) is None  # 9 of 2 x 3 x 2
    assert rules.verdict({0, 1}, RUN_SECONDS) is not None
