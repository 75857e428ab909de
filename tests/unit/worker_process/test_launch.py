"""The command line of a worker process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from prs_dask.worker_process.launch import STACK_SIGNAL, command


def test_the_command_names_its_descriptors_and_nothing_of_the_job():
    argv = command(5, 6, 7, 99)
    assert argv[:3] == [sys.executable, "-P", "-c"]
    assert argv[4:] == ["5", "6", "7", "99"]


def test_stacks_come_by_a_real_time_signal():
    assert signal.SIGRTMIN < STACK_SIGNAL < signal.SIGRTMAX


def test_prs_dask_is_found_where_the_supervisor_has_it_and_sys_path_stays_as_it_was(tmp_path):
    bootstrap = command(0, 0)[3].partition("; from prs_dask")[0]
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; before = sys.path[:]; {bootstrap}; print(sys.path == before)"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True\n"


def test_the_process_imports_nothing_that_is_slow(tmp_path):
    code = (
        "import sys; import prs_dask.worker_process.main; "
        "print(*{'dask', 'distributed', 'pandas', 'numpy', 'pyarrow', 'logging', 'socket', 'json', 'click'}"
        " & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "\n"
