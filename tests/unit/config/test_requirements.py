"""Requirements in all their forms."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from prs_dask import ParallelRunConfig, SettingsError
from prs_dask.config.requirements import parse_requirements

FILES = {
    "requirements.txt": "# comment\npandas >= 2 # newest\n\n--index-url https://x\nnumpy<3 \\\n  --hash=sha256:00\n",
    "requirements.yml": "pandas: '>=2'\nnumpy: <3\n",
    "list.yaml": "- pandas>=2\n- numpy<3\n",
    "conda.yml": "name: x\ndependencies:\n  - python=3.12\n  - pip:\n      - pandas>=2\n      - numpy<3\n",
}


def config(folder: Path, environment: Any) -> ParallelRunConfig:
    (folder / "score.py").write_text("def run(mini_batch): return mini_batch\n")
    return ParallelRunConfig(
        entry_script=folder / "score.py", error_threshold=0, output_action="append_row", environment=environment
    )


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_every_kind_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(FILES[name])
    made = config(tmp_path, tmp_path / name)
    assert made.requirements == ("pandas>=2", "numpy<3")
    assert made.file_faults() == []


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("requirements.txt", "pan das\n", "where 'pan das' is no requirement"),
        ("requirements.txt", "-r other.txt\n", "where '-r other.txt' names other files"),
        ("requirements.txt", "\xff", "utf-8"),
        ("conda.yml", "dependencies: [pandas]\n", "no pip list"),
        ("absent.txt", None, "No such file"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_before_anything_runs(
    tmp_path: Path, name: str, content: str | None, told: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content.encode("latin-1"))
    made = config(tmp_path, tmp_path / name)
    (fault,) = made.file_faults()
    assert fault.name == "environment"
    assert told in str(fault)
    with pytest.raises(SettingsError, match=told):
        made.requirements  # noqa: B018 - raises


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"pandas": "2.0"}, "where 'pandas 2.0' is no requirement: write '==2.0' for this version alone"),
        (["numpy", "pandas=2.0"], "where 'pandas=2.0' is no requirement: write '==2.0' for this version alone"),
        (["pandas = 2.*"], "where 'pandas = 2.*' is no requirement: write '==2.*' for this version alone"),
        (["pan das"], "where 'pan das' is no requirement"),
    ],
)
def test_a_version_without_comparison_is_refused_with_what_to_write(given: Any, told: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        parse_requirements(given)


@pytest.mark.parametrize("versions", [[1], ["parquet"], 2.0, 2, True, {}])
def test_versions_that_are_no_text_are_refused_with_what_to_write(versions: object) -> None:
    told = f"where {versions!r} of pandas is no text: write one such as '==2.0' or '>=2,<4', or None for any version"
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        parse_requirements({"pandas": versions})


@pytest.mark.parametrize("given", [[None], [True], {True: None}, {None: ">=2"}, {"dependencies": [{"pip": [None]}]}])
def test_what_is_no_text_is_no_package(given: Any) -> None:
    with pytest.raises(ValueError, match=r"^where (None|True) is no text$"):
        parse_requirements(given)


def test_what_may_hold_a_secret_or_is_not_checked_is_dropped() -> None:
    assert parse_requirements(["a @ git+https://token@host/a", "b[extra]>=1", "b[extra]>=1"]) == ("a", "b>=1")


def test_two_lines_of_one_package_stay_two() -> None:
    lines = ['numpy<2; python_version < "3.12"', 'numpy>=2; python_version >= "3.12"']
    assert parse_requirements(lines) == tuple(lines)


def test_nothing_is_wanted_where_nothing_is_told(tmp_path: Path) -> None:
    assert config(tmp_path, None).requirements == ()
