"""``python -m tests.chaos.dask_client SCHEDULER_FILE retire CHOICE``: another client of the same cluster."""

from __future__ import annotations

import sys

from distributed import Client


def main(scheduler_file: str, what: str, choice: str) -> None:
    """Retire one worker, in order."""
    with Client(scheduler_file=scheduler_file, set_as_default=False) as client:
        addresses = sorted(client.scheduler_info(n_workers=-1)["workers"])
        if what == "retire" and addresses:
            client.retire_workers([addresses[int(choice) % len(addresses)]], close_workers=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
