"""Who is to blame when a whole worker is lost: behaviour, section 5.1.

A worker takes its lanes, their processes and the pages that say what those were doing with it. What is known is
what its last words said: a beat every two seconds tells what has begun, and a lane that runs a suspect tells so
before its process gets it. So the evidence is weighed:

- a worker that was taken away (scale-down, a restart) speaks against nobody, nor does one that went with its node;
- a worker that died while one single mini-batch had been handed to it, which had begun, speaks against that one;
- with several it speaks against all a little: each of them runs again, alone on a worker;
- silence has many causes: it counts only against one that ran alone because a worker was lost with it before;
- one that was under way on `NODES_LOST` nodes in turn is looked at as if those nodes were there.
"""

from __future__ import annotations

import enum

__all__ = ["NODES_LOST", "Blame", "Loss", "blame"]

NODES_LOST = 5
"""With so many nodes lost one after the other a mini-batch that was under way on all of them is no bystander."""


class Loss(enum.Enum):
    """How a worker was lost; the value is for people."""

    TAKEN_AWAY = "was taken away"
    GONE = "is gone"
    SILENT = "has been silent for too long"


class Blame(enum.Enum):
    """What a loss means for a mini-batch that was open on the worker."""

    NOBODY = enum.auto()
    SUSPECT = enum.auto()
    CHARGED = enum.auto()


def blame(
    loss: Loss, *, node_answers: bool, others: int, begun: bool, alone: bool = False, nodes_lost: int = 0
) -> Blame:
    """What the loss of a worker means for one of the mini-batches that were open on it.

    Parameters
    ----------
    node_answers
        Is the worker's node there without it?
    others
        How many more were open on the worker.
    begun
        Has the worker said that this one had begun?
    alone
        Did it run alone because a worker was lost with it before?
    nodes_lost
        How many nodes were lost while it was under way, this one included.
    """
    if loss is Loss.TAKEN_AWAY or not (node_answers or nodes_lost >= NODES_LOST):
        return Blame.NOBODY
    certain = begun and not others
    if not (node_answers and loss is Loss.GONE):
        certain = certain and alone
    return Blame.CHARGED if certain else Blame.SUSPECT
