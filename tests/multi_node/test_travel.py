"""What travels between the driver and hosts that share nothing: source, side inputs, files and logs of the script."""

from __future__ import annotations

import sys

import pytest

from tests.multi_node.leftovers import until_nothing_is_left

pytestmark = [pytest.mark.multi_node, pytest.mark.timeout(180)]

ALL = ["node1", "node2", "node3"]

SCRIPT = """
import socket
import sys
import time
from pathlib import Path

from prs_dask import EntryScript
from tools.deep.names import called


def init():
    assert not Path(DRIVER).exists(), "the host sees the driver's folders"
    assert not list(Path(__file__).parent.rglob("*.left-out")), "what the ignore file names has travelled"
    Path("/tmp/here").touch()


def run(mini_batch):
    while not Path("/tmp/release").exists():
        time.sleep(0.02)
    labels, words = (Path(path) for path in sys.argv[1:3])
    for path in mini_batch:
        name, host = Path(path).name, socket.gethostname()
        row = f"{called(name)} {(labels / 'deep' / 'label').read_text()} {words.read_text()} {host}"
        (Path(EntryScript().output_dir) / host).mkdir(exist_ok=True)
        (Path(EntryScript().output_dir) / host / f"{name}.txt").write_text(row)
        with open(Path(EntryScript().log_dir) / "seen.txt", "a") as file:
            file.write(f"{name} {host}\\n")
    return mini_batch
"""
PYTHON = f"""#!/bin/sh
export PYTHONPATH="$PYTHONPATH:/tmp/more"
exec {sys.executable} "$@"
"""


def test_source_and_side_inputs_reach_each_host_and_files_and_logs_of_the_script_come_back(job, hosts, files, tmp_path):
    names, folder = files(30)
    source, labels, words = tmp_path / "source", tmp_path / "labels", tmp_path / "words"
    (source / "tools/deep").mkdir(parents=True)
    (source / "tools/__init__.py").touch()
    (source / "tools/deep/names.py").write_text("def called(name):\n    return f'called {name}'\n")
    (source / "tools/large.left-out").touch()
    (source / ".amlignore").write_text("*.left-out\n")
    (source / "score.py").write_text(f"DRIVER = {str(source)!r}\n{SCRIPT}")
    (labels / "deep").mkdir(parents=True)
    (labels / "deep/label").write_text("labelled")
    words.write_text("worded")
    side_inputs = [str(labels), str(words)]
    ours = job(
        {"ssh": {"hosts": ALL}},
        names,
        folder,
        entry_script="score.py",
        source_directory=str(source),
        output_action="summary_only",
        step={"side_inputs": side_inputs, "arguments": side_inputs},
    )
    ours.until(lambda: all(host.path("/tmp/here").exists() for host in hosts))
    for host in hosts:
        host.path("/tmp/release").touch()
    ours.expect("Completed")
    stored = {(path.parent.name, path.stem): path.read_text() for path in (ours.folder / "out").glob("*/*.txt")}
    assert sorted(name for _, name in stored) == names, "each once"
    assert {host for host, _ in stored} == set(ALL)
    assert all(text == f"called {name} labelled worded {host}" for (host, name), text in stored.items())
    logs = (ours.folder / "run/logs/user/entry_script_log").glob("*/*/seen.txt")
    seen = sorted(line.split() for path in logs for line in path.read_text().splitlines())
    assert seen == sorted([name, host] for host, name in stored)
    until_nothing_is_left(hosts)


def test_a_package_that_hosts_lack_is_one_table_before_anything_runs(job, hosts, files):
    names, folder = files(3)
    for host, version in zip(hosts, ("2.5", "1.0", None), strict=True):
        host.path("/tmp/python").write_text(PYTHON)
        host.path("/tmp/python").chmod(0o755)
        if version:
            metadata = host.path(f"/tmp/more/a_thing-{version}.dist-info/METADATA")
            metadata.parent.mkdir(parents=True)
            metadata.write_text(f"Metadata-Version: 2.1\nName: a-thing\nVersion: {version}\n")
    ours = job({"ssh": {"hosts": ALL, "python": "/tmp/python"}}, names, folder, environment={"a-thing": ">=2"})
    told = ours.expect("Failed").splitlines()
    assert told[0] == "environment: 2 workers do not have what the step wants"
    assert told[1].split() == ["node", "package", "found", "wanted"]
    assert sorted(line.split()[1:] for line in told[2:4]) == [
        [f"({hosts['node2'].address})", "a-thing", "1.0", ">=2"],
        [f"({hosts['node3'].address})", "a-thing", "not", "installed", ">=2"],
    ]
    assert not list((ours.folder / "run/logs/user/stdout").glob("**/*.txt")), "no process was started"
    until_nothing_is_left(hosts)
