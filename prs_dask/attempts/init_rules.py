"""When failing imports and init() calls end a node's part, or the step run.

Behaviour, section 5.3: failures are counted, never looped, and a success of any process of a
node forgets that node's failures.

A process that somebody killed from outside on its way to readiness is no failure of the script, so such kills are
counted apart: one of them costs nothing, but a node where every process is killed is given up just as one where every
process fails. What the kernel kills because memory is short is a failure: the same would happen again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["InitRules", "StartPermission"]

NODE_FACTOR = 3
"""Rule 1: a node may fail so often for each of its processes, and see as many kills."""

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
    kills: int = 0
    not_before: float = 0.0

    def is_given_up(self, processes: int) -> bool:
        return max(self.failures, self.kills) >= NODE_FACTOR * processes


@dataclass(slots=True)
class InitRules:
    """Counts failures of import and init() by node.

    Parameters
    ----------
    processes_per_node
        How many worker processes a node has.
    nodes
        How many nodes the step run uses; None: those in use when it is asked.
    started
        When the step run began, seconds of the same clock as every ``now``.
    """

    processes_per_node: int
    nodes: int | None
    started: float
    failures_since_success: int = 0
    kills_since_success: int = 0
    first_error: str = ""
    _nodes: dict[int, _Node] = field(default_factory=dict)

    def _node(self, node: int) -> _Node:
        return self._nodes.setdefault(node, _Node())

    def may_start(self, node: int, now: float) -> StartPermission:
        """Rule 1, and a growing wait between tries of a failing node."""
        state = self._node(node)
        if state.is_given_up(self.processes_per_node):
            return StartPermission(allowed=False, refused=True)
        if now < state.not_before:
            return StartPermission(allowed=False, wait=state.not_before - now)
        return StartPermission(allowed=True)

    def succeeded(self, node: int) -> None:
        """A process of the node has finished init()."""
        self._nodes[node] = _Node()
        self.failures_since_success = self.kills_since_success = 0
        self.first_error = ""

    def failed(self, node: int, error: str, now: float, *, from_outside: bool = False) -> None:
        """A process of the node could not be started, imported or initialised; ``from_outside``: somebody killed it."""
        state = self._node(node)
        if from_outside:
            state.kills += 1
            self.kills_since_success += 1
        else:
            state.failures += 1
            if not self.failures_since_success:
                self.first_error = ""  # what was killed before says less than what fails
            self.failures_since_success += 1
        tries = state.failures + state.kills
        state.not_before = now + min(FIRST_BACKOFF * 2 ** min(tries - 1, 10), LONGEST_BACKOFF)
        self.first_error = self.first_error or error

    def verdict(self, nodes_in_use: set[int], now: float) -> str | None:
        """Why the step run cannot go on, or None (rules 1 for all nodes, and 2)."""
        if nodes_in_use and all(self.may_start(node, now).refused for node in nodes_in_use):
            return f"the entry script could not be loaded: {self._tries} and no node may start another process"
        budget = RUN_FACTOR * (self.nodes or len(nodes_in_use) or 1) * self.processes_per_node
        if now - self.started >= RUN_SECONDS and self.failures_since_success >= budget:
            seconds = f"{now - self.started:.0f} s"
            return f"the entry script could not be loaded: {self._tries} in {seconds} without a success"
        return None

    @property
    def _tries(self) -> str:
        failures, kills = self.failures_since_success, self.kills_since_success
        parts = [f"import or init() failed {failures} times"] if failures or not kills else []
        if kills:
            parts.append(f"the process was killed from outside {kills} times before it was ready")
        return " and ".join(parts) + ("," if len(parts) > 1 else "")
