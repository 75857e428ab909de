"""Events of worker processes: what was written is read again, whatever it holds and wherever the table is torn."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from prs_dask.logs.process_events import (
    ENDED,
    EVENTS_HEADER,
    FAILED,
    READY,
    STARTED,
    ProcessEvent,
    format_event,
    read_events,
)
from prs_dask.logs.text import one_line

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z

events = st.builds(
    ProcessEvent,
    time=st.integers(0, 2_000_000_000_000).map(lambda number: number / 1000),
    node=st.just(4),
    process=st.integers(0, 100_000),
    event=st.sampled_from((STARTED, READY, FAILED, ENDED)),
    ip=st.sampled_from(("", "10.0.0.7", "fe80::1")),
    pid=st.integers(0, 4_194_304),
    seconds=st.just(0.0),
    why=st.text(st.characters(), max_size=40),
)


def table(logs: Path, data: bytes, node: str = "4") -> None:
    path = logs / f"sys/node/{node}/processes.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def shown(event: ProcessEvent) -> ProcessEvent:
    """As it is read: control characters and surrogates are shown as text."""
    return event._replace(why=one_line(event.why, 1000))


@given(written=st.lists(events, max_size=5), cut=st.integers(0, 60))
def test_what_was_written_is_read_again_but_for_a_torn_last_row(tmp_path_factory, written, cut) -> None:
    logs = tmp_path_factory.mktemp("logs")
    rows = [format_event(event) for event in written]
    data = EVENTS_HEADER + b"".join(rows)
    table(logs, data[: len(data) - cut])
    read = list(read_events(logs))
    assert all(abs(one.time - event.time) < 0.002 for one, event in zip(read, written, strict=False))
    whole = [event for at, event in enumerate(written) if sum(map(len, rows[at + 1 :])) >= cut]
    assert [one._replace(time=0) for one in read] == [shown(event)._replace(time=0) for event in whole]


def test_the_seconds_of_init_are_kept(tmp_path) -> None:
    table(tmp_path, EVENTS_HEADER + format_event(ProcessEvent(NOW, 4, 7, READY, seconds=1.25)))
    assert list(read_events(tmp_path)) == [ProcessEvent(NOW, 4, 7, READY, seconds=1.25)]
    row = (tmp_path / "sys/node/4/processes.csv").read_text().splitlines()[1]
    assert row == "2026-01-01T00:00:00.000Z,process007,ready,,,1.250000,"


def test_nodes_come_in_order_and_what_is_none_is_passed_over(tmp_path) -> None:
    for node in ("10", "2", "x"):
        table(tmp_path, EVENTS_HEADER + format_event(ProcessEvent(NOW, 0, 1, STARTED)) + b"rubbish\n,,,,,,\n", node)
    assert [event.node for event in read_events(tmp_path)] == [2, 10]
    assert list(read_events(tmp_path / "none")) == []
