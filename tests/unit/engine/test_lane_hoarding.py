"""A lane whose files have to be fetched: it asks early, tells the fetcher, and gives back when it is asked to."""

from __future__ import annotations

import threading
import time

from prs_dask.attempts.records import Category


def answers(workbench, *grants):
    """One grant for each claim, also for those ahead of time; then nothing more. When each came is noted."""
    left, claims = iter(grants), []

    def answer(call):
        if not call["claim"]:
            return {}
        claims.append((time.monotonic(), call["keep"], call["hoards"]))
        return next(left, {} if call["keep"] else {"stop": True})

    workbench.supervisor.answer = answer
    return claims


def test_the_next_one_is_claimed_and_expected_when_one_has_begun(bench):
    workbench = bench(hoards=True)
    claims = answers(workbench, *(workbench.grant(number, "sleep_0.4", first=number) for number in (1, 2, 3)))
    begun = time.monotonic()
    workbench.work().join(20)
    supervisor = workbench.supervisor
    assert [record.mini_batch for record in supervisor.records] == [1, 2, 3]
    assert supervisor.fetch_ahead.expected == ["sleep_0.4"] * 3
    assert all(hoards for _, _, hoards in claims)
    assert [keep for _, keep, _ in claims[:3]] == [(), (1,), (2,)]
    ended = begun + (time.monotonic() - begun)
    assert claims[2][0] < ended - 0.4, "while the second one ran"
    assert supervisor.back == []


def test_what_is_held_outlasts_the_box(bench):
    workbench = bench(hoards=True)
    answers(workbench, workbench.grant(0, "sleep_0.6", box=0.1), workbench.grant(1, "a", first=1, box=0.1))
    workbench.work().join(20)
    assert [record.mini_batch for record in workbench.supervisor.records] == [0, 1]
    assert workbench.supervisor.back == []


def test_it_gives_back_what_it_has_not_begun_when_it_is_asked(bench):
    workbench = bench(hoards=True)
    answers(workbench, workbench.grant(1, "sleep_3"), workbench.grant(2, "a", "b", first=1))
    thread = workbench.work()
    end = time.monotonic() + 10
    while len(workbench.supervisor.fetch_ahead.expected) < 3:
        assert time.monotonic() < end
        time.sleep(0.01)
    time.sleep(0.1)
    threading.Thread(target=workbench.lane.give_back).start()
    while workbench.supervisor.back != [1, 2]:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert workbench.supervisor.records == [], "the first one still runs"
    thread.join(20)
    assert [record.mini_batch for record in workbench.supervisor.records] == [0]


def test_nobody_waits_behind_one_that_is_far_slower_than_those_before(bench):
    workbench = bench(hoards=True)
    answers(
        workbench,
        workbench.grant(1, "a", "b", "sleep_2"),
        *(workbench.grant(number, "c", first=number) for number in (3, 4, 5)),
    )
    workbench.work().join(20)
    supervisor = workbench.supervisor
    assert [record.mini_batch for record in supervisor.records] == [0, 1, 2]
    assert 3 in supervisor.back


def test_what_is_held_goes_back_when_the_process_dies(bench):
    workbench = bench(hoards=True)
    answers(workbench, workbench.grant(1, "exit_3"), workbench.grant(2, "a", first=1))
    workbench.work().join(20)
    supervisor = workbench.supervisor
    outcomes = {record.mini_batch: record.category for record in supervisor.records}
    assert outcomes.pop(0) == Category.PROCESS_DIED
    assert sorted([*outcomes, *supervisor.back]) == [1]


def test_what_will_be_claimed_soon_is_expected_too(bench):
    workbench = bench(hoards=True)
    soon = workbench.grant(9, "x", first=9)["work"][0][2]
    left = iter([workbench.grant(1, "sleep_0.3")])

    def answer(call):
        if call["keep"]:
            return {"soon": [soon]}
        return next(left, {"stop": True}) if call["claim"] else {}

    workbench.supervisor.answer = answer
    workbench.work().join(20)
    assert set(workbench.supervisor.fetch_ahead.expected) == {"sleep_0.3", "x"}


def test_it_does_not_ask_all_the_time(bench):
    workbench = bench(hoards=True)
    claims = answers(workbench, workbench.grant(1, "sleep_1"))
    workbench.work().join(20)
    assert 2 <= len(claims) <= 8
