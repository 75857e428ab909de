"""How often the kernel has killed a process because memory was short: it tells nobody else whom and why.

The count is that of this process's own control group, which is a container's, or else the machine's. Where it has
risen between the start of a process and its end by SIGKILL, that was the kernel, as good as certainly.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["kernel_kills"]


def kernel_kills(root: Path = Path("/")) -> int:
    """So many so far; 0 where it cannot be known, which is as good as a number that never rises."""
    for path in (*_own_groups(root), root / "proc/vmstat"):
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, number = line.partition(" ")
            if name == "oom_kill" and number.isdigit():
                return int(number)
    return 0


def _own_groups(root: Path) -> list[Path]:
    """Where the counts of this process's control groups may stand, of both versions of the interface."""
    found = []
    groups = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found += [groups / part / "memory.events" for part in (path.strip("/"), "")]
        elif "memory" in controllers.split(","):
            # The second is where a container finds its own, which has another path on the host.
            found += [groups / "memory" / part / "memory.oom_control" for part in (path.strip("/"), "")]
    return found
