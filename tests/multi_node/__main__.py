"""Several hosts on this machine, by hand: a shell on the driver's host, and everything is gone when it is left.

::

    python -m tests.multi_node                       # two hosts, node1 and node2, and a shell
    python -m tests.multi_node --hosts 3 -- ssh node3 hostname
    python -m tests.multi_node -- prs-dask run step.yml --compute-target ssh://node1,node2 --node-count 2
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from tests.multi_node.hosts import Hosts, may_make_hosts


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.multi_node", description="Hosts on this machine.")
    parser.add_argument("--hosts", type=int, default=2, help="How many. Default: 2.")
    parser.add_argument("command", nargs="*", help="What to run on the driver's host. Default: a shell.")
    given = parser.parse_args()
    if why_not := may_make_hosts():
        print(f"no hosts can be made here; root can: {why_not}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="hosts-") as folder, Hosts(Path(folder), given.hosts) as hosts:
        print(
            f"{', '.join(hosts.names)} are up; log in with ssh from here, cut one off with Python's Host.cut",
            file=sys.stderr,
        )
        print(f"their SSH servers' log: {folder}/sshd.log", file=sys.stderr)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the command's
        return hosts.on_driver(*(given.command or ["bash", "-i"])).wait()


if __name__ == "__main__":
    sys.exit(main())
