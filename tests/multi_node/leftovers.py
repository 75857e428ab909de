"""What step runs leave on hosts, which is nothing in the end."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tests.multi_node.hosts import REPOSITORY, Host

__all__ = ["left_on", "until_nothing_is_left"]


def left_on(host: Host) -> list[str]:
    """Processes that were started over SSH, and temporary files of jobs, that are on a host."""
    places = [host.path(place) for place in ("/tmp", "/var/tmp", "/dev/shm", "/root", "/home/ann")]
    files = [path for place in places for path in place.iterdir()]
    begins, seen_here = ("prs", "dask", "tmp", "pymp", "sem"), {*Path(tempfile.gettempdir()).parts, *REPOSITORY.parts}
    left = [path for path in files if path.name.startswith(begins) and path.name not in seen_here]
    processes = [one for one in host.processes() if not one.name().startswith("sshd")]  # those wait for their network
    return [str(one) for one in (*processes, *left)]


def until_nothing_is_left(hosts: Iterable[Host], seconds: float = 30.0) -> None:
    """Wait for that."""
    end = time.monotonic() + seconds
    while left := {host.name: found for host in hosts if (found := left_on(host))}:
        assert time.monotonic() < end, left
        time.sleep(0.1)
