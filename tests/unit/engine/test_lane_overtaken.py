"""A lane whose mini-batch has succeeded elsewhere: its process ends at once, nobody is charged, nothing is lost."""

from __future__ import annotations

import threading
import time

import psutil

PATIENCE = 20.0


def wait_until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def overtake(workbench, mini_batch):
    threading.Thread(target=workbench.lane.overtaken, args=(mini_batch,)).start()


def under_way(workbench, mini_batch):
    wait_until(lambda: workbench.lane.under_way == mini_batch)


def ends(workbench):
    return [event for event in workbench.supervisor.events if event["event"] == "ended"]


def test_its_process_is_killed_at_once_and_no_other_is_started_for_nothing(bench, patient):
    workbench = bench()
    grants = iter([workbench.grant(1, "a", "sleep_60")])
    workbench.supervisor.answer = lambda call: next(grants, {"stop": True}) if call["claim"] else {}
    thread = workbench.work()
    under_way(workbench, 1)
    pid = workbench.lane.process.pid
    begun = time.monotonic()
    overtake(workbench, 1)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert time.monotonic() - begun < 10
    assert not psutil.pid_exists(pid)
    assert [event["why"] for event in ends(workbench)] == ["another attempt of mini-batch 1 was faster; it was killed"]
    assert [told[0] for told in workbench.supervisor.told] == ["ready", "ended"]
    assert [record.mini_batch for record in workbench.supervisor.records] == [0]
    assert workbench.supervisor.back == []
    assert workbench.lane.process is None


def test_the_next_permit_starts_another_process_and_a_death_there_is_as_any_other(bench, patient):
    workbench = bench()
    workbench.supervisor.answer = lambda call: workbench.grant(1, "sleep_60") if call["claim"] else {}
    thread = workbench.work()
    under_way(workbench, 0)
    overtake(workbench, 0)
    thread.join(PATIENCE)
    workbench.work_to_the_end(workbench.grant(2, "exit_1", first=1), workbench.grant(3, "b", first=2), permit=2)
    assert [record.mini_batch for record in workbench.supervisor.records] == [1, 2]
    assert [process for event, process, _ in workbench.supervisor.told if event == "ready"] == [0, 1, 2]


def test_what_waits_behind_it_goes_back(bench, patient):
    workbench = bench()
    grants = iter([workbench.grant(1, "sleep_60", "b", "c")])
    workbench.supervisor.answer = lambda call: next(grants, {"stop": True}) if call["claim"] else {}
    thread = workbench.work()
    under_way(workbench, 0)
    overtake(workbench, 0)
    thread.join(PATIENCE)
    assert sorted(workbench.supervisor.back) == [1, 2]
    assert workbench.supervisor.records == []


def test_what_has_ended_before_is_passed_over(bench, patient):
    workbench = bench()
    grants = iter([workbench.grant(1, "a", "sleep_0.5"), workbench.grant(2, "c", first=2)])
    workbench.supervisor.answer = lambda call: next(grants, {"stop": True}) if call["claim"] else {}
    thread = workbench.work()
    under_way(workbench, 1)
    overtake(workbench, 0)
    thread.join(PATIENCE)
    assert [record.mini_batch for record in workbench.supervisor.records] == [0, 1, 2]
    assert ends(workbench) == []


def test_a_grant_that_is_behind_the_news_is_not_begun(bench):
    workbench = bench()
    workbench.lane.overtaken(0)
    workbench.work_to_the_end(workbench.grant(1, "sleep_60"), workbench.grant(2, "b", first=1))
    assert [record.mini_batch for record in workbench.supervisor.records] == [1]
    assert ends(workbench) == []
