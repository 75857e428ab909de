"""Exceptions as bounded text, whatever they are."""

from __future__ import annotations

import json
import subprocess
import sys
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prs_dask.entry_script.failures import MAX_MESSAGE, MAX_PROCESS_OUTPUT, MAX_TRACEBACK, UserCode, describe

HERE = UserCode(files=(__file__,))


def caught(error):
    try:
        raise error
    except BaseException as one:
        return one


class Mute(Exception):
    def __str__(self):
        raise Mute

    __repr__ = __str__


texts = st.text(max_size=50) | st.builds(lambda n: "x" * n, st.integers(0, 3 * MAX_TRACEBACK))
leaves = st.one_of(
    st.builds(ValueError, texts),
    st.builds(KeyError, texts),
    st.builds(SystemExit, texts | st.integers()),
    st.builds(OSError, st.integers(), texts),
    st.builds(UnicodeDecodeError, st.just("utf-8"), st.binary(max_size=3), st.just(0), st.just(1), texts),
    st.builds(SyntaxError, texts),
    st.just(Mute).map(lambda kind: kind()),
    st.builds(KeyboardInterrupt),
)
errors = st.recursive(
    leaves, lambda inner: st.builds(BaseExceptionGroup, texts, st.lists(inner, min_size=1, max_size=15)), max_leaves=20
)


@settings(max_examples=50)
@given(st.lists(errors, min_size=1, max_size=14), st.data())
def test_every_chain_of_exceptions_has_a_bounded_text(several, data):
    raised = [caught(error) for error in several]
    for error in raised:
        link = data.draw(st.sampled_from(["none", "cause", "context"]))
        other = data.draw(st.sampled_from(raised))
        if link == "cause":
            error.__cause__ = other
        elif link == "context":
            error.__context__ = other
    told = describe(raised[0], HERE)
    assert told.type == type(raised[0]).__name__
    assert len(told.message) <= MAX_MESSAGE
    assert len(told.traceback) <= MAX_TRACEBACK
    assert told.traceback
    assert told.where.startswith("test_failures.py:")


@given(st.text(max_size=100))
def test_short_messages_are_kept_as_they_are(text):
    assert describe(ValueError(text), HERE).message == text


def test_a_long_message_keeps_its_ends_and_counts_what_is_left_out():
    told = describe(ValueError("begin" + "x" * 10**6 + "end"), HERE)
    assert told.message.startswith("begin")
    assert told.message.endswith("end")
    assert "characters left out" in told.message


def test_plain_exceptions_read_as_python_writes_them():
    def fail():
        try:
            raise KeyError("first")
        except KeyError as first:
            raise ValueError("second") from first

    try:
        fail()
    except ValueError as error:
        told = describe(error, HERE)
        assert told.traceback == traceback.format_exc()
    assert told.where.endswith("in fail")


def test_notes_are_told():
    error = ValueError("text")
    error.add_note("while reading a.png")
    assert "while reading a.png" in describe(error, HERE).traceback


def test_deep_recursion_is_told_in_part():
    limit = sys.getrecursionlimit()

    def even(n):
        odd(n)

    def odd(n):
        even(n)

    sys.setrecursionlimit(20_000)
    try:
        even(0)
    except RecursionError as error:
        told = describe(error, HERE)
    finally:
        sys.setrecursionlimit(limit)
    assert "frames left out" in told.traceback
    assert len(told.traceback) < 20_000


def test_a_long_chain_is_told_from_both_ends():
    error = ValueError("outermost")
    last = error
    for number in range(100_000):
        last.__cause__ = ValueError(f"number {number}")
        last = last.__cause__
    told = describe(error, HERE)
    assert "outermost" in told.traceback
    assert "chained exceptions left out" in told.traceback
    while error is not None:  # or C code would free the chain recursively
        error.__cause__, error = None, error.__cause__


def test_where_is_the_deepest_frame_of_the_users():
    with pytest.raises(ValueError, match="invalid") as caught_one:
        __import__("json").loads("?") if False else int("x")
    assert describe(caught_one.value, HERE).where.startswith("test_failures.py:")
    assert describe(caught_one.value, UserCode("/elsewhere")).where == ""


def test_files_of_the_source_folder_are_named_within_it():
    user_code = UserCode("/copy/source", ("/copy/source/score.py",))
    assert user_code.name_of("/copy/source/models/net.py") == "models/net.py"
    assert user_code.name_of("/copy/source-2/net.py") is None


def test_a_missing_file_beside_a_lone_script_gives_a_hint(tmp_path):
    (tmp_path / "score.py").touch()
    user_code = UserCode(str(tmp_path))
    assert "source_directory" in describe(FileNotFoundError(2, "no", "model.pkl"), user_code).message
    (tmp_path / "other.py").touch()
    assert "source_directory" not in describe(FileNotFoundError(2, "no", "model.pkl"), user_code).message


@pytest.mark.parametrize("output", [b"\xff" * 10**6, "text" * 10**6, bytearray(b"x"), None, 5])
def test_what_a_failed_command_printed_is_kept_in_bounds(output):
    told = describe(subprocess.CalledProcessError(1, ["tool"], output, output), HERE)
    assert len(told.process_output) <= 2 * MAX_PROCESS_OUTPUT + 100
    assert bool(told.process_output) is bool(output)


class Hostile(type):
    def __getattribute__(cls, name):
        raise RuntimeError(name)


def test_a_type_that_hides_its_own_name_is_told_all_the_same():
    class Hidden(Exception, metaclass=Hostile):
        pass

    assert describe(Hidden("text"), HERE).type == "Hidden"


def test_the_classes_of_an_exception_are_told_whatever_its_metaclass_makes_of_them() -> None:
    class Meta(type):
        def __getattribute__(cls, name: str) -> object:
            raise RuntimeError("nothing of this class can be asked for")

    class Strange(ConnectionError, metaclass=Meta):
        __module__ = 5  # type: ignore[assignment]

    assert describe(json.JSONDecodeError("", "", 0), UserCode()).classes.splitlines() == [
        "json.decoder:JSONDecodeError",
        "builtins:ValueError",
        "builtins:Exception",
        "builtins:BaseException",
        "builtins:object",
    ]
    first, *others = describe(Strange(), UserCode()).classes.splitlines()
    assert first.startswith(":test_the_classes_of")
    assert first.endswith(".Strange")
    assert others[:2] == ["builtins:ConnectionError", "builtins:OSError"]


def test_the_classes_are_bounded() -> None:
    classes = ValueError
    for _ in range(100):
        classes = type("X" * 1000 + "\n", (classes,), {})
    text = describe(classes(), UserCode()).classes
    assert len(text.splitlines()) == 40
    assert len(text) <= 40 * 201
