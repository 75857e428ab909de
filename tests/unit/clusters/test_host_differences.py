"""What a host has other than this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from prs_dask.clusters import host_facts
from prs_dask.clusters.host_differences import Difference, as_table, differences

HERE = {"Python": "3.11.7", "platform": "Linux", "dask": "2026.8.0", "pandas": "3.1.1"}


def test_a_host_that_has_the_same_differs_in_nothing():
    assert differences("node1", HERE, HERE) == []


@pytest.mark.parametrize("same", [{"Python": "3.11.1"}, {"pandas": "3.0.2"}])
def test_later_parts_of_some_versions_may_differ(same):
    assert differences("node1", {**HERE, **same}, HERE) == []


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"Python": "3.12.7"}, ("node1", "Python", "3.12.7", "3.11")),
        ({"dask": "2026.8.1"}, ("node1", "dask", "2026.8.1", "2026.8.0")),
        ({"dask": None}, ("node1", "dask", "not installed", "2026.8.0")),
        ({"pandas": "2.3.3"}, ("node1", "pandas", "2.3.3", "3")),
        ({"platform": "Darwin"}, ("node1", "platform", "Darwin", "Linux")),
    ],
)
def test_what_differs_is_told(other, difference):
    assert differences("node1", {**HERE, **other}, HERE) == [Difference(*difference)]


def test_a_python_that_cannot_tell_of_packages_is_told_alone():
    assert [one.package for one in differences("node1", {"Python": "3.6.9", "platform": "Linux"}, HERE)] == ["Python"]


def test_the_table_has_a_line_for_each():
    lines = as_table([Difference("a", "dask", "1", "2"), Difference("longer", "prs-dask", "not installed", "1")])
    assert lines.splitlines() == [
        "host    package   found          wanted",
        "a       dask      1              2",
        "longer  prs-dask  not installed  1",
    ]


def test_another_python_tells_the_same_of_itself_from_the_text_alone(tmp_path):
    (tmp_path / "importlib.py").write_text("raise SystemExit('a module of the home folder')")
    text = Path(host_facts.__file__).read_text()
    said = subprocess.run([sys.executable, "-"], input=text, capture_output=True, text=True, cwd=tmp_path)
    assert json.loads(said.stdout) == {"prs-dask": host_facts.facts()}
