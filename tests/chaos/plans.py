"""From a seed to a plan: what is run where, and what goes wrong when. Pure: the same seed, the same plan.

A job is short (its mini-batches take some seconds on two lanes), so that hundreds can be played.
What a plan may hold and may not (a cluster without nannies does not lose its last worker for good)
is settled here, so that the oracle knows how each job has to end.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tests.chaos.workload import HARMS, Poison, Workload

__all__ = ["FAULTS", "OF_DISKS", "Fault", "FaultKind", "Plan", "Settings", "draw", "from_json", "to_json"]


@dataclass(frozen=True, slots=True)
class FaultKind:
    """What is known of a kind of fault.

    Parameters
    ----------
    clusters
        Where it can be done: ``local``, ``nannies``, ``bare``.
    ends
        It ends the driver's run, which has to be resumed.
    loses
        Workers without a nanny that are gone for good afterwards.
    charges
        Categories of the attempts that it may cost innocent mini-batches, each one attempt.
    once
        At most one of a plan, because it takes long or because a second one would mean nothing.
    """

    clusters: frozenset[str]
    ends: bool = False
    loses: int = 0
    charges: tuple[str, ...] = ()
    once: bool = False


_ALL = frozenset({"local", "nannies", "bare"})
_ATTACHED = frozenset({"nannies", "bare"})
_NANNIES = frozenset({"nannies"})

FAULTS: Mapping[str, FaultKind] = MappingProxyType(
    {
        "kill_child": FaultKind(_ALL, charges=("process died",)),
        "term_child": FaultKind(_ALL, charges=("process died",)),
        "stop_child": FaultKind(_ALL, charges=("time limit",)),
        "kill_worker": FaultKind(_ALL, loses=1, charges=("worker lost",)),
        "term_worker": FaultKind(_ALL, loses=1, charges=("worker lost",)),
        "stop_worker": FaultKind(_ALL),
        "kill_nanny": FaultKind(_NANNIES, loses=1, charges=("worker lost",)),
        "term_nanny": FaultKind(_NANNIES, loses=1, charges=("worker lost",)),
        "stop_nanny": FaultKind(_NANNIES),
        "kill_scheduler": FaultKind(_ATTACHED, ends=True),
        "term_scheduler": FaultKind(_ATTACHED, ends=True),
        "stop_scheduler": FaultKind(_ATTACHED),
        "kill_driver": FaultKind(_ALL, ends=True),
        "term_driver": FaultKind(_ALL, ends=True),
        "stop_driver": FaultKind(_ALL),
        "full_disk": FaultKind(_ALL, ends=True, once=True),
        "read_only": FaultKind(_ALL, once=True),
        "join_worker": FaultKind(_ATTACHED),
        "retire_worker": FaultKind(_ATTACHED, loses=1),
        "workers_gone": FaultKind(_ATTACHED, charges=("worker lost", "worker lost"), once=True),
    }
)
"""By name, as `faults` does them."""


OF_DISKS = frozenset({"full_disk", "read_only"})
"""Faults that need a small disk of their own."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Parameters
    ----------
    name
        Of `FAULTS`.
    share
        Done when this share of the mini-batches has ended; None: ``delay`` seconds after the driver's start.
    delay
        Seconds to wait besides.
    hold
        Seconds that what is stopped or gone stays so.
    choice
        Which of those it may hit: this number modulo how many there are.
    """

    name: str
    share: float | None
    delay: float = 0.0
    hold: float = 0.0
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the step that matter here, as the step has them; ``bisect``: on_failed_mini_batch, ``speculate``:
    speculative_attempts."""

    run_max_try: int
    run_seconds: float
    order: str
    action: str
    error_threshold: int
    allowed_failed_count: int | None = None
    bisect: bool = False
    speculate: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """All that happens in one chaos run.

    Parameters
    ----------
    cluster
        ``local`` (the step's own), ``nannies`` or ``bare`` (a running scheduler with workers, with or without nannies).
    lanes
        Worker processes at a time.
    resume_by
        ``python`` or ``cli``: how it is gone on with where it was ended.
    retry_failed
        Are failed mini-batches tried again then?
    inits
        What goes wrong in ``init()`` of the first processes, one each: ``raise`` or ``hang``.
    """

    seed: int
    workload: Workload
    cluster: str
    lanes: int
    settings: Settings
    faults: tuple[Fault, ...]
    resume_by: str = "python"
    retry_failed: bool = True
    inits: tuple[str, ...] = ()

    @property
    def init_seconds(self) -> float:
        """The limit of ``init()``; far from what a process needs that does not hang, on a machine with much to do."""
        return 4.0 if "hang" in self.inits else 8.0

    @property
    def canaries(self) -> tuple[str, str]:
        """Secrets that no file may hold: one of the storage options, one of the environment."""
        generator = random.Random(f"canary {self.seed}")
        return tuple(f"cAnArY{generator.getrandbits(96):024x}" for _ in range(2))  # type: ignore[return-value]


def draw(seed: int, *, mount: bool = True, cluster: str | None = None) -> Plan:
    """The plan of a seed.

    Parameters
    ----------
    mount
        May a disk be mounted? Else the faults of a disk are left out, and all else is the same.
    cluster
        This form of cluster instead of a drawn one.
    """
    rng = random.Random(seed)
    drawn = rng.choices(("local", "nannies", "bare"), (4, 3, 3))[0]
    cluster = cluster or drawn
    tries = rng.choices((1, 2, 3, 4), (2, 4, 4, 1))[0]
    bisect = rng.random() < 0.3
    workload = _workload(rng, tries, bisect)
    faults = tuple(fault for fault in _faults(rng, cluster) if mount or fault.name not in OF_DISKS)
    settings = _settings(rng, workload, tries, bisect)
    if settings.action == "append_row" and random.Random(f"speculate {seed}").random() < 0.4:
        settings = dataclasses.replace(settings, speculate=True, run_seconds=3.0)  # so that there are slow ones
    resume_by, retry_failed = rng.choice(("python", "cli")), rng.random() < 0.75
    inits = _inits(random.Random(f"init {seed}"), cluster, workload, faults)
    return Plan(seed, workload, cluster, 2, settings, faults, resume_by, retry_failed, inits)


def _inits(rng: random.Random, cluster: str, workload: Workload, faults: Sequence[Fault]) -> tuple[str, ...]:
    """Fewer than a node may see; and one hangs only where another process is there all the time, or it is the end."""
    inits = ["raise"] * rng.choice((0, 0, 0, 1, 2))
    hangs = rng.random() < 0.5
    if (
        hangs
        and cluster == "local"
        and workload.kind == "files"
        and not any(fault.name in _OF_LANES or (fault.name == "stop_child" and fault.share is None) for fault in faults)
    ):
        inits.append("hang")
    rng.shuffle(inits)
    return tuple(inits)


_OF_LANES = frozenset({"kill_worker", "term_worker", "stop_worker"})
"""Faults after which a local cluster has one lane for a while; as where a process is stopped that is not ready yet."""


def _workload(rng: random.Random, tries: int, bisect: bool) -> Workload:
    kind = rng.choices(("files", "parquet", "text"), (6, 2, 2))[0]
    count = int(rng.triangular(200, 2000, 200) if kind == "files" else rng.triangular(200, 600, 200))
    if kind == "files":
        size = rng.choice((1, 1, 2, 5))
        bare = Workload(kind, max(1, count * size - rng.randrange(size)), size)
    elif kind == "parquet":
        size = rng.choice((1, 3, 10))
        bare = Workload(kind, count * size, size, parts=rng.randint(1, 4))
    else:
        bare = Workload(kind, count * 4, rng.choice((40, 64, 100)), parts=rng.randint(1, 3))
    seconds = rng.uniform(1.5, 3.5)
    places = bare.mini_batches()
    pause = round(2 * seconds / len(places), 4)
    return dataclasses.replace(
        bare, pause=pause, poisons=_poisons(rng, kind, places, 2 * tries + 2 if bisect else tries)
    )


_COSTS = {"time limit": 2.0, "process died": 1.0, "out of memory": 2.0, "huge": 2.0}
"""What an attempt that ends so costs, in starts of a process."""

_MOST_COSTS = {"files": 9.0, "parquet": 4.0, "text": 4.0}
"""So much of it a plan may hold: a process that reads tables starts slowly."""


def _poisons(rng: random.Random, kind: str, mini_batches: Sequence[range], attempts: int) -> tuple[Poison, ...]:
    """Bad items, as many as a short run can bear; a hopeless one costs so many attempts."""
    left = _MOST_COSTS[kind]
    found = []
    for place in rng.sample(range(len(mini_batches)), rng.choice((0, 2, 4, 6, 8))):
        harm, flaky = rng.choice(list(HARMS)), rng.random() < 0.4
        flaky = flaky and bool(HARMS[harm].category)  # what succeeds has no second attempt
        cost = _COSTS.get("huge" if harm == "huge" else HARMS[harm].category, 0.0) * (1 if flaky else attempts)
        if cost <= left:
            left -= cost
            found.append(Poison(rng.choice(mini_batches[place]), harm, flaky))
    return tuple(found)


def _settings(rng: random.Random, workload: Workload, tries: int, bisect: bool) -> Settings:
    mini_batches = workload.mini_batches()
    failed_items = failed = 0
    for number, poison in workload.poison_by_mini_batch().items():
        harm = HARMS[poison.harm]
        if poison.flaky and tries > 1:
            continue
        failed += bool(harm.category)
        failed_items += harm.missing if not harm.category else 1 if bisect else len(mini_batches[number])
    threshold, allowed = -1, None
    match rng.choices(("none", "holds", "breaks", "count holds", "count breaks"), (5, 3, 1, 1, 1))[0]:
        case "holds":
            threshold = failed_items + rng.choice((0, 0, 10))
        case "breaks" if failed_items:
            threshold = rng.randrange(failed_items)
        case "count holds":
            allowed = failed + rng.choice((0, 2))
        case "count breaks" if failed:
            allowed = rng.randrange(failed)
    action = rng.choices(("append_row", "summary_only"), (8, 1))[0]
    order = rng.choice(("any", "input"))
    return Settings(
        run_max_try=tries,
        run_seconds=rng.choice((1.0, 1.5, 2.0)),
        order=order if action == "append_row" else "any",
        action=action,
        error_threshold=threshold,
        allowed_failed_count=allowed,
        bisect=bisect,
    )


_AT_ONCE = frozenset({"read_only"})
"""Done before the driver starts."""


def _faults(rng: random.Random, cluster: str) -> tuple[Fault, ...]:
    possible = [name for name, kind in FAULTS.items() if cluster in kind.clusters]
    faults: list[Fault] = []
    for name in rng.choices(possible, k=rng.choice((1, 2, 2, 3, 4))):
        kind = FAULTS[name]
        names = [fault.name for fault in faults]
        if (kind.once and name in names) or (kind.ends and sum(FAULTS[one].ends for one in names) == 2):
            continue
        faults.append(_when(rng, name))
    return tuple(_sparing_a_worker(sorted(faults, key=_order), cluster))


def _sparing_a_worker(faults: list[Fault], cluster: str) -> Iterator[Fault]:
    """Where the last worker would go for good, one joins: without any the step run could only wait for its limit."""
    spare = 1
    for fault in faults:
        if cluster != "local" and not (cluster == "nannies" and fault.name in _COME_BACK):
            if FAULTS[fault.name].loses > spare:
                fault = dataclasses.replace(fault, name="join_worker")
            spare += (fault.name == "join_worker") - FAULTS[fault.name].loses
        yield fault


SILENT_SECONDS = 16.0
"""A worker that is stopped for so long has its work handed out again, and comes back with results that nobody wants."""

_COME_BACK = ("kill_worker", "term_worker")
"""A nanny starts them again."""


def _when(rng: random.Random, name: str) -> Fault:
    hold = 0.0
    if name.startswith("stop_"):
        hold = round(rng.uniform(0.5, 5.0), 2)
    if name == "workers_gone":
        hold = 20.0
    early = rng.random() < 0.15 and not name.startswith(("full_", "workers_"))
    share = None if early or name in _AT_ONCE else round(rng.uniform(0.05, 0.9), 3)
    delay = 0.0 if name in _AT_ONCE else round(rng.uniform(0.1, 2.5) if early else rng.uniform(0.0, 0.2), 3)
    choice = rng.randrange(1000)
    if name == "stop_worker" and choice % 5 == 3:
        hold = round(hold + SILENT_SECONDS, 2)
    return Fault(name, share, delay, hold, choice)


def _order(fault: Fault) -> tuple[bool, float]:
    return (fault.share is not None, fault.delay if fault.share is None else fault.share)


def to_json(plan: Plan) -> str:
    """As text, for the folder of the run and the processes in it."""
    return json.dumps(dataclasses.asdict(plan), indent=1)


def from_json(text: str) -> Plan:
    """The plan that `to_json` was given."""
    about: dict[str, Any] = json.loads(text)
    work = about.pop("workload")
    poisons = tuple(Poison(**poison) for poison in work.pop("poisons"))
    return Plan(
        **{
            **about,
            "workload": Workload(**work, poisons=poisons),
            "settings": Settings(**about["settings"]),
            "inits": tuple(about["inits"]),
            "faults": tuple(Fault(**fault) for fault in about["faults"]),
        }
    )
