"""Every distinct error once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.attempts.records import AttemptError
from prs_dask.logs.error_groups import ErrorGroups

TEXT = st.text(st.characters(codec="utf-8"), max_size=20) | st.just("one \udc80 alone")


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
        "1,201 errors, 2 distinct, most frequent first",
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


def test_the_line_of_code_stands_before_what_was_said_and_is_looked_up_once() -> None:
    asked: list[AttemptError] = []

    def source(error: AttemptError) -> str:
        asked.append(error)
        return "return 1 / \x1b[31mzero"

    groups = ErrorGroups(source_of=source)
    for number in range(3):
        groups.add(error(), f"mini-batch {number}", "user/error/0/process000.txt", mini_batch=str(number), when=number)
    assert len(asked) == 1
    assert groups.text().split("\n")[2:5] == [
        "[3 x] ValueError at script.py:12 in run",
        "    12 | return 1 / \\x1b[31mzero",
        "    bad",
    ]
    (group,) = groups.most_frequent()
    assert (group.mini_batch, group.first, group.last) == ("0", 0, 2)


def test_for_limits_there_is_advice() -> None:
    groups = ErrorGroups()
    groups.add(error("OutOfMemory", "its process used 300 MiB"), "", "x")
    groups.add(error("TimeLimit", "run() took longer than run_invocation_timeout=2 s"), "", "x")
    groups.add(error("TimeLimit", "init() took longer than 2 s (--init_timeout)", "script.py:3 in init"), "", "x")
    assert [line.strip() for line in groups.text().split("\n") if "try: " in line] == [
        "try: a smaller mini_batch_size, a lower process_count_per_node, or a higher memory_limit_per_process",
        "try: a smaller mini_batch_size, or a longer run_invocation_timeout",
    ]


def test_of_a_process_that_left_without_a_word_what_it_printed_is_named() -> None:
    groups = ErrorGroups()
    groups.add(error("SystemExit", "sys.exit(42) was called"), "", "user/error/1/process1007.txt")
    assert "    what it printed: logs/user/stderr/1/process1007.stderr.txt\n" in groups.text()


def test_the_digest_tells_the_most_frequent_and_how_many_others_there_are() -> None:
    groups = ErrorGroups()
    assert groups.digest("/logs") == ""
    groups.add(error("KeyError"), "mini-batch 0", "user/error/0/process000.txt")
    for _ in range(2):
        groups.add(error(message="\n".join("abcdefg")), "mini-batch 1", "user/error/0/process001.txt")
    assert groups.digest("/logs").split("\n") == [
        "most frequent error, 2 x: ValueError at script.py:12 in run (1 other kind: /logs/user/error.txt)",
        *(f"    {letter}" for letter in "abcde"),
        "    for example: mini-batch 1",
        "    traceback: /logs/user/error/0/process001.txt",
    ]


@given(st.lists(st.tuples(TEXT, TEXT, TEXT, TEXT, st.floats(0, 4e9)), max_size=12), st.integers(1, 5))
def test_errors_go_through_json_and_back(found: list[tuple[str, str, str, str, float]], most: int) -> None:
    groups = ErrorGroups(most, source_of=lambda one: one.message[:3])
    for kind, message, where, example, when in found:
        groups.add(error(kind, message, where), example, "log", mini_batch=example, when=when)
    again = ErrorGroups.from_json(groups.to_json().encode("ascii"))
    assert again.most_frequent() == groups.most_frequent()
    assert (again.total, again.others, again.text()) == (groups.total, groups.others, groups.text())
    for kind, message, where, example, _ in found:  # and both go on alike
        once_more = error(kind, message, where)
        assert again.next_part(lambda _: "").add(once_more, example, "log") >= 1


def test_a_further_part_counts_on_and_looks_at_its_own_errors_first() -> None:
    before = ErrorGroups()
    for _ in range(5):
        before.add(error("ImportError"), "loading", "x")
    before.add(error(), "mini-batch 1", "y")
    groups = ErrorGroups.from_json(before.to_json()).next_part(lambda _: "new source")
    assert groups.worst() is None
    assert groups.digest("logs") == ""
    assert groups.add(error(), "mini-batch 9", "z") == 2
    assert "[5 x, 0 of them since it was resumed] ImportError" in groups.text()
    assert "[2 x, 1 of them since it was resumed] ValueError" in groups.text()
    assert groups.digest("logs").startswith("most frequent error, 1 x: ValueError at script.py:12 in run\n")
    assert groups.most_frequent()[1].example == "mini-batch 1"


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"format": 2}', "[" * 100_000, '{"format": 1, "total": "x"}'])
def test_what_is_no_json_of_errors_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's own or ours
        ErrorGroups.from_json(text)


def test_a_group_with_other_fields_is_refused() -> None:
    groups = ErrorGroups()
    groups.add(error(), "", "x")
    for good, bad in (('"count": 1', '"count": "1"'), ('"type": "ValueError"', '"type": 3'), ('"where"', '"there"')):
        with pytest.raises(ValueError, match="no errors of a step run"):
            ErrorGroups.from_json(groups.to_json().replace(good, bad))
