"""EntryScript inside and outside of a job."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

from prs_dask import EntryScript
from prs_dask.entry_script.entry_script import Surroundings, configure


def place(folder, **changes):
    whole = Surroundings(
        log_dir=f"{folder}/log/files",
        output_dir=f"{folder}/output",
        working_dir=f"{folder}/working",
        log_file=f"{folder}/process003.log.txt",
        agent_name="process003",
        node_id=2,
        logging_level="DEBUG",
        arguments=("--x", "1"),
    )
    return whole._replace(**changes)


def test_it_is_one_object_whatever_it_is_called_with(tmp_path):
    assert EntryScript() is EntryScript("config", some=1)
    assert pickle.loads(pickle.dumps(EntryScript())) is EntryScript()


def test_it_tells_what_was_configured_and_makes_its_folders(tmp_path):
    configure(place(tmp_path))
    one = EntryScript()
    assert (one.agent_name, one.node_id, one.logging_level, one.arguments) == ("process003", 2, "DEBUG", ["--x", "1"])
    for folder in (one.log_dir, one.output_dir, one.working_dir):
        assert os.path.isdir(folder)
    assert repr(one) == "EntryScript(process003 on node 2)"


def test_its_logger_writes_time_level_and_message_at_once(tmp_path):
    configure(place(tmp_path))
    EntryScript().logger.debug("path \udcff %s", "ä")
    line = (tmp_path / "process003.log.txt").read_text("utf-8")
    assert line.endswith("path \\udcff ä\n")
    assert "|DEBUG|" in line
    assert line[:4].isdigit()


def test_a_second_configuration_moves_its_logger(tmp_path):
    configure(place(tmp_path))
    EntryScript().logger.info("first")
    configure(place(tmp_path, log_file=str(tmp_path / "other.txt"), logging_level="WARNING"))
    EntryScript().logger.info("not at this level")
    EntryScript().logger.warning("second")
    assert "second" not in (tmp_path / "process003.log.txt").read_text()
    assert (tmp_path / "other.txt").read_text().count("\n") == 1


def test_outside_of_a_job_it_logs_to_stderr_into_temporary_folders_that_go_at_exit(tmp_path):
    code = (
        "from prs_dask import EntryScript as E; import os; E().logger.info('hello'); open(E().output_dir + '/x', 'w');"
        "print(E().output_dir, E().agent_name, E().node_id, E().logging_level, E().arguments, E().log_dir)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--flag"],
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "hello" in done.stderr
    assert "process000 0 INFO ['--flag']" in done.stdout
    assert done.stdout.startswith(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
