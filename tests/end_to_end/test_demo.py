"""Both demos, as prs-dask demo runs them: real files, real processes, real answers."""

import csv
import re
from pathlib import Path

import pytest

from prs_dask import SettingsError

pytest.importorskip("sklearn")
pytest.importorskip("PIL")

from prs_dask.demo import run_demo


def accuracy(lines: list[str]) -> float:
    (line,) = (line for line in lines if line.startswith("accuracy"))
    match = re.match(r"accuracy: ([\d.]+)%", line)
    assert match
    return float(match[1])


def only_folder(folder: Path) -> Path:
    (home,) = folder.iterdir()
    return home


def test_the_digits_are_identified_each_once_and_the_demo_says_where_all_of_it_lies(tmp_path, no_leaks):
    lines: list[str] = []
    assert run_demo("digits", tmp_path, 2, lines.append) == 0
    home = only_folder(tmp_path)
    rows = (home / "answers" / "digits.txt").read_text().splitlines()
    assert sorted(row.split(": ")[0] for row in rows) == sorted(path.name for path in (home / "scans").iterdir())
    assert accuracy(lines) > 95
    assert f"output:   {home / 'answers' / 'digits.txt'}" in lines
    assert f"logs:     {home / 'run' / 'logs'}" in lines
    assert (home / "run" / "logs" / "job_result.txt").is_file()


def test_the_wines_are_scored_each_once_under_one_header(tmp_path, no_leaks):
    lines: list[str] = []
    assert run_demo("wine", tmp_path, 2, lines.append) == 0
    home = only_folder(tmp_path)
    with open(home / "answers" / "cultivars.csv", newline="") as file:
        answers = list(csv.reader(file))
    with open(home / "wines" / "wines.csv", newline="") as file:
        wines = [row["wine"] for row in csv.DictReader(file)]
    assert answers[0] == ["wine", "cultivar", "probability"]
    assert sorted(row[0] for row in answers[1:]) == sorted(wines)
    assert accuracy(lines) > 90


def test_a_demo_can_be_run_again_in_the_same_folder(tmp_path, no_leaks):
    assert run_demo("wine", tmp_path, 1, lambda line: None) == 0
    assert run_demo("wine", tmp_path, 1, lambda line: None) == 0
    assert len(list(tmp_path.iterdir())) == 2


def test_an_unknown_demo_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(SettingsError, match="found 'cats'; allowed: digits or wine"):
        run_demo("cats", tmp_path / "demo", None, lambda line: None)
    assert not (tmp_path / "demo").exists()
