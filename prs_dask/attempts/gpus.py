"""Which GPU a worker process gets: decided for each node over all of its workers, pure.

A GPU has as many *slots* as processes may share it. First each GPU gets one process, then each a second one; a process
beyond all slots gets none. A slot goes on like this::

    free ──take──▶ taken by a lane ──release──▶ free      (its process has ended, or its worker is lost)

What is free here may be *busy* on the node for a while: a process that was killed holds its GPU until the kernel has
taken it down. Then another slot is given, or the lane waits; it counts as having the slot meanwhile, so that only
processes beyond all slots start without a GPU.

A GPU has an *identity*, the same for all workers of its node, and for each of them an entry of ``CUDA_VISIBLE_DEVICES``
by which that one's processes find it: index 0 may be another GPU in each container, or in each job of Slurm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

__all__ = [
    "GPU_COUNT",
    "VISIBLE",
    "Gpu",
    "GpuShare",
    "Gpus",
    "Slot",
    "ToldGpus",
    "gpu_variables",
    "listed_gpus",
    "wished_gpus",
]

Lane: TypeAlias = tuple[str, int]
"""(worker address, lane index)."""

VISIBLE = "CUDA_VISIBLE_DEVICES"
GPU_COUNT = "AZ_BATCHAI_GPU_COUNT_FOUND"
"""Tells entry scripts how many GPUs their node has."""

_BY_NAME = ("GPU-", "MIG-")


class Gpu(NamedTuple):
    """``identity``: what it is on its node; ``visible``: what a process finds in ``CUDA_VISIBLE_DEVICES`` to use it."""

    identity: str
    visible: str


class Slot(NamedTuple):
    """The right of one process to use the GPU of this identity; the ``share``-th one to do so."""

    gpu: str
    share: int


@dataclass(frozen=True, slots=True)
class GpuShare:
    """What a process gets of its node's ``count`` GPUs: a slot, and how the GPU is ``visible`` to it, or none;
    ``wait``: not yet, ask again."""

    count: int = 0
    slot: Slot | None = None
    visible: str = ""
    wait: bool = False


class ToldGpus(NamedTuple):
    """What a worker tells of GPUs.

    Parameters
    ----------
    listed
        The entries of its ``CUDA_VISIBLE_DEVICES``; None: that is not set, and it may use all.
    devices
        The UUIDs of all that the driver lets it use, in the order of their indexes; None: the driver cannot be asked.
    instances
        The names of their MIG instances.
    """

    listed: tuple[str, ...] | None = None
    devices: tuple[str, ...] | None = None
    instances: tuple[str, ...] = ()

    def gpus(self, listed: Sequence[str] | None) -> tuple[Gpu, ...]:
        """Those of a list that are there, in its order; None: all.

        What the driver does not know by name is believed, and its name is its identity. Where one GPU is named twice,
        none is there, as with CUDA.
        """
        if listed is None:
            listed = [str(index) for index in range(len(self.devices or ()))]
        there = listed[: len(listed) - len(self.absent(listed))]
        found = {self._identity(entry): entry for entry in there}
        return tuple(Gpu(identity, entry) for identity, entry in found.items()) if len(found) == len(there) else ()

    def absent(self, listed: Sequence[str]) -> tuple[str, ...]:
        """What of a list is not there: the first index that is too large and, as with CUDA, all behind it."""
        if self.devices is None:
            return ()
        count = len(self.devices)
        first = next((place for place, entry in enumerate(listed) if _is_index(entry) and int(entry) >= count), None)
        return () if first is None else tuple(listed[first:])

    def _identity(self, entry: str) -> str:
        devices = self.devices or ()
        if _is_index(entry):
            return devices[int(entry)] if devices else entry
        named = [name for name in (*devices, *self.instances) if name.startswith(entry)]  # CUDA takes abbreviations
        return named[0] if len(named) == 1 else entry


def listed_gpus(text: str) -> tuple[str, ...]:
    """The GPUs that a value of ``CUDA_VISIBLE_DEVICES`` names, as CUDA reads it.

    Indexes, UUIDs and names of MIG instances. What is behind an entry that is none (``-1``), or one of another kind,
    is not there; where one is named twice, none is.

    Examples
    --------
    >>> listed_gpus("1, 0")
    ('1', '0')
    >>> listed_gpus("0,-1,1")
    ('0',)
    """
    found: list[str] = []
    kind = None
    for entry in map(str.strip, text.split(",")):
        kind_of_entry = next((prefix for prefix in _BY_NAME if entry.startswith(prefix)), "")
        is_index = _is_index(entry)
        if not (kind_of_entry or is_index) or kind not in (None, kind_of_entry):
            break
        kind = kind_of_entry
        found.append(str(int(entry)) if is_index else entry)
    return tuple(found) if len(set(found)) == len(found) else ()


def _is_index(entry: str) -> bool:
    return entry.isascii() and entry.isdecimal()


def wished_gpus(variables: Mapping[str, str]) -> tuple[str, ...] | None:
    """What a step's own variables let it use of any node; None where they say nothing of it."""
    listed = variables.get(VISIBLE)
    return None if listed is None else listed_gpus(listed)


def gpu_variables(share: GpuShare, environment: Mapping[str, str], surplus: str) -> dict[str, str]:
    """The environment of a worker process, with its GPU.

    Parameters
    ----------
    share
        What it has got.
    environment
        Everything else; what stands there of GPUs is what its Dask worker, or the step, may use in all.
    surplus
        ``"unset"`` or ``"hide"``: what a process without a GPU finds.
    """
    result = dict(environment)
    if not share.count:
        result.setdefault(GPU_COUNT, "0")
        return result
    result[GPU_COUNT] = str(share.count)
    result.pop(VISIBLE, None)
    if share.slot is not None:
        result[VISIBLE] = share.visible
    elif surplus == "hide":
        result[VISIBLE] = ""
    return result


class _Worker(NamedTuple):
    """``sees``: identities; ``uses``: by identity how each is visible; ``absent``: entries that its node has not."""

    node: int
    sees: tuple[str, ...]
    uses: Mapping[str, str]
    absent: tuple[str, ...]


class Gpus:
    """The GPUs of all nodes, and who has them.

    Parameters
    ----------
    per_gpu
        How many processes may share one.
    wished
        What the step run may use of any node, by its own words; None: all.

    Attributes
    ----------
    waiting
        Lanes that wait for a GPU which a process that was killed still holds.
    """

    def __init__(self, per_gpu: int = 1, wished: Sequence[str] | None = None) -> None:
        self.waiting: set[Lane] = set()
        self._per_gpu = per_gpu
        self._wished = wished
        self._workers: dict[str, _Worker] = {}
        self._nodes: dict[int, dict[str, _Worker]] = {}
        self._taken: dict[Lane, Slot] = {}
        self._turns: dict[int, list[str]] = {}

    def join(self, worker: str, node: int, told: ToldGpus, *, first_only: bool = False) -> None:
        """A worker has come.

        Parameters
        ----------
        first_only
            It was given the first of its list by whoever started it (dask-cuda), and the others are others'.
        """
        wished = self._wished
        listed = told.listed if wished is None or first_only else wished
        sees = uses = told.gpus(listed)
        if first_only:
            of_the_step = {gpu.identity for gpu in told.gpus(wished)}
            uses = tuple(gpu for gpu in sees[:1] if wished is None or gpu.identity in of_the_step)
        one = _Worker(node, tuple(gpu.identity for gpu in sees), dict(uses), told.absent(listed or ()))
        self._workers[worker] = self._nodes.setdefault(node, {})[worker] = one
        self._turns.pop(node, None)

    def absent(self, worker: str) -> tuple[str, ...]:
        """Entries of the list that holds for a worker, its own or the step's, for which its node has no GPU."""
        return self._workers[worker].absent

    def leave(self, worker: str) -> None:
        """A worker is gone, and its lanes with it."""
        gone = self._workers.pop(worker, None)
        if gone is not None:
            del self._nodes[gone.node][worker]
            self._turns.pop(gone.node, None)
        for lane in [lane for lane in (*self._taken, *self.waiting) if lane[0] == worker]:
            self.release(lane)

    def count(self, node: int) -> int:
        """How many GPUs the workers of a node see; one that several see counts once."""
        return len({gpu for worker in self._nodes.get(node, {}).values() for gpu in worker.sees})

    def slots(self, node: int) -> int:
        """How many processes of a node can have a GPU at a time."""
        return self._per_gpu * len({gpu for worker in self._nodes.get(node, {}).values() for gpu in worker.uses})

    def take(self, lane: Lane, busy: Container[Slot] = ()) -> GpuShare:
        """A slot for the next process of a lane; what it had before is free again.

        Parameters
        ----------
        busy
            Slots that somebody holds on the node, whatever is known of him here.
        """
        self.release(lane)
        worker = self._workers.get(lane[0])
        count = 0 if worker is None else self.count(worker.node)
        if worker is None or not count:
            return GpuShare()
        taken = {slot for other, slot in self._taken.items() if self._workers[other[0]].node == worker.node}
        slots = [Slot(gpu, share) for gpu in worker.uses for share in range(self._per_gpu)]
        free = [slot for slot in slots if slot not in taken]
        if len(free) <= self._waiting_for(worker):
            return GpuShare(count)
        ready = [slot for slot in free if slot not in busy]
        if not ready:
            self.waiting.add(lane)
            return GpuShare(count, wait=True)
        seen_by = Counter(gpu for other in self._nodes[worker.node].values() for gpu in other.uses)
        in_use = Counter(slot.gpu for slot in slots if slot in taken or slot in busy)
        # One that others see, too, is left for them where this worker has another; the sort keeps the list's order.
        slot = min(ready, key=lambda slot: (in_use[slot.gpu], seen_by[slot.gpu]))
        self._taken[lane] = slot
        return GpuShare(count, slot, worker.uses[slot.gpu])

    def _waiting_for(self, worker: _Worker) -> int:
        """How many lanes wait for a slot that this worker could use."""
        others = (self._workers[lane[0]] for lane in self.waiting)
        return sum(other.node == worker.node and not set(other.uses).isdisjoint(worker.uses) for other in others)

    def release(self, lane: Lane) -> None:
        """The lane's process has ended, or it waits no more."""
        self._taken.pop(lane, None)
        self.waiting.discard(lane)

    def in_turn(self, node: int, threads: Mapping[str, int]) -> list[str]:
        """Workers of a node in the order in which lanes go to them, as often as their processes can have a GPU.

        Those whose processes have one now come first: they keep it when others come.

        Parameters
        ----------
        threads
            By worker: how many lanes it can have.
        """
        if node not in self._turns:
            self._turns[node] = self._find_turns(node, threads)
        return self._turns[node]

    def _find_turns(self, node: int, threads: Mapping[str, int]) -> list[str]:
        order: list[str] = []
        given = Counter[str]()
        others_have_one = Gpus(self._per_gpu)
        others_have_one._workers, others_have_one._nodes = self._workers, self._nodes
        left, slots = list(threads), self.slots(node)
        for (worker, _), slot in self._taken.items():
            if worker in threads and given[worker] < threads[worker]:
                others_have_one._taken[worker, given[worker]] = slot
                given[worker] += 1
                order.append(worker)
        while left and len(order) < slots:
            worker = min(left, key=lambda worker: given[worker])
            if given[worker] < threads[worker] and others_have_one.take((worker, given[worker])).slot is not None:
                given[worker] += 1
                order.append(worker)
            else:
                left.remove(worker)
        return order
