"""What a script logs with ``Run.log`` is in one file of the logs, a line each, whichever process it came from."""

import json

SCRIPT = """
import os
from azureml.core import Run

def run(mini_batch):
    number = int(os.path.basename(mini_batch[0]))
    Run.get_context().log("number", number, step=number)
    Run.get_context().log_row("pair", a=number, b="x" * 3000)
    return [number]
"""


def test_metrics_of_all_processes_come_to_one_file_line_by_line(job):
    done = job(SCRIPT, 200)
    lines = [json.loads(line) for line in done.log("metrics.jsonl").splitlines()]
    assert sorted(line["value"] for line in lines if line["name"] == "number") == list(range(200))
    assert sorted(line["value"]["a"] for line in lines if line["name"] == "pair") == list(range(200))
    assert {line["process"] for line in lines} == {row["Process"].partition("/")[2] for row in done.attempts}
    assert {line["node"] for line in lines} == {0}
