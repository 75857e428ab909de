"""What the scheduler plugin sends becomes one commit a round, and then the logs."""

import pytest

from prs_dask.attempts.records import AttemptRecord, Category, pack
from prs_dask.engine.results import Results, _committable
from prs_dask.errors import OutputError
from prs_dask.output.committer import CommitFailed
from prs_dask.output.stored_files import StoredFiles
from prs_dask.worker_process import output_files


def record(mini_batch, category=0, final=1, results=2, length=0, attempt=1, items=2):
    return AttemptRecord(mini_batch, attempt, category, final, items, results, length, 0.0, 0.0, 0.0, 0.0, 0.0)


def entry(*records, rows=b"", errors=(), pieced=(), token=5):
    return {
        "kind": "attempts", "node": 0, "process": 1, "token": token,
        "records": pack(records), "rows": rows, "errors": list(errors), "pieced": list(pieced),
    }  # fmt: skip


def test_rows_of_successes_lie_back_to_back():
    committable, rows = _committable(entry(record(4, length=3), record(2, length=1), rows=b"aaab"))
    assert (list(committable.ids), list(committable.lengths), committable.rows) == ([4, 2], [3, 1], b"aaab")
    assert rows == 4
    assert committable.counts == {"items": 4, "rows": 4, "failed_items": 0, "attempts": 2}


def test_what_was_sent_in_pieces_is_not_among_the_rows():
    committable, _ = _committable(entry(record(4, length=1003), rows=b"aaa", pieced=[(4, 1000)]))
    assert list(committable.lengths) == [3]
    assert dict(committable.pieces) == {4: "5"}


def test_a_failed_attempt_is_committed_only_when_it_is_the_last():
    committable, rows = _committable(
        entry(
            record(1, Category.EXCEPTION, final=0),
            record(2, Category.TIME_LIMIT, final=1, attempt=3),
            errors=[(1, ("ValueError", "no")), (2, ("TimeLimit", "too long"))],
        )
    )
    assert list(committable.ids) == []
    assert rows == 0
    (failure,) = committable.failures
    assert (failure.id, failure.attempts, failure.items) == (2, 3, 2)
    assert (failure.category, failure.message) == ("time limit", "TimeLimit: too long")


def test_what_a_failure_says_is_redacted_and_shortened_before_anybody_writes_it_down():
    committable, _ = _committable(
        entry(record(2, Category.EXCEPTION), errors=[(2, ("ValueError", "the secret is hunter2" + "x" * 60_000))]),
        redact=lambda text: text.replace("hunter2", "***"),
    )
    (failure,) = committable.failures
    assert failure.message.startswith("ValueError: the secret is ***xxx")
    assert len(failure.message) < 2100


class Recording:
    """Committer, journal, piece store, recorder and submission in one: what was called, in order."""

    def __init__(self):
        self.calls = []
        self.listed, self.complete = 0, False

    def commit(self, batch, header_line=b"", process_numbers=None):
        self.calls.append(("commit", [number for each in batch for number in each.ids], header_line, process_numbers))

    def add(self, key, data):
        self.calls.append(("add", key, data))

    def drop(self, key):
        self.calls.append(("drop", key))

    def __getattr__(self, name):
        return lambda *arguments: self.calls.append((name, *arguments))

    def names(self):
        return [call[0] for call in self.calls]


def make():
    recording = Recording()
    return recording, Results(recording, recording, recording, recording)


def test_a_round_is_one_commit_and_the_logs_come_after_it():
    recording, results = make()
    results.write([entry(record(1)), {"kind": "note", "time": 1.0, "text": "x"}, entry(record(2))], {}, recording)
    assert recording.names()[:2] == ["sync", "commit"]
    assert recording.names().count("commit") == 1
    assert recording.calls[1][1] == [1, 2]
    assert ("note", 1.0, "x") in recording.calls
    assert results.rows == 4


def test_a_round_without_results_commits_nothing():
    recording, results = make()
    results.write([{"kind": "permit", "permit": 1, "worker": "w"}], {}, recording)
    results.write([], {}, recording)
    assert "commit" not in recording.names()


def test_process_numbers_are_journalled_when_they_change_even_without_results():
    recording, results = make()
    results.write([], {0: 2}, recording)
    results.write([], {0: 2}, recording)
    results.write([], {0: 3}, recording)
    assert [call[3] for call in recording.calls if call[0] == "commit"] == [{0: 2}, {0: 3}]


def test_inputs_are_journalled_and_their_manifest_is_on_disk_before_the_commit_of_the_same_round():
    recording, results = make()
    recording.listed, recording.complete = 10, True
    results.write([entry(record(1))], {}, recording)
    assert recording.names()[:3] == ["inputs", "sync", "commit"]


def test_pieces_are_stored_before_the_commit_that_wants_them():
    recording, results = make()
    piece = {"kind": "piece", "mini_batch": 4, "token": 5, "data": b"x" * 10}
    results.write([piece, entry(record(4, length=12), rows=b"yy", pieced=[(4, 10)])], {}, recording)
    assert recording.calls[0] == ("add", (4, "5"), b"x" * 10)
    assert recording.names()[1:3] == ["sync", "commit"]


class Failing:
    """A recorder that can write nothing but faults."""

    def __init__(self, faults=True):
        self.told = []
        self.faults = faults

    def fault(self, when, where, text):
        self.told.append((where, text))
        if not self.faults:
            raise RecursionError("nor this")

    def __getattr__(self, name):
        def fails(*_):
            raise RecursionError(f"no {name}")

        return fails


@pytest.mark.parametrize("faults", [True, False])
def test_a_log_that_cannot_be_written_fails_nothing_and_is_told_once(faults):
    recording, failing = Recording(), Failing(faults)
    results = Results(recording, recording, recording, failing)
    note = {"kind": "note", "time": 1.0, "text": "x"}
    failed = entry(record(2, Category.EXCEPTION), errors=[(2, ("E", "no"))])
    results.write([note, entry(record(1)), failed, {"kind": "log", "stream": "stdout"}], {}, recording)
    results.write([note], {}, recording)
    assert recording.names() == ["sync", "commit", "drop", *["forget"] * 6]
    assert results.rows == 2
    ((where, text),) = failing.told
    assert where == "logs"
    assert "RecursionError: no note" in text


@pytest.mark.parametrize("what", ["sync", "commit", "inputs", "add", "drop", "forget"])
def test_what_goes_wrong_with_results_is_never_taken_for_a_log(what):
    def fails(*_, **__):
        raise RecursionError(what)

    recording, results = make()
    recording.listed = 1
    setattr(recording, what, fails)
    piece = {"kind": "piece", "mini_batch": 2, "token": 5, "data": b"x"}
    failed = entry(record(2, Category.EXCEPTION), errors=[(2, ("E", "no"))])
    with pytest.raises(RecursionError, match=what):
        results.write([piece, entry(record(1)), failed], {}, recording)


def stored_file(mini_batch, name, data, token=5, process=1):
    piece = output_files._HEAD.pack(output_files.FIRST, 0, len(name)) + name + data
    return {"kind": "file", "mini_batch": mini_batch, "token": token, "node": 0, "process": process, "data": piece}


class Journal:
    """Of which only the length counts."""

    length = 100
    path = None


class Committing(Recording):
    """A committer whose journal grows by a line, or which fails."""

    def __init__(self, journal, fails=False):
        super().__init__()
        self.journal, self.fails = journal, fails

    def commit(self, batch, **more):
        if self.fails:
            raise CommitFailed([])
        super().commit(batch, **more)
        self.journal.length += 10

    def disk_failed(self, error, path):
        return CommitFailed([])


def storing(output, fails=False):
    stored, journal = StoredFiles(output, "run"), Journal()
    stored.begin(0)
    recording = Committing(journal, fails)
    return stored, recording, Results(recording, journal, None, recording, stored=stored)


def test_files_stand_in_the_output_with_the_commit_of_their_mini_batch(tmp_path):
    stored, recording, results = storing(tmp_path)
    results.write([stored_file(1, b"a", b"x"), stored_file(2, b"b", b"y")], {}, recording)
    assert not (tmp_path / "a").exists()
    results.write([entry(record(1)), entry(record(2, Category.EXCEPTION), errors=[(2, ("E", "no"))])], {}, recording)
    results.write(
        [
            stored_file(-1, b"end", b"z", token="end"),
            {**stored_file(-1, b"", b""), "token": "end", "data": b"", "ended": True},
        ],
        {},
        recording,
    )
    stored.close()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"x", "end": b"z"}


def test_files_of_a_commit_that_fails_stay_out_also_of_what_a_resume_brings(tmp_path):
    stored, recording, results = storing(tmp_path, fails=True)
    with pytest.raises(CommitFailed):
        results.write([stored_file(1, b"a", b"x"), entry(record(1))], {}, recording)
    stored.close()
    StoredFiles(tmp_path, "run").begin(1000)
    assert not (tmp_path / "a").exists()


def test_what_a_process_stores_at_its_end_is_added_to_what_the_same_round_commits(tmp_path):
    _, recording, results = storing(tmp_path)
    more = output_files._HEAD.pack(output_files.FIRST | output_files.AGAIN, 3, 1) + b"a" + b" two"
    end = {**stored_file(-1, b"", b"", token="end"), "data": more}
    results.write(
        [
            stored_file(1, b"a", b"one"),
            entry(record(1)),
            end,
            {**end, "data": b""},
            {**end, "data": b"", "ended": True},
        ],
        {},
        recording,
    )
    assert (tmp_path / "a").read_bytes() == b"one two"


def test_files_that_cannot_be_made_ready_stay_out_also_of_what_a_resume_brings(tmp_path, monkeypatch):
    stored, recording, results = storing(tmp_path)

    def full(path):
        if path == stored.folder:
            raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("prs_dask.output.stored_files.sync", full)
    with pytest.raises(CommitFailed):
        results.write([stored_file(1, b"a", b"x"), entry(record(1))], {}, recording)
    stored.close()
    StoredFiles(tmp_path, "run").begin(1000)
    assert not (tmp_path / "a").exists()


def test_files_that_a_round_refuses_leave_those_of_the_round_before_in_place(tmp_path):
    stored, recording, results = storing(tmp_path)
    (tmp_path / "a").write_bytes(b"of somebody else")
    with pytest.raises(OutputError, match="'a'"):
        results.write([stored_file(1, b"a", b"x"), entry(record(1))], {}, recording)
    assert "commit" not in recording.names()
    stored.close()
    StoredFiles(tmp_path, "run").begin(1000)
    assert (tmp_path / "a").read_bytes() == b"of somebody else"


def test_files_of_a_grant_that_is_over_are_kept_no_longer_where_they_do_not_count(tmp_path):
    stored, recording, results = storing(tmp_path)
    files = [stored_file(1, b"a", b"x"), stored_file(2, b"b", b"y"), stored_file(3, b"c", b"z", token=6)]
    results.write([*files, entry(record(1)), {"kind": "files_over", "token": 5}], {}, recording)
    assert (tmp_path / "a").exists()
    assert (2, "5") not in stored
    assert (3, "6") in stored
    assert [path.name for path in (stored.folder / "coming").rglob("*") if path.is_file()] == ["c"]
