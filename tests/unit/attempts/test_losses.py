"""Who is to blame for a lost worker, as a table."""

from __future__ import annotations

import itertools

import pytest

from prs_dask.attempts.losses import NODES_LOST, Blame, Loss, blame

ALL = [
    {"node_answers": node, "others": others, "begun": begun, "alone": alone, "nodes_lost": nodes}
    for node, others, begun, alone, nodes in itertools.product(
        (True, False), (0, 3), (True, False), (True, False), (0, 1, NODES_LOST - 1, NODES_LOST, NODES_LOST + 3)
    )
]


@pytest.mark.parametrize("case", ALL, ids=str)
def test_a_worker_that_was_taken_away_speaks_against_nobody(case):
    assert blame(Loss.TAKEN_AWAY, **case) is Blame.NOBODY


@pytest.mark.parametrize("loss", [Loss.GONE, Loss.SILENT])
@pytest.mark.parametrize("case", ALL, ids=str)
def test_charged_is_only_what_had_begun_and_was_the_only_one(case, loss):
    if blame(loss, **case) is Blame.CHARGED:
        assert case["begun"]
        assert not case["others"]


@pytest.mark.parametrize(
    ("loss", "case", "sentence"),
    [
        (Loss.GONE, {"begun": True}, Blame.CHARGED),
        (Loss.GONE, {"begun": False}, Blame.SUSPECT),
        (Loss.GONE, {"begun": False, "alone": True}, Blame.SUSPECT),
        (Loss.GONE, {"begun": True, "others": 1}, Blame.SUSPECT),
        (Loss.GONE, {"begun": True, "node_answers": False}, Blame.NOBODY),
        (Loss.GONE, {"begun": True, "node_answers": False, "alone": True}, Blame.NOBODY),
        (Loss.GONE, {"begun": True, "node_answers": False, "nodes_lost": NODES_LOST}, Blame.SUSPECT),
        (Loss.GONE, {"begun": True, "node_answers": False, "nodes_lost": NODES_LOST, "alone": True}, Blame.CHARGED),
        (Loss.SILENT, {"begun": True}, Blame.SUSPECT),
        (Loss.SILENT, {"begun": True, "alone": True}, Blame.CHARGED),
        (Loss.SILENT, {"begun": False, "alone": True}, Blame.SUSPECT),
        (Loss.SILENT, {"begun": True, "alone": True, "node_answers": False}, Blame.NOBODY),
    ],
)
def test_the_evidence_is_weighed(loss, case, sentence):
    assert blame(loss, **{"node_answers": True, "others": 0, **case}) is sentence
