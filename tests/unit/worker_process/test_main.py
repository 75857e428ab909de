"""The worker process's life, in real processes."""

from __future__ import annotations

NOOP = "def run(mini_batch):\n    return mini_batch\n"


def test_a_mini_batch_becomes_rows(start):
    child = start(NOOP).ready()
    outcome = child.run("a", "b")
    assert outcome.rows == b"a\nb\n"
    assert child.quit() == (0, None)
