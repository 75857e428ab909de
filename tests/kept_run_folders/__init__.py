"""Run folders of every version, as real step runs have left them: made by ``python -m tests.kept_run_folders FOLDER``.

They lie in ``tests/data/run_folders/format-<number>``. Of the place where they were made they say ``/srv/example``; one
that is `placed` has the inputs beside it again, and can be resumed.
"""
