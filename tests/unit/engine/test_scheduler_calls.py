"""How the driver finds out that there is no scheduler any more; with a client that is a stand-in."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from prs_dask.engine import scheduler_calls
from prs_dask.engine.scheduler_calls import SchedulerCalls, SchedulerGone
from prs_dask.errors import ClusterError


class Client:
    """As much of a Client as calls want; ``answer`` is asked for each call's."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self.scheduler: Any = SimpleNamespace(address="tcp://10.0.0.1:8786", prs=None)
        self.status = "running"
        self.answer = answer
        self.calls = 0
        self._scheduler_identity = {"id": "first"}

    def sync(self, operation: Any, *, callback_timeout: float, **arguments: Any) -> Any:
        self.calls += 1
        answer = self.answer()
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_calls, "LOST_SECONDS", 0.3)
    monkeypatch.setattr(scheduler_calls, "SILENT_SECONDS", 0.6)


def seconds(call: Callable[[], Any], match: str) -> float:
    begun = time.monotonic()
    with pytest.raises(SchedulerGone, match=match):
        call()
    return time.monotonic() - begun


def test_a_call_is_tried_again_until_there_is_an_answer():
    answers = iter([OSError("reset"), TimeoutError("5 s"), {"live": 1}])
    client = Client(lambda: next(answers))
    assert SchedulerCalls(client, "run")("sync") == {"live": 1}
    assert client.calls == 3


def test_a_lost_connection_is_waited_for_less_than_a_scheduler_that_may_be_busy():
    client = Client(lambda: OSError("refused"))
    silent = seconds(lambda: SchedulerCalls(client, "run")("sync"), "has not answered for")
    client.status = "connecting"
    lost = seconds(lambda: SchedulerCalls(client, "run")("sync"), "lost and did not come back within.*refused")
    assert 0.3 <= lost < 0.6 <= silent < 2


def test_who_was_told_to_stop_does_not_wait_long():
    client = Client(lambda: OSError("refused"))
    calls = SchedulerCalls(client, "run")
    calls.hurry(0.0)
    assert seconds(lambda: calls("sync"), "has not answered") < 0.3
    assert client.calls == 1


@pytest.mark.parametrize("status", ["closing", "closed"])
def test_a_closed_client_is_told_from_a_lost_scheduler(status):
    client = Client(dict)
    calls = SchedulerCalls(client, "run")
    client.status = status
    assert seconds(lambda: calls("sync"), "Client of the scheduler at tcp://10.0.0.1:8786 was closed") < 0.1


@pytest.mark.parametrize("status", ["closing", "closed"])
def test_a_client_that_is_closed_during_a_call_was_not_lost(status):
    client = Client(lambda: setattr(client, "status", status) or OSError("the call was cut off"))
    seconds(lambda: SchedulerCalls(client, "run")("sync"), "Client of the scheduler at tcp://10.0.0.1:8786 was closed")
    assert client.calls == 1


def test_a_scheduler_that_was_started_anew_is_not_asked():
    client = Client(dict)
    calls = SchedulerCalls(client, "run")
    client._scheduler_identity = {"id": "second"}
    seconds(lambda: calls("sync"), "started anew")
    assert client.calls == 0


def test_a_new_scheduler_that_answers_before_its_name_is_known_is_told_all_the_same():
    client = Client(lambda: client._scheduler_identity.update(id="second") or {"closed": True})
    seconds(lambda: SchedulerCalls(client, "run")("sync"), "started anew")


def test_the_scheduler_says_why_it_has_ended_the_step_run():
    calls = SchedulerCalls(Client(lambda: {"closed": True, "why": "it was bored"}), "run")
    seconds(lambda: calls("sync"), "has ended the step run: it was bored")


def test_a_fault_of_our_own_leaves_a_scheduler_that_can_be_asked_to_clear_away():
    calls = SchedulerCalls(Client(lambda: {"closed": True, "fault": "internal error"}), "run")
    with pytest.raises(ClusterError, match="internal error") as caught:
        calls("sync")
    assert not isinstance(caught.value, SchedulerGone)


def test_a_client_that_has_given_up_to_connect_again_was_not_closed_by_anybody():
    client = Client(lambda: OSError("refused"))
    calls = SchedulerCalls(client, "run")
    client.status = "connecting"
    answers = iter(["connecting", "closed"])

    def answer() -> Any:
        client.status = next(answers)
        return OSError("refused")

    client.answer = answer
    seconds(lambda: calls("sync"), "lost and did not come back")


def test_a_scheduler_that_knows_nothing_of_us_answers_none():
    seconds(lambda: SchedulerCalls(Client(lambda: None), "run")("sync"), "does not know it")
