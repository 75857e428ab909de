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
