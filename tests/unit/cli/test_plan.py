from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner

from prs_dask.cli import main

FLAGS = ["plan", "--entry-script", "score.py", "--input", "scans", "--output-action", "append_row"]


def test_it_shows_inputs_every_mini_batch_and_their_number(stage: Any) -> None:
    result = CliRunner().invoke(main, FLAGS)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("input 0: ")
    assert lines[0].endswith("scans (files): 3 files, 3 mini-batches")
    assert lines[1:] == [
        "1 file a mini-batch",
        "",
        "       0  scans/\\x1b[31m0.png",
        "       1  scans/\\x1b[31m1.png",
        "       2  scans/\\x1b[31m2.png",
        "3 mini-batches",
    ]
    assert not stage.submitted


def test_it_shows_the_first_ones_and_counts_the_rest(stage: Any) -> None:
    result = CliRunner().invoke(main, [*FLAGS, "--limit", "2"])
    assert result.stdout.splitlines()[-2:] == ["       …  and 1 more; --limit 0 shows all", "3 mini-batches"]
    assert "2.png" not in result.stdout
    assert "2.png" in CliRunner().invoke(main, [*FLAGS, "-n", "0"]).stdout


def test_what_was_not_listed_is_not_counted(stage: Any) -> None:
    result = CliRunner().invoke(main, [*FLAGS, "--limit", "1", "--count-seconds", "0"])
    assert "more that were not counted" in result.stdout
    assert "at least 1 file, 1 mini-batch" in result.stdout
    assert result.stdout.splitlines()[-1] == "at least 1 mini-batch"


def test_programs_get_json(stage: Any) -> None:
    result = CliRunner().invoke(main, [*FLAGS, "--json", "--limit", "1"])
    found = json.loads(result.stdout)
    assert (found["name"], found["complete"], found["mini_batches"]) == ("score", True, 3)
    assert found["first"] == [{"id": 0, "input": "0", "items": 1, "keys": {}, "detail": "scans/\x1b[31m0.png"}]
    assert found["inputs"][0]["files"] == 3


def test_wrong_settings_are_told_as_by_run(stage: Any) -> None:
    result = CliRunner().invoke(main, FLAGS[:3])
    assert result.exit_code == 2
    assert "--output-action: found nothing" in result.stderr
