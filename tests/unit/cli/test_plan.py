from __future__ import annotations

from typing import Any

from click.testing import CliRunner

from prs_dask.cli import main

FLAGS = ["plan", "--entry-script", "score.py", "--input", "scans", "--output-action", "append_row"]


def test_it_shows_every_mini_batch_and_their_number(stage: Any) -> None:
    result = CliRunner().invoke(main, FLAGS)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "     0  1 items  scans/\\x1b[31m0.png",
        "     1  1 items  scans/\\x1b[31m1.png",
        "     2  1 items  scans/\\x1b[31m2.png",
        "3 mini-batches",
    ]
    assert not stage.submitted


def test_it_shows_the_first_ones_and_says_that_there_are_more(stage: Any) -> None:
    result = CliRunner().invoke(main, [*FLAGS, "--limit", "2"])
    assert len(result.stdout.splitlines()) == 3
    assert "and more; --limit 0 shows all" in result.stdout
    assert "3 mini-batches" in CliRunner().invoke(main, [*FLAGS, "-n", "0"]).stdout


def test_wrong_settings_are_told_as_by_run(stage: Any) -> None:
    result = CliRunner().invoke(main, FLAGS[:3])
    assert result.exit_code == 2
    assert "--output-action: found nothing" in result.stderr
