"""The tables of perf/: what a monitor sends stands in them, whatever it is called."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from unicodedata import category

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prs_dask.logs.log_files import LogFiles
from prs_dask.logs.places import DISK_USAGE_COLUMNS, NODE_USAGE_COLUMNS, PROCESS_USAGE_COLUMNS
from prs_dask.logs.usage_tables import LATE_SECONDS, UsageTables, node_columns

NODE = [12.5, 1000.0, 600.0, 400.0, 40.0, 7, 8, 9.0, 10.0, 11.0, 12.0, 3, 4]
WHEN = 1_767_225_600.0  # 2026-01-01


def sample(when=WHEN, node=NODE, gpus=(), disks=(), processes=(), ps="", source="2a-7", following=600.0):
    of = {"source": source, "next": when + following}
    value = {"time": when, **of, "node": node, "gpus": gpus, "disks": disks, "processes": processes, "ps": ps}
    return json.dumps(value).encode() + b"\n"


def table(folder, name, node=0):
    path = folder / f"perf/{node}/{name}.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def tables(tmp_path):
    return UsageTables(LogFiles(tmp_path))


def test_each_table_has_its_columns_and_a_row_a_sample(tables, tmp_path):
    disk, process = ["/", "/dev/vda", "ext4", 100, 25, 70, 25.0], ["process000", 77, 2, 99.5, 3.0, 10.0, 4, 1.0, 2.0]
    data = b"".join(sample(WHEN + second, disks=[disk], processes=[process]) for second in range(3))
    assert tables.add(4, data) == []
    rows = table(tmp_path, "node_resource_usage", 4)
    assert tuple(rows[0]) == NODE_USAGE_COLUMNS
    assert [row["Utc Time"] for row in rows] == [f"2026-01-01T00:00:0{second}.000Z" for second in range(3)]
    assert [float(value) for value in list(rows[0].values())[1:]] == NODE
    [*_, last] = table(tmp_path, "node_disk_usage", 4)
    assert tuple(last) == DISK_USAGE_COLUMNS
    assert (last["Mount Point"], last["Used Percent"]) == ("/", "25.0")
    [*_, last] = table(tmp_path, "processes_resource_usage", 4)
    assert tuple(last) == PROCESS_USAGE_COLUMNS
    assert (last["Process"], last["Pid"], last["Cpu Percent"]) == ("process000", "77", "99.5")


def measured(process, disk="/"):
    return {"disks": [[disk, "", "", 1, 1, 1, 1]], "processes": [[process, *range(8)]], "ps": f"1 {process}\n"}


def test_a_node_with_several_monitors_is_told_once_and_the_processes_of_all(tables, tmp_path):
    """Where its workers have different folders for temporary files, each has one, which sees the workers there."""
    for second in range(3):
        tables.add(0, sample(WHEN + second, **measured("process000"), following=1.0))
        tables.add(0, sample(WHEN + second - 0.5, **measured("process001"), source="2a-8", following=1.0))
    whole = [f"2026-01-01T00:00:0{second}.000Z" for second in range(3)]
    assert [row["Utc Time"] for row in table(tmp_path, "node_resource_usage")] == whole
    assert [row["Utc Time"] for row in table(tmp_path, "node_disk_usage")] == whole
    rows = table(tmp_path, "processes_resource_usage")
    assert [row["Process"] for row in rows] == ["process000", "process001"] * 3
    assert "process001" not in "".join(path.read_text() for path in tmp_path.glob("perf/0/os/*/*"))


def test_another_monitor_speaks_for_the_node_where_the_first_is_silent(tables, tmp_path):
    tables.add(0, sample(WHEN, following=5.0))
    for second in (5, 5 + LATE_SECONDS, 6 + LATE_SECONDS, 11 + LATE_SECONDS):
        tables.add(0, sample(WHEN + second, source="2a-8", following=5.0))
    tables.add(0, sample(WHEN + 12 + LATE_SECONDS, following=5.0))  # it was only slow
    rows = table(tmp_path, "node_resource_usage")
    assert [row["Utc Time"][17:19] for row in rows] == ["00", "16", "21"]


def test_each_node_has_a_monitor_that_speaks_for_it(tables, tmp_path):
    for node in range(2):
        tables.add(node, sample(source=f"2a-{node}"))
    assert [len(table(tmp_path, "node_resource_usage", node)) for node in range(2)] == [1, 1]


def test_gpus_stand_behind_the_node_and_what_is_not_known_is_empty(tables, tmp_path):
    tables.add(0, sample(gpus=[[87, 20.0, 80.0, 25.0], [None, 1.0, 80.0, 1.25]]))
    [row] = table(tmp_path, "node_resource_usage")
    assert tuple(row) == node_columns(2)
    assert (row["GPU 0 Percent"], row["GPU 0 Memory Used Percent"], row["GPU 1 Percent"]) == ("87", "25.0", "")


def test_processes_are_listed_in_a_file_of_their_minute(tables, tmp_path):
    tables.add(0, sample(WHEN + 3661, ps="PID COMMAND\n1 init\n"))
    tables.add(0, sample(WHEN + 3670, ps="PID COMMAND\n2 other\n"))
    text = (tmp_path / "perf/0/os/2026010101/processes_01").read_text()
    assert text == (
        "# 2026-01-01T01:01:01.000Z\nPID COMMAND\n1 init\n# 2026-01-01T01:01:10.000Z\nPID COMMAND\n2 other\n"
    )


def test_a_resume_on_a_machine_with_other_gpus_begins_a_new_file(tables, tmp_path):
    tables.add(0, sample())
    later = UsageTables(LogFiles(tmp_path))
    later.add(0, sample(WHEN + 1))
    assert len(table(tmp_path, "node_resource_usage")) == 2
    later.add(0, sample(WHEN + 2, gpus=[[1, 2.0, 3.0, 4.0]]))
    assert [row["GPU 0 Percent"] for row in table(tmp_path, "node_resource_usage")] == ["1"]
    assert len(table(tmp_path, "node_resource_usage.1")) == 2


def test_torn_lines_of_an_earlier_part_are_cut_off(tables, tmp_path):
    tables.add(0, sample())
    path = tmp_path / "perf/0/node_resource_usage.csv"
    with path.open("a") as file:
        file.write("2026-01-01T00:0")
    later = UsageTables(LogFiles(tmp_path))
    later.cut_torn_lines()
    later.add(0, sample(WHEN + 1))
    assert [row["Cpu Percent"] for row in table(tmp_path, "node_resource_usage")] == ["12.5", "12.5"]


def test_troubles_are_given_back_and_what_is_no_sample_is_passed_over(tables, tmp_path):
    lines = [
        b"{torn",
        b"[prs_dask: 100 bytes left out here]",
        b"",
        b"3",
        b'{"time": 1e300}',
        b'{"trouble": "disks: why"}',
    ]
    assert tables.add(0, b"\n".join(lines) + b"\n" + sample()) == ["disks: why"]
    assert len(table(tmp_path, "node_resource_usage")) == 1


def test_secrets_are_taken_out_of_names(tmp_path):
    tables = UsageTables(LogFiles(tmp_path), lambda text: text.replace("s3cret", "***"))
    tables.add(
        0, sample(processes=[["s3cret", *range(8)]], disks=[["/mnt/s3cret", "", "", 1, 1, 1, 1]], ps="1 s3cret\n")
    )
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "s3cret" not in written
    assert written.count("***") == 3


HOSTILE = st.text(st.characters(codec=None), max_size=30)


@settings(max_examples=50)
@given(st.lists(st.tuples(HOSTILE, HOSTILE, HOSTILE), min_size=1, max_size=5), HOSTILE)
def test_whatever_things_are_called_there_is_a_row_for_each(names, ps):
    with TemporaryDirectory() as folder:
        tables = UsageTables(LogFiles(Path(folder)))
        disks = [[*name, 1, 2, 3, 4] for name in names]
        processes = [[name[0], *range(8)] for name in names]
        assert tables.add(0, sample(disks=disks, processes=processes, ps=ps)) == []
        rows = table(Path(folder), "node_disk_usage")
        assert [row["Used Percent"] for row in rows] == ["4"] * len(names)
        shown = {character for row in rows for text in row.values() for character in text}
        rows = table(Path(folder), "processes_resource_usage")
        assert [row["Disk Io Write (MB)"] for row in rows] == ["7"] * len(names)
        listed = "".join(path.read_text() for path in Path(folder).glob("perf/0/os/*/*"))
        shown |= {*listed} - {"\n", "\t"}
        assert not {character for character in shown if category(character) in ("Cc", "Cs")}
