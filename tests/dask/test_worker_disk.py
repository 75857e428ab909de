"""No room in a worker's temporary folder: rows need none of it."""

from __future__ import annotations

import contextlib
import os

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def fill(folder):
    with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_full_temporary_folder_of_a_worker_costs_no_row(fleet, job, small_disk, when):
    ours = fleet(roomy=1)
    ours.add("narrow", TMPDIR=str(small_disk))
    if when == "before":
        (small_disk / "filler").write_bytes(bytes(480 << 10))  # folders and a small source find room, not much more
    with ours.client():
        submitted = job(ours.address, 300)
        if when == "meanwhile":
            submitted.until(50)
            fill(small_disk)
        rows = submitted.wait()
    assert {row.where for row in rows} == {"roomy", "narrow"}
    assert len(rows) == submitted.run.summary().attempts


def test_a_worker_without_room_for_the_source_is_left_out_and_told(fleet, job, small_disk):
    ours = fleet(roomy=1)
    ours.add("narrow", TMPDIR=str(small_disk))
    with ours.client():
        submitted = job(ours.address, 200, more="# " + os.urandom(1 << 19).hex())
        rows = submitted.wait()
    assert {row.where for row in rows} == {"roomy"}
    assert "No space left on device" in (submitted.run.log_dir / "sys/master_role.txt").read_text()
