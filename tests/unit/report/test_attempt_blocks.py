"""The table read in blocks says what the table read row by row says, torn lines and all."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.attempts.records import AttemptError, AttemptRecord, Category, pack
from prs_dask.logs.attempt_reader import iter_attempts
from prs_dask.logs.attempt_table import HEADER, format_attempts
from prs_dask.report.attempt_blocks import AttemptBlocks

BEGUN = 1_767_225_600.0
TEXT = st.text(max_size=30)
ATTEMPTS = st.lists(
    st.tuples(
        st.integers(-1, 3),
        st.integers(0, 2000),
        st.integers(0, 10**6),
        st.sampled_from([0, 0, 1, 3, 7, 9]),
        st.integers(0, 1),
        st.floats(0, 1000, width=32),
        TEXT,
        TEXT,
    ),
    max_size=12,
)


def table(attempts: list[tuple[int, int, int, int, int, float, str, str]]) -> bytes:
    rows = [HEADER]
    for node, process, number, category, final, seconds, message, detail in attempts:
        final = 0 if category == Category.OVERTAKEN else final
        record = AttemptRecord(
            number, 1, category, final, 5, 4, 0, BEGUN + seconds, seconds, seconds / 4, seconds, seconds / 2
        )
        errors = {number: AttemptError("ValueError", message)} if category else {}
        rows.append(format_attempts(node, process, pack([record]), {number: detail}, errors))
    return b"".join(rows)


def check_against_rows(path: Path, block_bytes: int, *, resumed: bool = False) -> AttemptBlocks:
    blocks = AttemptBlocks(path, block_bytes, resumed)
    rows = list(iter_attempts(path, resumed=resumed))
    at = 0
    for block in blocks:
        for here, record in enumerate(block.records):
            row = rows[at + here]
            assert (block.nodes[here], block.processes[here]) == (row.node, row.process)
            assert bool(record["category"]) == bool(row.record.category)
            for name in ("attempt", "items", "results"):
                assert record[name] == getattr(row.record, name)
            if row.record.category:
                assert (record["category"], record["final"]) == (row.record.category, row.record.final)
                assert block.texts("Error Message", here) == row.message
            assert block.texts("Mini-batch Id", here) == row.name
            assert block.texts("Mini-batch Detail", here) == row.detail
            for name in ("started", "elapsed", "read", "run", "cpu"):
                assert record[name] == pytest.approx(getattr(row.record, name), abs=1e-3, rel=1e-6)
        at += len(block.records)
    assert at == len(rows)
    return blocks


@given(ATTEMPTS, st.sampled_from([64, 300, 1 << 20]))
def test_blocks_are_the_rows(tmp_path_factory, attempts, block_bytes):
    path = tmp_path_factory.mktemp("table") / "table.csv"
    path.write_bytes(table(attempts))
    assert check_against_rows(path, block_bytes).unreadable == 0


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 1]), st.integers(0, 1), TEXT), max_size=20),
    st.sampled_from([64, 300, 1 << 20]),
)
def test_of_a_resumed_step_run_too(tmp_path_factory, attempts, block_bytes):
    path = tmp_path_factory.mktemp("table") / "table.csv"
    path.write_bytes(
        table(
            [
                (0, 1, number, category, final, 1.0, f"{text},Failed,", text)
                for number, category, final, text in attempts
            ]
        )
    )
    check_against_rows(path, block_bytes, resumed=True)


def test_a_last_line_that_is_under_way_is_left_out(tmp_path):
    path = tmp_path / "table.csv"
    whole = table([(0, 1, 7, 0, 1, 1.0, "", "a"), (0, 1, 8, 1, 1, 1.0, 'no "x", no', "b")])
    for length in range(len(whole) - 60, len(whole)):
        path.write_bytes(whole[:length])
        assert sum(len(block.records) for block in AttemptBlocks(path)) == 1


@pytest.mark.parametrize(
    "torn",
    [
        b"7,1,0/process000,2026-01-01T00:\n",
        b'7,1,0/process000,2026-01-01T00:00:01.000Z,5,0,5,1.0,1.0,1.0,Failed,exception,"torn\n',
        b"seven,1,0/process000,yesterday,5,5,0,1.0,1.0,1.0,Succeeded,,,\n",
        b"\n",
        b"\xff\xfe,\0\n",
        b"7,-1,0/process000,2026-01-01T00:00:01.000Z,5,5,0,1.0,1.0,1.0,Succeeded,,,\n",
    ],
)
def test_a_torn_line_costs_itself_only(tmp_path, torn):
    good = table([(0, 1, number, 0, 1, 1.0, "", "a,b") for number in range(20)])
    head, _, tail = good.partition(b"\n5,")
    path = tmp_path / "table.csv"
    path.write_bytes(head + b"\n" + torn + b"5," + tail)
    blocks = AttemptBlocks(path)
    names = [block.texts("Mini-batch Id", at) for block in blocks for at in range(len(block.records))]
    assert names == [str(number) for number in range(20)]
    assert blocks.unreadable == (0 if torn == b"\n" else 1)


def test_columns_go_by_name(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(
        "Mini-batch Id,Process Start Time,Read Seconds,New Column,Process\n"
        "7[3:5],2026-01-01T00:00:01.500Z,0.25,what,1/process012\n"
    )
    [block] = AttemptBlocks(path)
    assert block.records["read"] == [np.float32(0.25)]
    assert block.records["started"] == [BEGUN + 1.5]
    assert (block.nodes[0], block.processes[0], block.texts("Mini-batch Id", 0)) == (1, 12, "7[3:5]")
    assert block.texts("Mini-batch Detail", 0) == ""


def test_no_table_has_no_blocks(tmp_path):
    assert list(AttemptBlocks(tmp_path / "none.csv")) == []


def test_garbage_never_raises(tmp_path):
    rng = random.Random(1)
    path = tmp_path / "table.csv"
    good = table([(0, 1, number, 1, 1, 1.0, "a,b", "c") for number in range(9)])
    for _ in range(200):
        data = bytearray(good)
        for _ in range(3):
            data[rng.randrange(len(HEADER), len(data))] = rng.randrange(256)
        path.write_bytes(data)
        assert sum(len(block.records) for block in AttemptBlocks(path)) >= 4
