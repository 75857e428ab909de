"""Where attempts can run: nodes, their workers, the lanes of each, and the permits for them.

A *lane* is a worker's slot for one worker process. A *permit* is a Dask task, restricted to one
worker, that lets one lane of it work, for a slice of time where others wait. Permits are issued for what there is
to do, never for more lanes than a node may have, plus one spare where every thread of a worker
is a lane: it waits behind the running one, so that no time passes between two slices.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Container, Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from prs_dask.attempts.gpus import Gpus, ToldGpus

__all__ = ["SLICE_SECONDS", "Permit", "Places", "Worker"]

SLICE_SECONDS = 1.0
"""After so long a lane returns its thread to Dask where somebody waits for it."""

LONG_SLICE_SECONDS = 5.0
"""The same for a lane whose next files are fetched meanwhile."""

HEARD_LATELY_SECONDS = 5.0
"""A worker that has spoken within this time is there, and its node with it."""

_NONE: Mapping[str, int] = {}
_NO_GPUS = ToldGpus()


@dataclass(slots=True)
class Permit:
    """The right of one Dask task to work on ``worker``."""

    number: int
    worker: str
    began: float | None = None
    working: bool = False


@dataclass(slots=True)
class Worker:
    """A Dask worker as far as this step run uses it; ``heard`` is when it last spoke, ``prepared`` whether it has what
    its processes need: before that it gets no permits."""

    address: str
    node: int
    threads: int
    lanes: int
    heard: float
    prepared: bool = True
    permits: dict[int, Permit] = field(default_factory=dict)

    @property
    def most_permits(self) -> int:
        """One for each lane, and a spare one where every thread is a lane."""
        return self.lanes + (0 < self.lanes == self.threads)


@dataclass(slots=True)
class _Node:
    number: int
    workers: dict[str, Worker] = field(default_factory=dict)
    next_process: int = 0


class Places:
    """Nodes in order of arrival, their workers, and how many lanes each may have.

    Parameters
    ----------
    processes_per_node
        Most lanes of a node; None: as many as its processes can have GPUs, without any all threads of its workers.
    node_count
        Most nodes that are used; None: all. A further node steps in when a used one is empty.
    first_process
        By node: the first process number that is still free, when a step run is resumed.
    home
        Key of the node where all this is decided (the scheduler's): it is there.
    gpus
        Knows which GPUs the workers have; made anew where it is not given.

    Attributes
    ----------
    lanes
        Lanes of all workers.
    enough
        So many workers are all that can be used, for another one had come and got no lane; None where nobody knows.
    """

    def __init__(
        self,
        processes_per_node: int | None = None,
        node_count: int | None = None,
        first_process: dict[int, int] | None = None,
        home: Hashable = None,
        gpus: Gpus | None = None,
    ) -> None:
        self.gpus = gpus or Gpus()
        self.processes_per_node = processes_per_node
        self.node_count = node_count
        self.workers: dict[str, Worker] = {}
        self.permits: dict[int, Permit] = {}
        self.lanes = self._most_permits = 0
        self.enough: int | None = None
        self._crowded = False
        self._home = home
        self._nodes: dict[Hashable, _Node] = {}
        self._first_process = dict(first_process or {})
        self._last_permit = 0

    @property
    def is_full(self) -> bool:
        """Is there a permit for every lane, and every spare one? A quick look, that misses some who are full."""
        if self._crowded:  # a worker that had more lanes before holds permits that count for no other
            self._crowded = any(len(worker.permits) > worker.most_permits for worker in self.workers.values())
        return not self._crowded and len(self.permits) >= self._most_permits

    @property
    def nodes_in_use(self) -> set[int]:
        """Numbers of the nodes that have a lane."""
        return {worker.node for worker in self.workers.values() if worker.lanes}

    @property
    def unused_nodes(self) -> int:
        """How many nodes have workers and no lane: more than node_count are there."""
        return len({worker.node for worker in self.workers.values()} - self.nodes_in_use)

    @property
    def most_lanes_of_a_node(self) -> int:
        """Lanes of the node that has most of them."""
        by_node = Counter[int]()
        for worker in self.workers.values():
            by_node[worker.node] += worker.lanes
        return max(by_node.values(), default=0)

    def join(
        self,
        address: str,
        node_key: Hashable,
        threads: int,
        now: float,
        gpus: ToldGpus = _NO_GPUS,
        *,
        first_gpu_only: bool = False,
        prepared: bool = True,
    ) -> Worker:
        """A worker has come, and tells this of GPUs; the value is shared and changes as others come and go."""
        known = self.workers.get(address)
        if known is not None:
            known.heard = now
            return known
        node = self._nodes.get(node_key)
        if node is None:
            number = len(self._nodes)
            node = self._nodes[node_key] = _Node(number, next_process=self._first_process.get(number, 0))
        worker = node.workers[address] = Worker(address, node.number, threads, 0, now, prepared)
        self.workers[address] = worker
        self.gpus.join(address, node.number, gpus, first_only=first_gpu_only)
        self._allot()
        return worker

    def prepared(self, address: str) -> Worker | None:
        """A worker has what its processes need; None where it is gone."""
        worker = self.workers.get(address)
        if worker is not None:
            worker.prepared = True
        return worker

    def leave(self, address: str) -> list[int]:
        """A worker is gone; returns the numbers of its permits, which are void."""
        worker = self.workers.pop(address, None)
        if worker is None:
            return []
        for node in self._nodes.values():
            node.workers.pop(address, None)
        self.gpus.leave(address)
        self._allot()
        for number in worker.permits:
            del self.permits[number]
        return list(worker.permits)

    def why_unused(self, worker: Worker) -> str:
        """Why a worker has no lane, in words; empty where it has one."""
        if worker.lanes:
            return ""
        if worker.node not in self.nodes_in_use:
            return f"node_count is {self.node_count}, and other nodes were there before"
        if self.processes_per_node is None:
            return "its node has a process for each of its GPUs"
        return f"its node has all its processes (process_count_per_node is {self.processes_per_node})"

    def next_process(self, node: int) -> int:
        """A process number of the node that was never used before."""
        state = next(state for state in self._nodes.values() if state.number == node)
        state.next_process += 1
        return state.next_process - 1

    def process_numbers(self) -> dict[int, int]:
        """By node: the first process number that is still free."""
        return self._first_process | {node.number: node.next_process for node in self._nodes.values()}

    def others_on_node(self, address: str) -> bool:
        """Has the node of this worker another worker?"""
        node = self.workers[address].node
        return any(other.node == node for name, other in self.workers.items() if name != address)

    def node_answers(self, address: str, now: float) -> bool:
        """Is the node of this worker there, whatever has become of the worker?

        It is where the scheduler runs on it, or another of its workers has spoken lately.
        """
        worker = self.workers.get(address)
        if worker is None:
            return False
        home = self._nodes.get(self._home)
        if home is not None and home.number == worker.node:
            return True
        return any(
            other is not worker and other.node == worker.node and now - other.heard < HEARD_LATELY_SECONDS
            for other in self.workers.values()
        )

    def _allot(self) -> None:
        """Give lanes to workers: nodes in order of arrival, threads in turn among its workers, first to those that
        have a GPU for them."""
        nodes_left = self.node_count
        for node in self._nodes.values():
            usable = bool(node.workers) and (nodes_left is None or nodes_left > 0)
            if usable and nodes_left is not None:
                nodes_left -= 1
            for worker in node.workers.values():
                worker.lanes = 0
            if usable:
                self._allot_node(node)
        used = sum(worker.lanes > 0 for worker in self.workers.values())
        if used < len(self.workers):
            self.enough = used
        elif self.enough is not None and used < self.enough:
            self.enough = None
        self.lanes = sum(worker.lanes for worker in self.workers.values())
        self._most_permits = sum(worker.most_permits for worker in self.workers.values())
        self._crowded = True

    def _allot_node(self, node: _Node) -> None:
        workers = list(node.workers.values())
        with_gpu = self.gpus.in_turn(node.number, {worker.address: worker.threads for worker in workers})
        left = self.processes_per_node
        if left is None:
            left = len(with_gpu) or sum(worker.threads for worker in workers)
        for address in with_gpu[:left]:
            node.workers[address].lanes += 1
            left -= 1
        while left and any(worker.lanes < worker.threads for worker in workers):
            for worker in sorted(workers, key=lambda worker: worker.lanes):
                if left and worker.lanes < worker.threads:
                    worker.lanes += 1
                    left -= 1

    def issue(
        self,
        chunks: int,
        last: Iterable[str] = (),
        *,
        ready: Mapping[str, int] = _NONE,
        starting: Mapping[str, int] = _NONE,
        closed: Container[int] = (),
        barred: Container[str] = (),
    ) -> list[Permit]:
        """New permits for so many chunks that wait.

        A permit that waits for a lane to end its work takes none of them, and one whose lane
        starts a process not as long as another lane is ready and idle.

        Parameters
        ----------
        last
            Workers that are taken last.
        ready, starting
            By worker: processes that are ready, and that are being started.
        closed
            Nodes that may start no further process: only their ready lanes get permits.
        barred
            Workers that get none.
        """
        spare = chunks > self.lanes
        unpopular = set(last)
        need = need_ready = chunks
        idle: dict[str, int] = {}
        rooms: dict[str, int] = {}
        for worker in self.workers.values():
            held = len(worker.permits)
            working = sum(permit.working for permit in worker.permits.values())
            begins = min(starting.get(worker.address, 0), held - working)
            taking = min(held - working, max(0, worker.lanes - working))
            need -= taking
            need_ready -= max(0, taking - begins)
            most = worker.lanes
            if worker.node in closed:
                most = min(most, ready.get(worker.address, 0))
            elif spare:
                most = worker.most_permits
            usable = worker.lanes and worker.prepared and worker.address not in barred
            rooms[worker.address] = most - held if usable else 0
            idle[worker.address] = min(ready.get(worker.address, 0), worker.lanes) - (held - begins)

        def share(worker: Worker) -> tuple[bool, float]:
            return worker.address in unpopular, len(worker.permits) / worker.lanes

        issued: list[Permit] = []
        line = [
            (*share(worker), place, worker)
            for place, worker in enumerate(self.workers.values())
            if rooms[worker.address] > 0
        ]
        heapq.heapify(line)
        while line and (need > 0 or need_ready > 0):
            *_, place, worker = heapq.heappop(line)
            if need <= 0 and idle[worker.address] <= 0:
                continue
            self._last_permit += 1
            permit = Permit(self._last_permit, worker.address)
            worker.permits[permit.number] = self.permits[permit.number] = permit
            issued.append(permit)
            rooms[worker.address] -= 1
            idle[worker.address] -= 1
            need -= 1
            need_ready -= 1
            if rooms[worker.address] > 0:
                heapq.heappush(line, (*share(worker), place, worker))
        return issued

    def end(self, number: int) -> None:
        """A permit has been used up, or its task is gone."""
        permit = self.permits.pop(number, None)
        if permit is not None:
            del self.workers[permit.worker].permits[number]

    def slice_is_over(self, permit: Permit, now: float, *, others_wait: bool, long: bool = False) -> bool:
        """Must this permit return its thread? Only to others' tasks, or where the worker has fewer lanes by now.

        ``long``: for a lane whose next files are fetched while it works, which a return interrupts.
        """
        if permit.began is None or now - permit.began < (LONG_SLICE_SECONDS if long else SLICE_SECONDS):
            return False
        worker = self.workers[permit.worker]
        return others_wait or len(worker.permits) > worker.most_permits
