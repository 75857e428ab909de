"""Versions of scheduler and workers beside the driver's."""

from __future__ import annotations

import asyncio
from typing import Any

import distributed
import pytest

from prs_dask.cancellation import Cancellation
from prs_dask.clusters import check_versions, versions
from prs_dask.clusters.versions import version_differences
from prs_dask.errors import ClusterError

OWN = {"prs-dask": "1.0", "python": "3.12.1", "dask": "2", "distributed": "2", "cloudpickle": "3", "numpy": None}


def test_the_same_everywhere_tells_nothing() -> None:
    assert version_differences({"scheduler": OWN, "tcp://a": OWN}, OWN, pickles_script=True) == ([], [])


def test_another_prs_dask_cannot_work_and_another_dask_may() -> None:
    places = {
        "scheduler": {**OWN, "dask": "1"},
        "tcp://a": {**OWN, "prs-dask": "0.9", "dask": "1"},
        "tcp://b": {**OWN, "prs-dask": "0.9", "numpy": "2"},
    }
    errors, notes = version_differences(places, OWN, pickles_script=False)
    assert errors == [("2 workers, such as tcp://a", "prs-dask", "0.9", "1.0")]
    assert notes == [
        ("scheduler", "dask", "1", "2"),
        ("tcp://a", "dask", "1", "2"),
        ("tcp://b", "numpy", "2", "not installed"),
    ]


@pytest.mark.parametrize(("python", "breaks"), [("3.12.9", False), ("3.11.1", True)])
def test_another_python_breaks_an_entry_script_that_travels_pickled(python: str, breaks: bool) -> None:
    places = {"tcp://a": {**OWN, "python": python}}
    row = ("tcp://a", "python", python, "3.12.1")
    assert version_differences(places, OWN, pickles_script=False) == ([], [row])
    assert version_differences(places, OWN, pickles_script=True) == (([row], []) if breaks else ([], [row]))


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client whose scheduler and one worker tell these versions of prs-dask and dask."""

    def made(ours: str | None, dask: str, own: str | None = "1.0") -> Any:
        def told(packages: list[str]) -> dict[str, Any]:
            return {"packages": {"python": "3.12.1.final.0", "dask": "2", "prs-dask": own}}

        async def ask(scheduler: object) -> dict[str, dict[str, str | None]]:
            other = {"python": "3.12.1", "dask": dask, "prs-dask": ours}
            return {"scheduler": dict(other), "tcp://a": dict(other)}

        monkeypatch.setattr(versions, "get_versions", told)
        monkeypatch.setattr(versions, "_told_versions", ask)
        client = distributed.Client.__new__(distributed.Client)
        client.__dict__.update(scheduler=None, status="closed")
        client.sync = lambda call, *args, **_: asyncio.run(call(*args))  # type: ignore[method-assign]
        return client

    return made


def test_a_difference_that_breaks_is_a_table(answers: Any) -> None:
    with pytest.raises(ClusterError) as caught:
        check_versions(answers("0.9", "2"), Cancellation(), pickles_script=False)
    lines = str(caught.value).splitlines()
    assert lines[1].split() == ["where", "package", "found", "driver's"]
    assert lines[2].split() == ["scheduler", "prs-dask", "0.9", "1.0"]
    assert lines[3].split() == ["tcp://a", "prs-dask", "0.9", "1.0"]


def test_a_difference_that_mostly_works_is_a_note(answers: Any) -> None:
    assert "dask     1      2" in check_versions(answers("1.0", "1"), Cancellation(), pickles_script=False)


@pytest.mark.parametrize(("ours", "own"), [(None, "1.0"), ("1.0", None)])
def test_a_checkout_that_is_not_installed_is_no_difference(answers: Any, ours: str | None, own: str | None) -> None:
    assert check_versions(answers(ours, "2", own), Cancellation(), pickles_script=False) == ""
