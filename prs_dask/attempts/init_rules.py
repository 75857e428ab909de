"""When failing imports and init() calls end a node's part, or the step run.

Behaviour, section 5.3: failures are counted, never looped, and a success of any process of a
node forgets that node's failures.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["InitRules", "StartPermission"]

NODE_FACTOR = 3
"""Rule 1: a node may fail so often for each of its processes."""

RUN_FACTOR = 2
"""Rule 2: the whole step run may fail so often for each process, and for `RUN_SECONDS`."""

RUN_SECONDS = 120.0
FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 5.0


@dataclass(frozen=True, slots=True)
class StartPermission:
    """May a process be started? ``wait`` seconds before it is worth asking again."""

    allowed: bool
    wait: float = 0.0
    refused: bool = False


@dataclass(slots=True)
class _Node:
    failures: int = 0
    not_before: float = 0.0


@dataclass(slots=True)
class InitRules:
    """Counts failures of import and init() by node.

    Parameters
    ----------
    processes_per_node
        How many worker processes a node has.
    nodes
        How many nodes the step run uses.
    started
        When the step run began, seconds of the same clock as every ``now``.
    """

    processes_per_node: int
    nodes: int
    started: float
    failures_since_success: int = 0
    first_error: str = ""
    _nodes: dict[int, _Node] = field(default_factory=dict)

    def _node(self, node: int) -> _Node:
        return self._nodes.setdefault(node, _Node())

    def may_start(self, node: int, now: float) -> StartPermission:
        """Rule 1, and a growing wait between tries of a failing node."""
        state = self._node(node)
        if state.failures >= NODE_FACTOR * self.processes_per_node:
            return StartPermission(allowed=False, refused=True)
        if now < state.not_before:
            return StartPermission(allowed=False, wait=state.not_before - now)
        return StartPermission(allowed=True)

    def succeeded(self, node: int) -> None:
        """A process of the node has finished init()."""
        state = self._node(node)
        state.failures = 0
        state.not_before = 0.0
        self.failures_since_success = 0

    def failed(self, node: int, error: str, now: float) -> None:
        """A process of the node could not be started, imported or initialised."""
        state = self._node(node)
        state.failures += 1
        state.not_before = now + min(FIRST_BACKOFF * 2 ** min(state.failures - 1, 10), LONGEST_BACKOFF)
        self.failures_since_success += 1
        self.first_error = self.first_error or error

    def verdict(self, nodes_in_use: set[int], now: float) -> str | None:
        """Why the step run cannot go on, or None (rules 1 for all nodes, and 2)."""
        if nodes_in_use and all(self.may_start(node, now).refused for node in nodes_in_use):
            return (
                "the entry script could not be loaded: import or init() failed "
                f"{self.failures_since_success} times and no node may start another process"
            )
        budget = RUN_FACTOR * self.nodes * self.processes_per_node
        if now - self.started >= RUN_SECONDS and self.failures_since_success >= budget:
            return (
                f"the entry script could not be loaded: import or init() failed {self.failures_since_success} times "
                f"in {now - self.started:.0f} s without a success"
            )
        return None
