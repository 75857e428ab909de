"""One execution of a step: from submit to the last line of its logs.

Everything happens in a thread of its own::

    open the cluster -> engine.step_run -> finish the output -> job_result -> close the cluster

The thread's end is the step run's end: whoever waits sees an output that is complete under its name,
or a ``.partial`` that is cut to its last commit.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prs_dask.attempts.gpus import wished_gpus
from prs_dask.attempts.judge import Verdict
from prs_dask.attempts.progress import ProgressMeter
from prs_dask.cancellation import Canceled, Cancellation
from prs_dask.datasets import Dataset
from prs_dask.engine.parcels import SentBytes, SentTree, SideInput
from prs_dask.engine.results import Results
from prs_dask.engine.run_settings import RunSettings, WorkerSettings
from prs_dask.engine.spool import sweep_abandoned
from prs_dask.engine.step_run import Situation, StepRunDriver
from prs_dask.engine.submission import Submission
from prs_dask.errors import PrsError, StepRunFailed
from prs_dask.logs.resume_hint import resume_hint
from prs_dask.logs.run_folder import RunFolder
from prs_dask.logs.summary import Progress, StepSummary
from prs_dask.logs.text import plain
from prs_dask.logs.ticking import Ticking
from prs_dask.logs.tree import LogTree
from prs_dask.output.journal import Failure, JournalState, iter_failures
from prs_dask.pipeline.driver_log import DriverLog
from prs_dask.pipeline.preparation import Preparation
from prs_dask.pipeline.progress_html import ShownRun, progress_html
from prs_dask.pipeline.progress_news import OnProgress, ProgressNews
from prs_dask.pipeline.progress_shown import shown_progress
from prs_dask.pipeline.recording import TreeRecorder
from prs_dask.pipeline.report_at_end import ReportAtEnd
from prs_dask.pipeline.run_files import RunFiles
from prs_dask.pipeline.side_inputs import Places
from prs_dask.pipeline.spans import spans_for
from prs_dask.pipeline.standstill import Standstill
from prs_dask.quantities import format_seconds
from prs_dask.redaction import Redactor
from prs_dask.report.writing import write_report

if TYPE_CHECKING:
    from prs_dask.clusters import OpenCluster
    from prs_dask.config import ParallelRunConfig
    from prs_dask.mini_batches import MiniBatch
    from prs_dask.pipeline.resume import Earlier
    from prs_dask.pipeline.step import ParallelRunStep

__all__ = ["StepRun"]

EXIT_SECONDS = 30.0
NEWS_SECONDS = 5.0
"""So long the end waits for the last call of ``on_progress``."""

UNUSED_SECONDS = 0.5
"""So long after the first mini-batch was handed out the workers of a cluster have come, and who is not used is told."""


class StepRun:
    """A step run that has been submitted; made by `ParallelRunStep.submit`.

    Attributes
    ----------
    run_folder, log_dir, output_dir
        Folders.
    output_file
        The one file with all rows; None with summary_only. It stands there when the step run has completed.
    error
        Why it failed or was canceled; None while it runs or when it has completed.
    resume_hint
        How to go on with it when it has not completed: a command, or a call where only a program can.
    """

    def __init__(
        self,
        *,
        step: ParallelRunStep,
        config: ParallelRunConfig,
        preparation: Preparation,
        arguments: tuple[str, ...],
        record: dict[str, Any],
        run_folder: RunFolder,
        output_folder: Path,
        compute_target: Any,
        input_paths: tuple[tuple[str, str], ...],
        places: Places,
        files: RunFiles,
        mini_batches: Callable[[], Iterator[MiniBatch | None]],
        notes: Sequence[str] = (),
        earlier: Earlier | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._prepare(step, record, run_folder, output_folder)
        self._config = config
        self._preparation = preparation
        self._arguments = arguments
        self._record = record
        self._compute_target = compute_target
        self._input_paths = input_paths
        self._places = places
        self._files = files
        self._mini_batches = mini_batches
        self._notes = notes
        self._earlier = earlier
        if earlier is not None:
            self._situation = Situation(counts=earlier.counts, rows=earlier.rows)
        secrets = [dataset.secrets for dataset in (*step.inputs, *step.placed) if isinstance(dataset, Dataset)]
        self._redactor = Redactor([vars(config), {"storage_options": secrets}])
        self._tree = LogTree(run_folder.logs, self._redactor, as_json=config.logging_format == "json")
        self._log = DriverLog(self._tree, self._submitted)
        self._spans = spans_for(self.id, self.name, self._redactor.text, self._log.note)
        self._thread = threading.Thread(target=self._main, name=f"prs-{self.id}", daemon=True)
        self._thread.start()
        self._tell_progress(on_progress)
        atexit.register(self._interpreter_ends)

    def _prepare(
        self, step: ParallelRunStep, record: Mapping[str, Any], run_folder: RunFolder, output_folder: Path
    ) -> None:
        settings = record["settings"]
        self.id: str = record["run_id"]
        self.name = step.name
        self.run_folder = run_folder.path
        self.log_dir = run_folder.logs
        self.output_dir = output_folder
        self.output_file: Path | None = None
        if settings["output_action"] == "append_row":
            self.output_file = output_folder / settings["append_row_file_name"]
        self.error: str | None = None
        self.resume_hint = resume_hint(record)
        self._step = step
        self._folder = run_folder
        self._submitted = time.monotonic()
        self._state, self._stage = "Running", "preparing"
        self._result_text = ""
        self._situation = Situation()
        self._meter = ProgressMeter()
        self._standstill = Standstill()
        self._told_unused = False
        self._summary: StepSummary | None = None
        self._driver: StepRunDriver | None = None
        self._cancel = ("", "")
        self._cancellation = Cancellation()
        self._ticking: Ticking | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._report = ReportAtEnd(run_folder, self._note_report)
        self._news: ProgressNews | None = None

    @classmethod
    def of_completed(cls, step: ParallelRunStep, earlier: Earlier, on_progress: OnProgress | None = None) -> StepRun:
        """A step run that an earlier driver has completed; nothing is changed."""
        run = cls.__new__(cls)
        run._prepare(step, earlier.record, earlier.folder, Path(earlier.record["output"]))
        run._state = "Completed"
        run._earlier = earlier
        run._situation = Situation(counts=earlier.counts, total=earlier.counts.supplied, rows=earlier.rows)
        run._summary = run._counted()
        run._result_text = f"{run.run_folder}: completed already; nothing is left to do\n"
        run._ended.set()
        run._report.leave_out()
        earlier.lock.release()
        run._tell_progress(on_progress)
        return run

    def _tell_progress(self, on_progress: OnProgress | None) -> None:
        if on_progress is not None:
            self._news = ProgressNews(on_progress, self.progress, self._ended, self._complain)

    def _complain(self, text: str) -> None:
        """Something of the user's does not work that the step run can do without."""
        print(f"prs_dask: {plain(text)}", file=sys.stderr, flush=True)

    # ---------------------------------------------------------------- what users ask

    def get_status(self) -> str:
        """``"Running"``, ``"Completed"``, ``"Failed"`` or ``"Canceled"``."""
        return self._state

    def wait_for_completion(
        self, show_output: bool = False, timeout_seconds: float | None = None, raise_on_error: bool = True
    ) -> str:
        """Wait for the end, and for the report that is written then.

        Parameters
        ----------
        show_output
            Show how far it is: in a notebook a card that changes in place, else a line of the overview every 10 s
            and at each change; and the result.
        timeout_seconds
            Longest wait; the step run goes on afterwards. What has ended is not waited for any longer: its report may
            come later.
        raise_on_error
            Raise where the step run has not completed.

        Returns
        -------
        str
            ``"Completed"``, ``"Failed"`` or ``"Canceled"``.

        Raises
        ------
        StepRunFailed
            It failed or was canceled.
        TimeoutError
            It has not ended yet.
        ClusterError
            It would block the event loop in which the cluster's scheduler runs.
        """
        self._refuse_to_block("wait_for_completion")
        until = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        shown = shown_progress(self._shown) if show_output else None
        try:
            while not self._ended.wait(0.1 if shown else _left(until, 3600.0)):
                if shown is not None:
                    shown.update(self.progress())
                if until is not None and time.monotonic() >= until:
                    raise TimeoutError(f"the step run has not ended after {timeout_seconds:g} s; it goes on")
        except BaseException:
            if shown is not None:
                shown.leave()
            raise
        if shown is not None:
            shown.end(self._result_text)
        if self._news is not None:
            self._news.join(NEWS_SECONDS)
        self._report.is_over(None if until is None else _left(until, 3600.0))
        if raise_on_error and self._state != "Completed":
            raise StepRunFailed(self._state, self.error or "", str(self.run_folder), self.resume_hint)
        return self._state

    def wait_for_end(self, timeout_seconds: float | None = None) -> bool:
        """Wait until it has ended: output and logs are complete, only the report may still be written.

        Parameters
        ----------
        timeout_seconds
            Longest wait; None: without limit.

        Returns
        -------
        bool
            Whether it has ended.
        """
        if timeout_seconds != 0:
            self._refuse_to_block("wait_for_end")
        return self._ended.wait(timeout_seconds)

    def _refuse_to_block(self, call: str) -> None:
        if not self._ended.is_set():
            from prs_dask.clusters import refuse_to_block

            refuse_to_block(f"step_run.{call}", self._compute_target)

    def wait_for_report(self, timeout_seconds: float | None = None) -> bool:
        """Wait until the report that is written at the end is there, or it is known that none will be.

        Parameters
        ----------
        timeout_seconds
            Longest wait; None: without limit.

        Returns
        -------
        bool
            Whether there is nothing more to wait for; `report_file` tells whether it is there.
        """
        return self._report.is_over(timeout_seconds)

    def cancel(self) -> None:
        """End it in order: what runs is stopped, what was finished is kept. Returns when that is done.

        Where it has ended already, the report that may still be written is left out.

        Raises
        ------
        ClusterError
            It would block the event loop in which the cluster's scheduler runs; nothing is done.
        """
        self._refuse_to_block("cancel")
        if self._ended.is_set():
            self._report.give_up()
        self._stop("as it was asked to, with cancel() or Ctrl-C")
        self._ended.wait()

    def kill(self) -> None:
        """End it at once, without waiting for workers, and without a report. The run folder stays as it is."""
        self._report.give_up()
        self._stop("it was ended at once")
        driver = self._driver
        if driver is not None:
            driver.hurry()

    def _stop(self, cause: str) -> None:
        with self._lock:
            if self._state != "Running" or self._cancel[0]:
                return
            self._cancel = ("Canceled", cause)
            self._stage = "canceling"
            if self._driver is not None:
                self._driver.stop(*self._cancel)
        self._cancellation.ask()

    def summary(self) -> StepSummary:
        """Counts and times; of the moment while it runs, final when it has ended."""
        return self._summary if self._summary is not None else self._counted()

    def _counted(self) -> StepSummary:
        situation = self._situation
        counts = situation.counts
        return StepSummary(
            state=self._state,
            mini_batches=situation.total if situation.total is not None else counts.supplied,
            succeeded_mini_batches=counts.succeeded,
            failed_mini_batches=counts.failed,
            items=counts.items,
            succeeded_items=counts.succeeded_items,
            failed_items=counts.failed_items,
            attempts=counts.attempts,
            rows=situation.rows if self.output_file is not None else 0,
            seconds=situation.seconds,
            total_seconds=time.monotonic() - self._submitted,
        )

    def progress(self) -> Progress:
        """How far it is, now."""
        situation, now = self._situation, time.monotonic()
        counts = situation.counts
        ended = counts.succeeded + counts.failed
        here = ended - (self._earlier.counts.supplied if self._earlier is not None else 0)
        running = self._state == "Running"
        return Progress(
            state=self._state,
            stage=(self._standstill.stage(now) if self._stage == "running" else "") or self._stage,
            total=situation.total,
            created=counts.supplied,
            succeeded=counts.succeeded,
            failed=counts.failed,
            running=counts.running,
            failed_items=counts.failed_items,
            items=counts.items,
            rate=self._meter.rate(now) if running else here / situation.seconds if situation.seconds else 0.0,
            seconds_left=self._meter.seconds_left(now, ended, situation.total) if running else 0.0,
            elapsed=now - self._submitted if running else self.summary().total_seconds,
        )

    def report(self) -> Path:
        """Write ``report.html``: what happened so far, as one page that needs no network.

        Returns
        -------
        Path
            ``report.html`` in the run folder. One that is there already is replaced.

        Raises
        ------
        SettingsError
            The extra ``report`` is not installed.
        OutputError
            The file cannot be written.
        """
        return write_report(self.run_folder)

    @property
    def report_file(self) -> Path | None:
        """``report.html`` once it was written at the end; None before, and where it was not."""
        return self._report.path

    def failed_items(self) -> Iterator[Failure]:
        """Mini-batches that failed for good and were not opened again, from the journal, in the order they did."""
        return iter_failures(self._folder.journal)

    def _shown(self, note: str = "") -> ShownRun:
        output = self.output_file if self._state == "Completed" else None
        return ShownRun(
            name=self.name,
            run_folder=str(self.run_folder),
            progress=self.progress(),
            output="" if output is None else str(output),
            error=self.error or "",
            resume=self.resume_hint if self._state in ("Failed", "Canceled") else "",
            note=note,
        )

    def _repr_html_(self) -> str:
        now = f"{time.strftime('%H:%M:%S', time.gmtime())} UTC"
        note = f"as of {now}; wait_for_completion(show_output=True) follows it" if self._state == "Running" else ""
        return progress_html(self._shown(note))

    def __repr__(self) -> str:
        return f"StepRun(id={self.id!r}, state={self._state!r}, run_folder={str(self.run_folder)!r})"

    # ---------------------------------------------------------------- the thread

    def _main(self) -> None:
        verdict = Verdict("Failed", "it was never started")
        cluster: OpenCluster | None = None
        try:
            self._log_start()  # first: what an earlier part has left torn is cut off before anything is added
            self._ticking = Ticking(self._tick, self._cannot_tick)
            if self._files.is_finished:  # an earlier driver was killed when it had given the output its name
                verdict = Verdict("Completed")
            else:
                self._bring_side_inputs()
                self._enter("starting workers")
                cluster = self._open_cluster()
                verdict = self._drive(cluster)
            self._enter("finishing the output")
            verdict = self._finish_output(verdict)
        except Canceled:
            verdict = Verdict(*self._cancel)
        except PrsError as error:
            verdict = self._after(error)
        except BaseException as error:
            text = traceback.format_exc()
            self._tree.engine_error("driver", text, time.time())
            verdict = Verdict("Failed", f"internal error of prs_dask: {type(error).__name__}: {error}")
        finally:
            try:
                self._end(verdict, cluster)
            except BaseException as error:
                self._tree.engine_error("driver", traceback.format_exc(), time.time())
                if self._state == "Running":
                    self.error = f"the step run could not be ended in order: {type(error).__name__}: {error}"
                    self._state = "Failed"
                self._result_text = self._result_text or f"{self._state}: {self.error or 'its logs are not complete'}\n"
            finally:
                self._stop_ticking()
                self._driver = None  # who keeps a step run that has ended does not keep its Client and cluster
                self._ended.set()
                self._report.write()
                atexit.unregister(self._interpreter_ends)

    def _after(self, error: PrsError) -> Verdict:
        """How a step run ends after an error: one that came while it was ending anyway is only noted."""
        if not self._cancel[0]:
            return Verdict("Failed", str(error))
        self._log.note(f"while it was canceled: {error}")
        return Verdict(*self._cancel)

    def _enter(self, stage: str) -> None:
        with self._lock:
            if self._stage != "canceling":
                self._stage = stage
        self._log.enter(stage)
        self._tree.progress(self.progress, time.time())

    def _tick(self) -> None:
        """From a thread of its own, whatever this one waits for."""
        now = time.time()
        self._tree.progress(self.progress, now)
        self._tree.tick(now)

    def _stop_ticking(self) -> None:
        ticking, self._ticking = self._ticking, None
        if ticking is not None:
            ticking.stop()

    def _cannot_tick(self, error: BaseException) -> None:
        self._tree.engine_error("logs", "".join(traceback.format_exception(error)), time.time())

    def _log_start(self) -> None:
        for line in self._beginning():
            self._log.note(line)
        self._log.begins(self._record, self._step.options, self._step.inputs, self.output_dir)

    def _beginning(self) -> list[str]:
        """Where a resume begins, in the logs of what came before."""
        notes = []
        if not self._files.lock.works:
            notes.append("the run folder's file system knows no locks: nobody is kept from it")
        if self._earlier is None:
            return notes
        counts = self._earlier.counts
        text = (
            f"resumed, part {self._earlier.journal.resumed + 2}: before it {counts.succeeded:,} mini-batches succeeded"
            f" and {counts.failed:,} failed; the others are run"
        )
        self._tree.resumed(text, time.time(), failed_again=self._earlier.retry_failed)
        return [text, *notes, *self._notes]

    def _bring_side_inputs(self) -> None:
        if not self._step.placed:
            return
        self._enter("bringing side inputs")
        if self._earlier is not None:  # its driver may have been killed in the middle of this
            shutil.rmtree(self.run_folder / "side_inputs", ignore_errors=True)
        try:
            self._places.bring(self._cancellation)
        except OSError as error:
            raise PrsError(f"a side input could not be brought: {error}") from error

    def _open_cluster(self) -> OpenCluster:
        from prs_dask.clusters import open_cluster

        config = self._config
        return open_cluster(
            self._compute_target,
            config.process_count_per_node,
            config.node_count,
            processes_per_gpu=config.processes_per_gpu,
            wished_gpus=wished_gpus(config.environment_variables),
            tell=self._log.note,
            cancellation=self._cancellation,
        )

    def _note_cluster(self, cluster: OpenCluster) -> None:
        for note in cluster.notes:
            self._log.note(note)
            self._complain(note)
        self._log.cluster(cluster.client, self._cancellation)

    def _compare_versions(self, cluster: OpenCluster) -> None:
        """Of a cluster that was running already; what was started here runs what runs here."""
        from prs_dask.clusters import check_versions

        if not cluster.owned:
            pickles_script = self._preparation.script_object is not None
            note = check_versions(cluster.client, self._cancellation, pickles_script=pickles_script)
            if note:
                self._log.note(note, "versions differ")

    def _sent_side_inputs(self) -> tuple[SideInput, ...]:
        try:
            return self._places.sent(self._step.inputs)
        except OSError as error:
            raise PrsError(f"a side input is not there any more: {error}") from error

    def _drive(self, cluster: OpenCluster) -> Verdict:
        self._note_cluster(cluster)
        self._compare_versions(cluster)
        config, preparation, files, earlier = self._config, self._preparation, self._files, self._earlier
        journal = earlier.journal if earlier is not None else JournalState()
        submission = Submission(self._mini_batches(), files.manifest)
        recorder = TreeRecorder(self._tree, submission.mini_batch, submission.details, self._spans)
        results = Results(
            files.committer,
            files.journal,
            files.pieces,
            recorder,
            self._situation.rows,
            self._redactor.text,
            files.stored,
        )
        source = preparation.source
        side_inputs = self._sent_side_inputs()
        worker_settings = WorkerSettings(
            run_id=self.id,
            script=source.script if source is not None else None,
            script_object=preparation.script_object,
            source_digest=source.digest if source is not None else None,
            arguments=self._arguments,
            readers=preparation.readers,
            row_format=preparation.rows,
            logging_level=config.logging_level,
            logging_format=config.logging_format,
            limits=preparation.limits,
            environment=dict(config.environment_variables),
            memory_limit=config.memory_limit_per_process,
            input_cache_size=config.input_cache_size,
            output_folder=str(self.output_dir),
            output_mark=files.stored.token,
            monitor_interval=self._step.options.resource_monitor_interval,
            profiling_module=self._step.options.profiling_module,
            requirements=config.requirements,
            side_inputs=side_inputs,
            input_names=preparation.input_names,
            input_paths=self._input_paths,
            surplus_gpu_processes=config.surplus_gpu_processes,
        )
        settings = RunSettings(
            run_id=f"{self.id}.{journal.resumed + 1}" if earlier is not None else self.id,
            limits=preparation.limits,
            processes_per_node=config.process_count_per_node,
            node_count=None if cluster.owned else config.node_count,
            first_process=journal.process_numbers,
            already=self._situation.counts,
            partly_done=journal.partly_done,
            header=earlier.header if earlier is not None else None,
            processes_per_gpu=config.processes_per_gpu,
            wished_gpus=wished_gpus(config.environment_variables),
        )
        driver = StepRunDriver(
            cluster.client,
            settings,
            pickle.dumps(worker_settings, 5),
            [SentBytes(source.data if source is not None else b""), *(SentTree(one.data) for one in side_inputs)],
            submission,
            results,
            first_task_seconds=self._step.options.first_task_creation_timeout,
            on_round=self._on_round,
        )
        with self._lock:
            self._driver = driver
            if self._cancel[0]:
                driver.stop(*self._cancel)
        self._enter("running")
        return driver.run()

    def _on_round(self, situation: Situation) -> None:
        if situation.total is not None and self._situation.total is None:
            self._log.listed(situation.total)
        self._situation = situation
        now = time.monotonic()
        self._meter.add(now, situation.counts.succeeded + situation.counts.failed)
        self._standstill.update(situation.waits_for, now)
        if situation.unused_nodes and not self._told_unused and situation.seconds >= UNUSED_SECONDS:
            self._told_unused = True
            used = f"node_count is {self._config.node_count}, so that {situation.unused_nodes} of the cluster's"
            every = situation.nodes + situation.unused_nodes
            note = f"{used} {every} nodes are not used; node_count={every} uses them all"
            self._log.note(note)
            self._complain(note)

    # ---------------------------------------------------------------- the end

    def _finish_output(self, verdict: Verdict) -> Verdict:
        """Give the file its name where all is well."""
        if self._situation.total == 0 and verdict.state == "Completed":
            verdict = Verdict("Failed", "the inputs hold no mini-batch: every file is empty")
        missing = (self._situation.total or 0) - len(self._files.committer)
        if missing > 0 and verdict.state == "Completed":
            verdict = Verdict("Failed", f"internal error of prs_dask: {missing:,} mini-batches are not in the journal")
        output = self._files.output
        if output is None:
            return verdict
        if verdict.state == "Completed" and not self._situation.rows:
            verdict = Verdict("Failed", "run() has returned no row at all over the whole input")
        if verdict.state == "Completed":
            try:
                self._files.journal.sync()
                output.finish(self._files.order, len(self._files.committer.header_line))
            except OSError as error:
                why = f"{error.strerror or error} (was {output.partial} moved or removed?)"
                verdict = Verdict("Failed", f"the output could not be given its name {output.path}: {why}")
        return verdict

    def _end(self, verdict: Verdict, cluster: OpenCluster | None) -> None:
        """Clear away, tell how it has ended, and only then have the journal say so: a resume does what is left."""
        try:
            self._clear_away(cluster)
            self._tell_end(verdict)
            self._files.end(verdict.state)
        finally:
            self._files.close()
            self._files.lock.release()
        if self._spans is not None:
            self._spans.end(self.summary(), self.error or "")

    def _clear_away(self, cluster: OpenCluster | None) -> None:
        self._enter("closing")
        if cluster is not None:
            for clear_away in (cluster.close, sweep_abandoned):  # the latter: what killed workers of this machine left
                try:
                    clear_away()
                except Exception:  # it is told, and changes no result
                    self._tree.engine_error("driver", traceback.format_exc(), time.time())
        self._places.remove()
        self._stop_ticking()

    def _tell_end(self, verdict: Verdict) -> None:
        output = self._files.output
        self._state = verdict.state
        self._summary = summary = self.summary()
        self.error = _told(verdict, self._tree.explanation(summary))
        shown = ""
        if output is not None:
            shown = str(output.path if output.is_finished else output.partial)
        missing_logs = self._driver.missing_logs if self._driver is not None else ""
        if missing_logs:
            self._log.note(f"logs: {missing_logs}")
        self._log.ends(verdict.state, verdict.cause)
        self._tree.progress(self.progress, time.time())
        resume = self.resume_hint if verdict.state != "Completed" else ""
        told = {"cause": self.error or "", "output": shown, "resume": resume, "missing_logs": missing_logs}
        self._result_text = self._tree.finish(summary, time.time(), **told)

    def _note_report(self, text: str) -> None:
        self._log.note(text, "report")
        self._tree.files.close()

    def _interpreter_ends(self) -> None:
        """The interpreter ends while the step run goes on: cancel it in order; and not in the middle of its report."""
        if self._ended.is_set():
            self._report.is_over(EXIT_SECONDS)
            return
        with contextlib.suppress(OSError, ValueError):  # whoever read it may be gone before
            print(
                f"prs_dask: the interpreter ends, so step run {self.id} is canceled; logs: {self.log_dir};"
                f" to go on with it: {self.resume_hint}",
                file=sys.stderr,
            )
        self._stop("the interpreter that had submitted it has ended")
        if not self._ended.wait(EXIT_SECONDS):
            print(f"prs_dask: step run {self.id} has not ended in {format_seconds(EXIT_SECONDS)}", file=sys.stderr)
            os._exit(1)


def _told(verdict: Verdict, explanation: str) -> str | None:
    """Why it has not completed: where an error is explained, its traceback is not told once more."""
    if verdict.state == "Completed":
        return None
    cause = verdict.cause.partition("\n")[0] if explanation else verdict.cause
    return "\n".join(text for text in (cause, explanation) if text) or None


def _left(until: float | None, most: float) -> float:
    return most if until is None else max(0.0, min(most, until - time.monotonic()))
