"""Every distinct error once."""

from __future__ import annotations

from prs_dask.attempts.records import AttemptError
from prs_dask.logs.error_groups import ErrorGroups


def error(type: str = "ValueError", message: str = "bad", where: str = "script.py:12 in run") -> AttemptError:
    return AttemptError(type, message, "", where)


def test_errors_are_one_when_type_and_frame_agree() -> None:
    groups = ErrorGroups()
    assert groups.add(error(message="bad 1"), "mini-batch 1", "user/error/0/process000.txt") == 1
    assert groups.add(error(message="bad 2"), "mini-batch 2", "user/error/0/process001.txt") == 2
    assert groups.add(error(type="KeyError"), "mini-batch 3", "x") == 1
    assert groups.add(error(where="script.py:13 in run"), "mini-batch 4", "x") == 1
    first = groups.most_frequent(1)[0]
    assert (first.count, first.message, first.example) == (2, "bad 1", "mini-batch 1")


def test_without_a_frame_messages_that_differ_in_numbers_are_one() -> None:
    groups = ErrorGroups()
    groups.add(error("time limit", "run() took more than 60 s", ""), "", "x")
    assert groups.add(error("time limit", "run() took more than 61 s", ""), "", "x") == 2
    assert groups.add(error("time limit", "reading took more than 61 s", ""), "", "x") == 1


def test_the_text_names_the_most_frequent_first() -> None:
    groups = ErrorGroups()
    groups.add(error("KeyError", "'a'"), "mini-batch 0, /data/é.png", "user/error/0/process000.txt")
    for _ in range(1200):
        groups.add(error(message="two\nlines \x1b[31m\tx"), "mini-batch 1", "user/error/0/process001.txt")
    assert groups.text().split("\n") == [
        "1,201 errors, 2 distinct, most frequent first; full tracebacks: see each",
        "",
        "[1,200 x] ValueError at script.py:12 in run",
        "    two",
        "    lines \\x1b[31m\tx",
        "    for example: mini-batch 1",
        "    traceback: logs/user/error/0/process001.txt",
        "",
        "[1 x] KeyError at script.py:12 in run",
        "    'a'",
        "    for example: mini-batch 0, /data/é.png",
        "    traceback: logs/user/error/0/process000.txt",
        "",
    ]


def test_memory_is_bounded_and_nothing_goes_uncounted() -> None:
    groups = ErrorGroups(most=50)
    for number in range(1000):
        groups.add(error(where=f"script.py:{number} in run"), "", "x")
        groups.add(error(where="script.py:frequent"), "", "x")
    assert len(groups.most_frequent()) <= 50
    assert groups.most_frequent(1)[0].count == 1000
    assert sum(group.count for group in groups.most_frequent()) + groups.others == groups.total == 2000
    assert f"[{groups.others:,} x] errors too rare" in groups.text()
