"""The entry script's life inside the current process, as run_locally and the debugger use it."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from prs_dask.entry_script import MiniBatchContext, ScriptHost
from prs_dask.errors import EntryScriptError

CONTEXT = MiniBatchContext("7", "images", {}, 1)


@pytest.fixture
def script(tmp_path):
    def write(text, name="score.py"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def test_a_script_lives_from_load_to_shutdown(script):
    path = script(
        "import sys\nevents = []\ndef init(): events.append(sys.argv[1:])\n"
        "def run(m): events.append(m); return m\ndef shutdown(): events.append('end')\n"
    )
    host = ScriptHost(path, source_folder=path.rpartition("/")[0], arguments=("--x", "1"))
    host.load()
    events = sys.modules["score"].events
    host.init()
    assert host.run(["a"], CONTEXT) == ["a"]
    host.shutdown()
    host.shutdown()
    assert events == [["--x", "1"], ["a"], "end"]


def test_an_object_is_hosted_without_a_script():
    host = ScriptHost(script_object=SimpleNamespace(run=lambda m, c: [c.minibatch_index, *m]))
    host.load()
    host.init()
    assert host.run(["a"], CONTEXT) == ["7", "a"]
    assert host.user_code.name_of(__file__) == "test_host.py"


def test_unload_gives_back_what_load_changed_and_a_changed_script_is_read_anew(script, tmp_path):
    before = (sys.path[:], sys.argv[:], set(sys.modules))
    for number in (1, 2):
        script(f"VALUE = {number * 1000}  {'#' * number}", "helper.py")  # Python tells by size and second what is new
        path = script(f"import helper\ndef run(m): return [helper.VALUE, {number}]  {'#' * number}")
        host = ScriptHost(path, source_folder=str(tmp_path), arguments=("--x",))
        host.load()
        assert host.run([], CONTEXT) == [number * 1000, number]
        host.unload()
        host.unload()
        assert (sys.path, sys.argv) == before[:2]
        assert not {"score", "helper"} & (sys.modules.keys() - before[2])


def test_a_script_with_the_name_of_a_loaded_module_takes_nobodys_place(script):
    path = script("def run(m): return [__name__]", "json.py")
    host = ScriptHost(path)
    host.load()
    assert host.run([], CONTEXT) == ["json"]
    assert hasattr(sys.modules["json"], "loads")


def test_a_script_that_fails_is_not_left_behind_half_made(script):
    with pytest.raises(ZeroDivisionError):
        ScriptHost(script("1/0")).load()
    assert "score" not in sys.modules


def test_a_missing_run_is_told_with_what_there_is(script):
    with pytest.raises(EntryScriptError, match=r"score.py has none.*found: predict"):
        ScriptHost(script("def predict(m): ...")).load()


def test_what_is_no_python_file_is_refused(script):
    with pytest.raises(EntryScriptError, match=r"allowed: a Python file"):
        ScriptHost(script("", "score.txt")).load()


def test_running_before_loading_is_refused():
    with pytest.raises(EntryScriptError, match="not been loaded"):
        ScriptHost("score.py").run([], CONTEXT)
