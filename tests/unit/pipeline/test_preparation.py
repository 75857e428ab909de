"""A checked step as values: defaults are filled in as behaviour, section 5.2, says."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from prs_dask import FileDataset, ParallelRunConfig, SettingsError
from prs_dask.config import split_arguments
from prs_dask.pipeline.preparation import prepare, run_limits


@pytest.fixture
def make(tmp_path):
    script = tmp_path / "score.py"
    script.write_text("def run(mini_batch): return mini_batch\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").touch()

    def make(**settings):
        return ParallelRunConfig(
            **{"entry_script": str(script), "error_threshold": 0, "output_action": "append_row", **settings}
        ).resolve()

    return make


def options(*arguments):
    return split_arguments(list(arguments))[0]


def test_limits_that_are_not_given_follow_from_the_others(make):
    limits = run_limits(make(run_invocation_timeout=20, run_max_try=2), options())
    assert (limits.run_seconds, limits.overhead_seconds) == (20, 30)
    assert limits.init_seconds == 3 * 20 + 30
    assert limits.progress_seconds == 2 * (20 + 30)


def test_limits_that_are_given_are_taken(make):
    given = options("--task_overhead_timeout", "5", "--progress_update_timeout", "77", "--init_timeout", "8")
    limits = run_limits(make(), given)
    assert (limits.overhead_seconds, limits.progress_seconds, limits.init_seconds) == (5, 77, 8)


@pytest.mark.parametrize(("backoff", "expected"), [(0, (0, 1.0, 0)), (2.5, (2.5, 1.0, 2.5)), ((1, 2, 8), (1, 2, 8))])
def test_one_number_of_backoff_is_always_that_long(make, backoff, expected):
    assert run_limits(make(retry_backoff=backoff), options()).retry_backoff == expected


def test_a_script_travels_as_source_and_an_object_as_bytes(make, tmp_path):
    data = [FileDataset.from_files(tmp_path / "data")]
    by_path = prepare(make(), options(), data)
    assert by_path.source is not None
    assert by_path.script_object is None
    by_object = prepare(make(entry_script=SimpleNamespace(run=len)), options(), data)
    assert by_object.source is None
    assert by_object.script_object


def test_with_summary_only_there_are_no_rows(make, tmp_path):
    prepared = prepare(make(output_action="summary_only"), options(), [FileDataset.from_files(tmp_path / "data")])
    assert prepared.rows is None


def test_inputs_are_called_by_their_names_or_numbers(make, tmp_path):
    data = FileDataset.from_files(tmp_path / "data")
    assert prepare(make(), options(), [data, data.as_named_input("pictures")]).input_names == ("0", "pictures")


def test_an_input_that_is_missing_is_told_before_anything_starts(make, tmp_path):
    with pytest.raises(SettingsError, match="nothing-here"):
        prepare(make(), options(), [FileDataset.from_files(tmp_path / "nothing-here")])
