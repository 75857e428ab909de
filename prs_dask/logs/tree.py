"""The ``logs/`` tree: one method for each kind of news that reaches the driver.

Nothing here fails the job: what cannot be written is counted (`LogTree.files`). Everything shows
up at once but ``user/error.txt`` and the summaries of processes and nodes, which are rewritten every second at
most. What worker processes print is kept byte for byte; what the tree says itself has its secrets taken out and
control characters shown. Several threads may write: the driver, its timer, and whoever has a note.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar, cast

from prs_dask.attempts.records import AttemptError, AttemptRecord, Category, unpack
from prs_dask.logs import places
from prs_dask.logs.attempt_fields import attempt_fields
from prs_dask.logs.attempt_reader import iter_attempts
from prs_dask.logs.attempt_table import HEADER, Details, format_attempts, has_read_seconds
from prs_dask.logs.due import Every
from prs_dask.logs.error_groups import ErrorGroups
from prs_dask.logs.failed_items import MISSING_RESULT, failed_lines, is_kept, missing_result
from prs_dask.logs.first_look import look_first
from prs_dask.logs.job_result import JobResult
from prs_dask.logs.lines import LineFormat, encoded
from prs_dask.logs.log_files import LogFiles
from prs_dask.logs.master_role import MasterRole
from prs_dask.logs.overview import Overview
from prs_dask.logs.process_events import EVENTS_HEADER, ProcessEvent, format_event, read_events
from prs_dask.logs.process_lives import ProcessLives
from prs_dask.logs.process_table import PROCESS_HEADER, format_process_rows
from prs_dask.logs.progress_table import ProgressTable
from prs_dask.logs.roll_up import RollUp
from prs_dask.logs.run_folder import RunFolder
from prs_dask.logs.sent_files import SentFiles
from prs_dask.logs.source_lines import SourceLines
from prs_dask.logs.summary import Progress, StepSummary
from prs_dask.logs.summary_tables import ProcessSummary, add_rows, node_summary
from prs_dask.logs.text import NO_NODE, one_line, plain, process_name, utc_text
from prs_dask.logs.usage_tables import UsageTables
from prs_dask.redaction import Redactor
from prs_dask.relative_names import relative_name

__all__ = ["LogTree"]

_ERRORS_EVERY = 1.0
_SUMMARIES_EVERY = 1.0
_FULL_TRACEBACKS = 1000
"""Of one distinct error; each further one is a line, for a million tracebacks help nobody."""

_Method = TypeVar("_Method", bound=Callable[..., Any])


def _one_at_a_time(method: _Method) -> _Method:
    """A method that no two threads are in together."""

    @functools.wraps(method)
    def alone(self: LogTree, *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            return method(self, *args, **kwargs)

    return cast("_Method", alone)


class LogTree:
    """Writes ``<run folder>/logs``; times are seconds since the epoch.

    Parameters
    ----------
    folder
        ``logs/``. What is there already is appended to.
    redactor
        Knows the step run's secrets.
    on_trouble
        Called once when a log cannot be written, with what failed.
    as_json
        Whether the lines of driver, overview, scheduler and engine are JSON objects.
    """

    def __init__(
        self,
        folder: Path,
        redactor: Redactor | None = None,
        on_trouble: Callable[[str], None] | None = None,
        *,
        as_json: bool = False,
    ) -> None:
        self.files = LogFiles(folder, on_trouble)
        self._sent_files = SentFiles(self.files)
        self._lock = threading.RLock()
        self._redact = (redactor or Redactor()).text
        self._lines = LineFormat(self._redact, as_json=as_json)
        self._source_lines = SourceLines(RunFolder(folder.parent).source_zip)
        self.errors = ErrorGroups(source_of=self._source_line)
        self._overview = Overview(self.files, self._lines)
        self._progress_table = ProgressTable(self.files)
        self._usage = UsageTables(self.files, self._redact)
        self._errors_changed = False
        self._errors_due = Every(_ERRORS_EVERY)
        self._master_role = MasterRole(self.files, self._lines)
        self._read_seconds = True
        self._roll_up = RollUp()
        self._lives = ProcessLives()
        self._process_summary = ProcessSummary()
        self._summaries_changed = False
        self._summaries_due = Every(_SUMMARIES_EVERY)

    @_one_at_a_time
    def add_stream(
        self,
        stream: str,
        node: int,
        process: int,
        data: bytes,
        name: bytes = b"",
        *,
        whole: bool = False,
        more: bool = False,
    ) -> None:
        """The next piece of a file of a process.

        Parameters
        ----------
        stream
            A kind of `places.STREAMS`.
        name
            What the script calls it, where its kind has many files.
        whole, more
            See `SentFiles.add`.
        """
        path = places.STREAMS[stream]
        try:
            names = {"name": relative_name(name)} if "{name}" in path else {}
        except ValueError as error:  # no process of ours sends one
            self.engine_error("logs", str(error), time.time())
            return
        path = path.format(node=node, process=process_name(process), **names)
        self._sent_files.add(path, data, whole=whole, more=more)

    @_one_at_a_time
    def add_usage(self, node: int, data: bytes, now: float) -> None:
        """Samples of a node's resource monitor, whole lines of them."""
        for trouble in self._usage.add(node, data):
            self.engine_error("resource_monitor", f"on node {node}: {trouble}", now)

    @_one_at_a_time
    def add_attempts(
        self,
        node: int,
        process: int,
        records: bytes,
        details: Details = None,
        errors: Mapping[int, AttemptError] | None = None,
        names: Mapping[int, object] | None = None,
        *,
        ip: str = "",
        pid: int = 0,
    ) -> None:
        """Attempts that ended: their rows of the tables, and the errors of those that failed.

        Parameters
        ----------
        node, process
            Where they ran; -1 where both were lost.
        records
            Packed `AttemptRecord`.
        details
            What a mini-batch holds, by its id.
        errors
            By mini-batch id.
        names
            What to call those whose number is no id: parts of bisected mini-batches.
        ip, pid
            Of the process; nothing where they are not known.
        """
        if not records:
            return
        fields = attempt_fields(records, names)
        rows = format_attempts(
            node, process, records, details, errors, self._redact, fields=fields, read_seconds=self._read_seconds
        )
        self.files.append(places.ATTEMPTS, rows, HEADER)
        if NO_NODE not in (node, process):
            own = places.PROCESS_ATTEMPTS.format(node=node, process=process_name(process))
            self.files.append(own, format_process_rows(ip, pid, fields), PROCESS_HEADER)
        self._roll_up.add(node, process, records)
        self._summaries_changed = True
        if not errors:
            return
        look_up = details.get if isinstance(details, Mapping) else details
        for record in unpack(records):
            error = errors.get(record.mini_batch)
            if error is None or record.category == Category.SUCCEEDED:
                continue
            name = (names or {}).get(record.mini_batch, record.mini_batch)
            self._master_role.attempt(name, node, process, record, error)
            if record.category == Category.OVERTAKEN:
                continue  # no error of the script
            what = f"mini-batch {name}, attempt {record.attempt}"
            detail = look_up(record.mini_batch) if look_up is not None else None
            label = Category(record.category).label
            when = record.started + record.elapsed
            self._add_error(node, process, error, when, what, label, detail or "", str(name))

    @_one_at_a_time
    def add_process_error(self, node: int, process: int, error: AttemptError, when: float, doing: str) -> None:
        """What went wrong in a process outside of mini-batches; ``doing``: ``"loading the entry script"``,
        ``"shutdown()"``, ``"waiting for a mini-batch"``."""
        self._add_error(node, process, error, when, doing, "", "")

    @_one_at_a_time
    def add_process_event(self, event: ProcessEvent) -> None:
        """What became of a worker process; what was told before is passed over."""
        event = event._replace(why=self._redact(event.why))
        if self._lives.add(event):
            self.files.append(places.PROCESS_EVENTS.format(node=event.node), format_event(event), EVENTS_HEADER)
            self._master_role.process(event)
            self._summaries_changed = True

    @_one_at_a_time
    def add_failed_items(
        self,
        mini_batch: int,
        items: Sequence[str] | None,
        attempts: int,
        category: str,
        message: str,
        count: int = 0,
        part: object = None,
    ) -> None:
        """Items that failed for good, a line each in ``user/failed_items.jsonl``.

        Parameters
        ----------
        items
            Paths or row numbers; None where only their ``count`` is known: one line for all of them.
        category
            ``Category.label`` of the last attempt.
        message
            What it said.
        part
            Which items of the mini-batch, where it was bisected: shown as ``7[3:4]``.
        """
        lines = failed_lines(mini_batch, items, attempts, category, message, count, part, self._redact)
        self.files.append(places.FAILED_ITEMS, lines)

    @_one_at_a_time
    def add_missing_results(self, short: Iterable[tuple[AttemptRecord, str | None, tuple[int, object] | None]]) -> None:
        """Items that a short result lacks, a line a mini-batch in ``user/failed_items.jsonl``.

        Parameters
        ----------
        short
            The attempt; the item, where it is the only one; and of a part, its mini-batch and which part it is.
        """
        lines = []
        for record, only_item, of_part in short:
            number, part = of_part or (record.mini_batch, None)
            items = None if only_item is None else [only_item]
            missing = (record.attempt, MISSING_RESULT, missing_result(record), record.items - record.results)
            lines.append(failed_lines(number, items, *missing, part, self._redact))
        self.files.append(places.FAILED_ITEMS, b"".join(lines))

    @_one_at_a_time
    def progress(self, progress: Progress | Callable[[], Progress], now: float) -> None:
        """Call as often as you like: the overview and the table of progress get a line when one is due.

        Parameters
        ----------
        progress
            How far it is; or who knows that, asked when no other thread can write an older answer behind it.
        now
            Seconds since the epoch.
        """
        progress = progress if isinstance(progress, Progress) else progress()
        self._overview.update(progress, now)
        self._progress_table.update(progress, now)
        self._master_role.progress(progress, now)

    def driver(self, text: str, now: float, event: str = "note", **fields: Any) -> None:
        """A line of ``driver_log.txt``; ``event`` and ``fields`` are for JSON, see `LineFormat`."""
        self._line(places.DRIVER_LOG, "driver", text, now, event=event, fields=fields)

    @_one_at_a_time
    def scheduler(self, text: str, now: float) -> None:
        """A line of ``sys/master_role.txt``: what the scheduler's side saw."""
        self._master_role.note(text, now)

    def engine_error(self, component: str, text: str, now: float) -> None:
        """A fault of the engine itself: ``sys/error/<component>.txt``."""
        name = "".join(c if c.isalnum() or c in "_-" else "_" for c in component)[:60] or "unknown"
        fields = {"component": component}
        self._line(
            places.ENGINE_ERROR.format(component=name), "error", text, now, event="fault", level="ERROR", fields=fields
        )

    @_one_at_a_time
    def resumed(self, text: str, now: float, *, failed_again: bool) -> None:
        """A further part of the step run begins: what is there is added to, and what is no longer true goes.

        Parameters
        ----------
        failed_again
            What had failed for good is tried again, and is not listed as failed meanwhile; what is missing in a short
            result stays listed, for its mini-batch has not failed.
        """
        self._sent_files.forget_earlier()
        with self._gap_in("the logs", "torn lines may stand in what is added to", now):
            self._cut_torn_lines()
        self._overview.line(text, now, event="resumed")
        self._go_on_with_errors()
        self.files.remove(places.JOB_RESULT)
        self.files.remove(places.JOB_RESULT_JSON)
        self._read_seconds = has_read_seconds(self.files.first_line(places.ATTEMPTS))
        with self._gap_in(places.ATTEMPTS, "the summaries of processes and nodes lack attempts", now):
            rows = iter_attempts(self.files.folder / places.ATTEMPTS, resumed=True)
            add_rows(self._roll_up, rows, failed_again=failed_again)
        events = places.PROCESS_EVENTS.format(node="*")
        with self._gap_in(events, "the summaries of processes and nodes lack starts and ends", now):
            self._go_on_with_processes()
        if failed_again:
            self.files.keep_lines(places.FAILED_ITEMS, is_kept)

    @_one_at_a_time
    def tick(self, now: float) -> None:
        """Call it every second or so: rewrite ``user/error.txt`` and ``error.json``, and the summaries of processes
        and nodes, if they are due."""
        self._master_role.tick(now)
        if self._errors_changed and self._errors_due(now):
            self._errors_changed = False
            self.files.rewrite(places.ERRORS, encoded(self.errors.text()))
            self.files.rewrite(places.ERRORS_JSON, encoded(self.errors.to_json()))
        if self._summaries_changed and self._summaries_due(now):
            self._summaries_changed = False
            self.files.rewrite(places.PROCESS_SUMMARY, self._process_summary(self._roll_up, self._lives))
            self.files.rewrite(places.NODE_SUMMARY, node_summary(self._roll_up, self._lives))

    @_one_at_a_time
    def explanation(self, summary: StepSummary) -> str:
        """What went wrong in the user's code, in a few lines, with the log that tells more; empty where nothing did."""
        if digest := self.errors.digest(str(self.files.folder)):
            return digest
        if not summary.failed_items:
            return ""
        return (
            "run() returned fewer results than it was given items, and what is missing counts as failed;"
            f" in which mini-batches: {self.files.folder / places.ATTEMPTS}"
        )

    @_one_at_a_time
    def finish(
        self,
        summary: StepSummary,
        now: float,
        *,
        cause: str = "",
        output: str = "",
        open_first: str = "",
        resume: str = "",
        missing_logs: str = "",
    ) -> str:
        """The step run has ended: ``job_result.txt``, the overview's last lines, ``error.txt``.

        Parameters
        ----------
        summary
            Of all parts.
        now
            Seconds since the epoch.
        cause, output, open_first, resume
            See `JobResult`; ``open_first`` is found where it is not given.
        missing_logs
            What of the logs did not come in time.

        Returns
        -------
        str
            The text of ``job_result.txt``.
        """
        self._errors_due.due_now()
        self._summaries_due.due_now()
        self.tick(now)
        self._master_role.tell_left_out(now)
        first = look_first(
            self.files.folder,
            summary.state,
            errors=self.errors.worst() is not None,
            results_missing=bool(summary.failed_items),
        )
        told = (cause, output, open_first or str(first or ""), resume)
        result = JobResult(summary, *map(self._redact, told))
        text = result.text()
        if missing_logs:
            text += f"Logs: {one_line(missing_logs)}\n"
        if self.files.failures:
            text += f"Logs: {self.files.failures:,} writes failed, first {one_line(self.files.first_failure)}\n"
        self.files.rewrite(places.JOB_RESULT, encoded(text))
        self.files.rewrite(places.JOB_RESULT_JSON, encoded(result.to_json()))
        level = "INFO" if summary.state == "Completed" else "ERROR"
        fields = asdict(result)
        self._overview.line(text, now, event="end", level=level, fields={**fields.pop("summary"), **fields})
        self._sent_files.close()
        self.files.close()
        return text

    def _add_error(
        self,
        node: int,
        process: int,
        error: AttemptError,
        when: float,
        what: str,
        category: str,
        detail: str,
        mini_batch: str = "",
    ) -> None:
        lost = NO_NODE in (node, process)
        log = places.LOST_WORKERS if lost else places.PROCESS_ERRORS.format(node=node, process=process_name(process))
        message = self._redact(error.message)
        detail = self._redact(detail)
        example = f"{what}, {detail}" if detail else what
        count = self.errors.add(error._replace(message=message), example, log, mini_batch=mini_batch, when=when)
        self._errors_changed = True
        head = f"{utc_text(when)} {what}{', ' * bool(category)}{category}: {one_line(error.type)}: {one_line(message)}"
        blocks = [f"{head} [{detail}]" if detail else head]
        if count > _FULL_TRACEBACKS:
            blocks.append(f"(seen {count:,} times by now; its traceback stands above or in other files)")
        else:
            blocks += [self._redact(text).strip("\n") for text in (error.traceback,) if text]
            if error.process_output:
                blocks += ["output of the subprocess:", self._redact(error.process_output).strip("\n")]
        self.files.append(log, encoded(plain("\n".join(blocks)) + "\n\n"))

    def _source_line(self, error: AttemptError) -> str:
        return self._redact(self._source_lines.of(error))

    def _go_on_with_errors(self) -> None:
        """Those of earlier parts are counted on; where nobody can tell them, their text is kept under another name."""
        try:
            before = ErrorGroups.from_json((self.files.folder / places.ERRORS_JSON).read_bytes())
        except (OSError, ValueError):
            self.files.set_aside(places.ERRORS)
        else:
            self.errors = before.next_part(self._source_line)
            self._errors_changed = bool(before.total)

    @contextlib.contextmanager
    def _gap_in(self, name: str, what: str, now: float) -> Iterator[None]:
        """Around what reads logs of earlier parts: the step run goes on without those that cannot be read."""
        try:
            yield
        except Exception as error:  # the disk's, or of what stands in a damaged table
            why = one_line(f"{type(error).__name__}: {error}")
            self.driver(f"of earlier parts {name} cannot be read, so {what}: {why}", now)

    def _cut_torn_lines(self) -> None:
        """Of all that a further part adds to."""
        tables = (places.ATTEMPTS, places.FAILED_ITEMS, places.METRICS, places.PROGRESS)
        logs = (places.DRIVER_LOG, places.MASTER_ROLE, places.LOST_WORKERS)
        many = (
            places.OVERVIEW.format(hour="*"),
            places.ENGINE_ERROR.format(component="*"),
            places.PROCESS_EVENTS.format(node="*"),
        )
        found = (str(path.relative_to(self.files.folder)) for one in many for path in self.files.folder.glob(one))
        for name in chain(tables, logs, found):
            self.files.cut_torn_line(name)
        self._usage.cut_torn_lines()

    def _go_on_with_processes(self) -> None:
        """Those of earlier parts are known; where they lived, they have died with it."""
        self._summaries_changed = True
        try:
            for event in read_events(self.files.folder):
                self._lives.add(event)
        finally:
            self._lives.break_off()

    @_one_at_a_time
    def _line(self, name: str, log: str, text: str, now: float, **how: Any) -> None:
        self.files.append(name, self._lines.line(log, text, now, **how))
