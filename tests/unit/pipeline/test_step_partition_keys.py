"""A step groups its inputs by the partition keys of its config."""

from __future__ import annotations

from pathlib import Path

import pytest

from prs_dask import FileDataset, ParallelRunConfig, ParallelRunStep, PipelineParameter, SettingsError
from prs_dask.pipeline.preparation import prepare


@pytest.fixture
def songs(tmp_path: Path) -> FileDataset:
    for name in ("ann/pop.wav", "ann/rock.wav", "ben/pop.wav"):
        (tmp_path / "songs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "songs" / name).touch()
    return FileDataset.from_files(tmp_path / "songs", partition_format="{user}/{genre}.wav")


def step(inputs: object, keys: object) -> ParallelRunStep:
    class Script:
        def run(self, mini_batch: list[str]) -> list[str]:
            return mini_batch

    config = ParallelRunConfig(
        entry_script=Script(),
        output_action="append_row",
        error_threshold=0,
        partition_keys=keys,  # type: ignore[arg-type]
    )
    return ParallelRunStep("songs", config, inputs)  # type: ignore[arg-type]


@pytest.mark.parametrize("keys", [["user"], PipelineParameter("keys", ["user"])])
def test_each_combination_is_a_mini_batch(songs, keys):
    made = step(songs, keys)
    made.check()
    assert [(batch.values, len(batch.paths)) for batch in made.mini_batches(made.config.resolve())] == [
        (("ann",), 2),
        (("ben",), 1),
    ]


def test_other_values_of_a_parameter_group_otherwise(songs):
    made = step(songs, PipelineParameter("keys", ["user"]))
    config = made.config.resolve({"keys": ["genre"]})
    assert [batch.values for batch in made.mini_batches(config)] == [("pop",), ("rock",)]
    assert prepare(config, made.options, made.inputs_of(config)).readers[0].keys == ("genre",)


def test_without_keys_inputs_are_not_grouped(songs):
    made = step(songs, None)
    assert [batch.values for batch in made.mini_batches(made.config.resolve())] == [()]


def test_every_input_needs_the_keys(songs):
    others = FileDataset.from_files(songs.paths, partition_format="{user}/{song}.wav")
    with pytest.raises(SettingsError, match="'genre'.*allowed: user, song") as caught:
        step([songs, others], ["genre"]).check()
    assert len(caught.value.faults) == 1
