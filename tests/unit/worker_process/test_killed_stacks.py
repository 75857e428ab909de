"""The user's frame is found in what faulthandler has written."""

from __future__ import annotations

import pytest

from prs_dask.worker_process.killed_stacks import where_in_stacks

ENGINE, SOURCE = "/opt/prs_dask", "/tmp/prs-dask-0/r/source-1a2b"
MAIN = f'  File "{ENGINE}/worker_process/main.py", line 80 in main\n  File "<string>", line 1 in <module>\n'
RUN = f'  File "{ENGINE}/worker_process/attempts.py", line 90 in one\n' + MAIN
READ = f'  File "{ENGINE}/datasets/text.py", line 9 in read\n' + RUN
THREAD = (
    'Thread 0x00007f (most recent call first):\n  File "/tmp/prs-dask-0/r/source-1a2b/score.py", line 3 in poll\n\n'
)
CURRENT = "Current thread 0x00007e (most recent call first):\n"


def where(frames: str, source: str | None = SOURCE, threads: str = THREAD) -> str:
    return where_in_stacks(threads + CURRENT + frames, source, ENGINE)


def test_the_deepest_of_the_users_frames_is_named() -> None:
    frames = (
        '  File "/usr/lib/python3.12/re/__init__.py", line 166 in match\n'
        f'  File "{SOURCE}/tools/match.py", line 7 in slow\n'
        f'  File "{SOURCE}/score.py", line 12 in run\n'
    )
    assert where(frames + RUN) == "tools/match.py:7 in slow"


def test_other_threads_of_the_users_are_not_to_blame() -> None:
    assert where('  File "/usr/lib/python3.12/site-packages/pandas/io.py", line 1 in read\n' + READ) == ""
    main = CURRENT.replace("Current thread", "Thread") + f'  File "{SOURCE}/score.py", line 12 in run\n' + RUN
    assert where_in_stacks(main + THREAD.replace("Thread", "Current thread"), SOURCE, ENGINE) == "score.py:12 in run"


def test_of_an_object_it_is_the_frame_that_was_called() -> None:
    frames = '  File "/usr/lib/x.py", line 1 in wait\n  File "/home/me/model.py", line 4 in __call__\n'
    assert where(frames + RUN, None) == "model.py:4 in __call__"
    assert where(frames + READ, None) == ""


def test_a_recursion_too_deep_to_be_seen_whole_is_named() -> None:
    assert where(f'  File "{SOURCE}/score.py", line 5 in deeper\n' * 100 + "  ...\n") == "score.py:5 in deeper"


def test_a_call_into_the_engine_hides_nobody() -> None:
    frames = (
        f'  File "{ENGINE}/entry_script/log_handlers.py", line 5 in emit\n  File "{SOURCE}/score.py", line 12 in run\n'
    )
    assert where(frames + RUN) == "score.py:12 in run"
    assert where(frames.replace(SOURCE, "/home/me") + RUN, None) == "score.py:12 in run"


def test_names_that_are_not_ascii_are_found() -> None:
    frames = '  File "/tmp/\\xe9t\\xe9/source-1/score.py", line 2 in run\n'
    assert where(frames + RUN, "/tmp/été/source-1") == "score.py:2 in run"


@pytest.mark.parametrize("stacks", ["", "(no Python stack: signals do not reach the process)", CURRENT, "Thread 0x"])
def test_where_there_is_no_stack_nobody_is_named(stacks: str) -> None:
    assert where_in_stacks(stacks, SOURCE, ENGINE) == where_in_stacks(stacks, None, ENGINE) == ""
