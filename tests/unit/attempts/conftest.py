"""A bench to drive a `Judge` by hand: it keeps time, permits and processes, and decides nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import pytest

from prs_dask.attempts.bisecting import PartlyDone
from prs_dask.attempts.chunks import MeanCost
from prs_dask.attempts.grants import Accepted, Answer, Grant
from prs_dask.attempts.init_rules import InitRules
from prs_dask.attempts.judge import Counts, Judge
from prs_dask.attempts.limits import RunLimits
from prs_dask.attempts.losses import Loss
from prs_dask.attempts.places import Places
from prs_dask.attempts.records import AttemptError, AttemptRecord, Category, pack, unpack

ITEMS = 10
TOLERANT = -1


class Bench:
    """A judge, its clock, and what the engine around it would remember."""

    def __init__(
        self,
        limits: RunLimits | None = None,
        *,
        processes_per_node: int | None = None,
        node_count: int | None = None,
        already: Counts | None = None,
        partly_done: Mapping[int, PartlyDone] | None = None,
    ) -> None:
        self.now = 1000.0
        self.limits = limits or RunLimits(error_threshold=TOLERANT)
        self.places = Places(processes_per_node, node_count)
        self.rules = InitRules(processes_per_node or 1, node_count or 1, self.now)
        self.judge = Judge(self.limits, self.places, self.rules, self.now, 1e9, already or Counts(), partly_done or {})
        self.held: dict[tuple[str, int], int] = {}
        self.processes: dict[tuple[str, int], str] = {}
        self.nodes: dict[str, str] = {}

    # what the engine does

    def join(self, address: str, threads: int = 1, node: str | None = None, ready: bool = True) -> None:
        """A worker comes, on a node of its own unless told, all its processes ready."""
        self.nodes[address] = node or address
        self.places.join(address, self.nodes[address], threads, self.now)
        if ready:
            for lane in range(threads):
                self.ready(address, lane)

    def ready(self, address: str, lane: int = 0) -> str:
        worker = self.places.workers[address]
        name = f"{worker.node}/{self.places.next_process(worker.node)}"
        self.processes[address, lane] = name
        self.judge.process_ready((address, lane), name, self.now)
        return name

    def begin(self, address: str) -> None:
        """Its next beat says that the first of what each of its lanes has is under way."""
        grants = [grant for (worker, _), grant in self.judge._by_lane.items() if worker == address]
        begun = [(grant.lane[1], next(iter(grant.open))) for grant in grants]
        assert self.judge.heard(address, self.now, begun)

    def lose(
        self, address: str, loss: Loss = Loss.GONE, *, begun: bool = True, node_there: bool = True
    ) -> tuple[Accepted | None, list[int]]:
        """A worker is lost; ``node_there``: with another one on its node that has just spoken."""
        if begun and address in self.places.workers:
            self.begin(address)
        neighbour = f"neighbour of {address}"
        if node_there:
            self.places.join(neighbour, self.nodes[address], 0, self.now)  # it has no lanes
        result = self.judge.worker_lost(address, self.now, loss)
        self.places.leave(neighbour)
        return result

    def supply(self, *numbers: int, items: int | None = ITEMS, total: int | None = None) -> None:
        self.judge.supply([(number, items, b"%d" % number) for number in numbers])
        if total is not None:
            self.judge.supply_ended(total)

    def permit(self, address: str, lane: int = 0) -> int | None:
        """The lane's permit; a fresh one where it has none and the judge issues one."""
        number = self.held.get((address, lane))
        if number in self.places.permits:
            return number
        self.judge.permits(self.now)
        worker = self.places.workers.get(address)
        free = [n for n in (worker.permits if worker else ()) if n not in self.held.values()]
        if free:
            self.held[address, lane] = free[0]
        return self.held.get((address, lane)) if free else None

    def claim(self, address: str, lane: int = 0, *, others_wait: bool = False) -> Answer:
        number = self.permit(address, lane)
        process = self.processes.get((address, lane), "none")
        answer = self.judge.claim(number or 0, (address, lane), process, self.now, others_wait=others_wait)
        if answer.grant is None and not answer.pause and number is not None:
            self.places.end(number)
        return answer

    def grant(self, address: str, lane: int = 0) -> Grant:
        grant = self.claim(address, lane).grant
        assert grant is not None, f"lane {lane} of {address} was given nothing"
        return grant

    def chunk(self, address: str, lane: int = 0) -> Grant:
        """A chunk of several: the mean says that mini-batches are quick."""
        self.judge.mean = MeanCost()
        self.judge.mean.add(1, 0.001, 10)
        grant = self.grant(address, lane)
        assert len(grant.open) > 1
        return grant

    def report(
        self,
        grant: Grant | int,
        records: Iterable[AttemptRecord] = (),
        *,
        rows: bytes | None = None,
        errors: Mapping[int, AttemptError] | None = None,
        pieced: Mapping[int, int] | None = None,
        headers: Mapping[int, bytes] | None = None,
        back: Iterable[int] = (),
        filed: Collection[int] = (),
    ) -> Accepted | None:
        records = list(records)
        if rows is None:
            rows = b"".join(self.rows_of(r.mini_batch) for r in records if not r.category)
        token = grant if isinstance(grant, int) else grant.token
        more = (errors or {}, pieced or {}, headers or {}, back, self.now, filed)
        return self.judge.report(token, pack(records), rows, *more)

    def succeed(self, grant: Grant, *numbers: int) -> Accepted | None:
        return self.report(grant, [self.success(number) for number in numbers or self.ids(grant)])

    def fail(
        self, grant: Grant, *numbers: int, category: Category = Category.EXCEPTION, error: str = "ValueError"
    ) -> Accepted | None:
        numbers = numbers or tuple(self.ids(grant))
        records = [self.failure(number, category=category) for number in numbers]
        return self.report(grant, records, errors={number: AttemptError(error, "no") for number in numbers})

    # what the engine would tell

    @staticmethod
    def ids(grant: Grant) -> list[int]:
        """What was granted, in order."""
        return [number for number, _, _ in grant.work]

    @staticmethod
    def rows_of(number: int) -> bytes:
        return b"row of %d\n" % number

    @staticmethod
    def success(
        number: int, *, items: int = ITEMS, results: int = ITEMS, elapsed: float = 10.0, length: int | None = None
    ):
        length = len(Bench.rows_of(number)) if length is None else length
        return AttemptRecord(number, 1, 0, 1, items, results, length, 0.0, elapsed, 0.0, elapsed, 0.0)

    @staticmethod
    def failure(number: int, *, category: Category = Category.EXCEPTION, items: int = ITEMS, elapsed: float = 10.0):
        return AttemptRecord(number, 1, category, 0, items, 0, 0, 0.0, elapsed, 0.0, elapsed, 0.0)

    @staticmethod
    def kept(accepted: Accepted | None) -> list[tuple[int, int, int]]:
        """(id, category, final) of what counts."""
        assert accepted is not None, "nothing was accepted"
        return [(record.mini_batch, record.category, record.final) for record in unpack(accepted.records)]


@pytest.fixture
def bench() -> type[Bench]:
    """Make a `Bench` with it."""
    return Bench
