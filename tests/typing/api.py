"""The public API as users write it: type-checked, never run."""

from pathlib import Path
from typing import assert_type

from distributed import Client, LocalCluster

from prs_dask import (
    EntryScript,
    Fault,
    FileDataset,
    OutputFileDatasetConfig,
    ParallelRunConfig,
    ParallelRunStep,
    PipelineParameter,
    PrsError,
    SettingsError,
    SSHTarget,
    StepRun,
    StepRunFailed,
    TabularDataset,
    __version__,
    parallel_run,
)

assert_type(__version__, str)


class Script:
    def init(self) -> None: ...

    def run(self, mini_batch: list[str]) -> list[str]:
        return mini_batch


def inputs() -> tuple[FileDataset, TabularDataset]:
    FileDataset.from_files("scans")
    FileDataset.from_files(Path("scans"))
    files = FileDataset.from_files(["a.png", Path("b.png")], include_hidden=True)
    FileDataset.from_files("songs", partition_format="{user}/{song}.wav").grouped_by(["user"]).check()
    TabularDataset.from_json_lines_files("rows.jsonl").partition_by(["store"], Path("by_store"), name="sales")
    TabularDataset.from_parquet_files("rows.parquet")
    table = TabularDataset.from_delimited_files("rows.csv", separator=";", header="no_headers")
    return files, table


def settings() -> ParallelRunConfig:
    ParallelRunConfig(entry_script=Script(), error_threshold=-1, output_action="summary_only")
    hosts = SSHTarget(["node1", "ann@node2:2222"], user="ann", keys=Path("id"), worker_class="dask_cuda.CUDAWorker")
    ParallelRunConfig(entry_script="score.py", error_threshold=0, output_action="append_row", compute_target=hosts)
    return ParallelRunConfig(
        entry_script="score.py",
        source_directory=Path("src"),
        mini_batch_size=PipelineParameter("size", "10MB"),
        error_threshold=10,
        allowed_failed_count=5,
        allowed_failed_percent=2.5,
        output_action="append_row",
        append_row_file_name="rows.txt",
        append_row_order="input",
        append_row_format={"sep": ","},
        process_count_per_node=2,
        environment_variables={"OMP_NUM_THREADS": "1"},
        logging_level="DEBUG",
        run_invocation_timeout=600,
        run_max_try=3,
        retry_backoff=(1, 2, 60),
    )


def step(files: FileDataset) -> ParallelRunStep:
    return ParallelRunStep(
        name="score",
        parallel_run_config=settings(),
        inputs=[files],
        output=OutputFileDatasetConfig(destination="answers"),
        arguments=["--model", "model.joblib"],
        allow_reuse=False,
    )


def look_first(step: ParallelRunStep) -> None:
    (result,) = step.run_locally()
    assert_type((result.mini_batch, result.rows), tuple[str, str])
    step.run_locally(mini_batch="7[3:5]", folder="looked")


def submit(step: ParallelRunStep, client: Client, cluster: LocalCluster) -> None:
    step.submit(compute_target=client)
    step.submit(compute_target=cluster)
    step_run = step.submit(run_folder="runs/1", compute_target="local")
    assert_type(step_run, StepRun)
    step.submit(resume=step_run, on_progress=lambda progress: print(progress.succeeded, progress.seconds_left))
    assert_type(step_run.wait_for_completion(show_output=True, timeout_seconds=60, raise_on_error=False), str)
    assert_type(step_run.wait_for_end(60), bool)
    assert_type(step_run.wait_for_report(timeout_seconds=60), bool)
    assert_type(step_run.report_file, Path | None)
    assert_type(step_run.get_status(), str)
    summary = step_run.summary()
    assert_type(summary.state, str)
    assert_type((summary.mini_batches, summary.failed_mini_batches), tuple[int, int])
    assert_type((summary.items, summary.succeeded_items, summary.failed_items), tuple[int, int, int])
    assert_type((summary.attempts, summary.rows), tuple[int, int])
    assert_type((summary.seconds, summary.total_seconds), tuple[float, float])
    print(step_run.run_folder, step_run.log_dir, step_run.output_dir, step_run.output_file)
    assert_type(step_run.report(), Path)
    step_run.cancel()


def in_one_call(files: FileDataset) -> StepRun:
    try:
        return parallel_run(
            entry_script="score.py", inputs=[files], output="answers", output_action="append_row", mini_batch_size=5
        )
    except SettingsError as error:
        assert_type(error.faults, tuple[Fault, ...])
        raise
    except StepRunFailed as error:
        assert_type((error.state, error.cause, error.run_folder), tuple[str, str, str])
        raise
    except PrsError:
        raise


def in_an_entry_script() -> None:
    script = EntryScript()
    script.logger.info("in %s", script.agent_name)
    print(Path(script.output_dir) / "part.txt", script.log_dir, script.working_dir, script.node_id)
