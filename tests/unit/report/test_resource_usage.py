"""What nodes used, from whatever stands in their files."""

import math

import numpy as np
import pytest

from prs_dask.logs.usage_tables import node_columns
from prs_dask.report.resource_usage import MOST_POINTS, read_usage

HEADER = ",".join(node_columns(0))


def write(folder, node, lines, header=HEADER):
    path = folder / str(node) / "node_resource_usage.csv"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def line(second, cpu=50.0, disk=0.0, more=""):
    return f"2026-01-01T00:{second // 60:02d}:{second % 60:02d}Z,{cpu},16000,8000,8000,50.5,1,1,{disk},0,0,0,1,1{more}"


def test_shares_and_rates_of_each_node(tmp_path):
    write(tmp_path, 10, [line(0, 10), line(10, 30, disk=50), line(20, 20, disk=20)])
    write(tmp_path, 2, [line(0)])
    two, ten = read_usage(tmp_path)
    assert (two.node, ten.node, ten.samples) == ("2", "10", 3)
    assert list(ten.times) == [1_767_225_600.0, 1_767_225_610.0, 1_767_225_620.0]
    assert list(ten.shares["CPU"]) == [10, 30, 20]
    assert list(ten.shares["memory"]) == [50.5] * 3
    assert list(ten.rates["disk read"]) == [5, 5, 0]  # its counter began anew
    assert ten.memory == 16000


def test_gpus_are_shown_where_there_are_some(tmp_path):
    write(tmp_path, 0, [line(0, more=",75,4000,80000,5.0"), line(5, more=",,,,")], ",".join(node_columns(1)))
    [usage] = read_usage(tmp_path)
    assert set(usage.shares) == {"CPU", "memory", "GPU 0 Percent", "GPU 0 Memory Used Percent"}
    assert [shares[0] for shares in usage.shares.values()] == [50, 50.5, 75, 5]
    assert math.isnan(usage.shares["GPU 0 Percent"][1])


def test_torn_and_odd_lines_are_passed_over(tmp_path):
    path = write(tmp_path, 0, [line(0), "yesterday,1,2", "", line(5)[:30], line(0), line(9)])
    path.write_text(path.read_text() + "2026-01-01T00:00:1")
    [usage] = read_usage(tmp_path)
    assert [at - 1_767_225_600 for at in usage.times] == [0, 5, 9]
    assert math.isnan(usage.shares["memory"][1])


def test_long_files_are_thinned(tmp_path):
    write(tmp_path, 0, [line(second % 3600, cpu=second % 100) for second in range(3600)])
    [usage] = read_usage(tmp_path)
    assert usage.samples == 3600
    assert len(usage.times) == len(usage.shares["CPU"]) == MOST_POINTS
    assert np.mean(usage.shares["CPU"]) == pytest.approx(49.5)


@pytest.mark.parametrize("content", ["", HEADER + "\n", "\0\0\0", "a,b\n1,2\n"])
def test_a_file_that_says_nothing_is_left_out(tmp_path, content):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "node_resource_usage.csv").write_text(content)
    assert read_usage(tmp_path) == []
    assert read_usage(tmp_path / "none") == []
