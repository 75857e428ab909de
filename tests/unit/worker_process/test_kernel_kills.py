"""Where the count of processes stands that the kernel has killed because memory was short."""

from __future__ import annotations

from pathlib import Path

import pytest

from prs_dask.worker_process.kernel_kills import kernel_kills

VMSTAT = {"proc/vmstat": "nr_free_pages 5\noom_kill 7\n"}


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, 0),
        (VMSTAT, 7),
        ({"proc/self/cgroup": "0::/\n", **VMSTAT}, 7),  # not in a group of its own
        ({"proc/self/cgroup": "0::/jobs/one\n", "sys/fs/cgroup/jobs/one/memory.events": "oom 3\noom_kill 2\n"}, 2),
        ({"proc/self/cgroup": "0::/host/path\n", "sys/fs/cgroup/memory.events": "oom_kill 4\n", **VMSTAT}, 4),
        (
            {
                "proc/self/cgroup": "9:cpu,memory:/a:b\n0::/\n",
                "sys/fs/cgroup/memory/a:b/memory.oom_control": "oom_kill_disable 0\noom_kill 1\n",
            },
            1,
        ),
        (
            {
                "proc/self/cgroup": "9:memory:/docker/0\n",
                "sys/fs/cgroup/memory/memory.oom_control": "under_oom 0\n",  # an old kernel does not count there
                **VMSTAT,
            },
            7,
        ),
    ],
)
def test_the_count_is_that_of_the_own_group_or_else_of_the_machine(tmp_path: Path, files, count):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert kernel_kills(tmp_path) == count


def test_here_it_is_a_number():
    assert kernel_kills() >= 0
