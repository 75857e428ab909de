"""azureml_user and azureml.core for scripts that import them, without a package of that name."""

from __future__ import annotations

import importlib
import json
import sys

import pytest

from prs_dask import EntryScript, EntryScriptError
from prs_dask.entry_script import azure_names
from prs_dask.entry_script.entry_script import Surroundings, configure


@pytest.fixture
def surroundings(tmp_path):
    def place(**changes):
        where = Surroundings(str(tmp_path / "log"), str(tmp_path / "out"), str(tmp_path))
        configure(where._replace(**changes))

    return place


@pytest.fixture
def names():
    azure_names.install()
    azure_names.install()
    yield
    azure_names.uninstall()


def package(folder, name, text=""):
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(text)


def test_entry_script_is_found_under_its_old_name(names):
    from azureml_user.parallel_run import EntryScript as Same

    assert Same is EntryScript


def test_model_and_run_are_found_under_both_names(names):
    from azureml.core import Model, Run
    from azureml.core.model import Model as SameModel
    from azureml.core.run import Run as SameRun

    assert Model is SameModel
    assert Run is SameRun


def test_other_names_are_as_missing_as_before(names):
    for name in ("azureml.train", "azureml_user.other", "azureml.core.workspace"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(name)


def test_an_installed_package_wins(names, tmp_path, monkeypatch):
    package(tmp_path, "azureml_user")
    (tmp_path / "azureml_user/parallel_run.py").write_text("EntryScript = 'theirs'")
    monkeypatch.syspath_prepend(tmp_path)
    from azureml_user.parallel_run import EntryScript as found

    assert found == "theirs"


def test_a_package_installed_in_parts_is_completed(names, tmp_path, monkeypatch):
    package(tmp_path / "azureml", "mlflow", "WHOSE = 'theirs'")  # a namespace package, as Azure's is
    monkeypatch.syspath_prepend(tmp_path)
    import azureml.mlflow
    from azureml.core import Model

    assert azureml.mlflow.WHOSE == "theirs"
    assert Model.__module__ == "prs_dask.entry_script.azure_model"


def test_uninstall_leaves_nothing_behind():
    azure_names.install()
    importlib.import_module("azureml.core.model")
    azure_names.uninstall()
    azure_names.uninstall()
    assert not [name for name in sys.modules if name.startswith("azureml")]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("azureml.core")


def test_a_model_is_found_by_the_name_the_step_gave_it(names, surroundings):
    from azureml.core import Model

    surroundings(models=(("digits", "/models/digits.pkl"),))
    assert Model.get_model_path("digits") == "/models/digits.pkl"


def test_else_a_model_is_a_file_or_folder_of_the_model_dir(names, surroundings, tmp_path, monkeypatch):
    from azureml.core import Model

    surroundings()
    monkeypatch.setenv("AZUREML_MODEL_DIR", str(tmp_path))
    (tmp_path / "net.onnx").touch()
    (tmp_path / "forest" / "2").mkdir(parents=True)
    (tmp_path / "forest" / "10").mkdir()
    assert Model.get_model_path("net.onnx") == str(tmp_path / "net.onnx")
    assert Model.get_model_path("forest") == str(tmp_path / "forest" / "10")
    assert Model.get_model_path(model_name="forest", version=2) == str(tmp_path / "forest" / "2")
    with pytest.raises(EntryScriptError, match="found version 3.*allowed: 2, 10"):
        Model.get_model_path("forest", version=3)


@pytest.mark.parametrize("name", ["digit", "", ".", "..", "../x", "a/b"])
def test_an_unknown_model_is_told_with_the_known_ones(names, surroundings, tmp_path, monkeypatch, name):
    from azureml.core import Model

    surroundings(models=(("digits", "/models/digits.pkl"),))
    monkeypatch.setenv("AZUREML_MODEL_DIR", str(tmp_path))
    with pytest.raises(EntryScriptError, match="allowed: digits"):
        Model.get_model_path(name)


def test_a_workspaces_model_is_refused(names):
    from azureml.core import Model

    with pytest.raises(EntryScriptError, match="get_model_path"):
        Model(None, "digits")


def test_metrics_of_an_offline_run_are_kept(names, surroundings, tmp_path, monkeypatch):
    import numpy
    from azureml.core import Run

    surroundings(metrics_file=str(tmp_path / "metrics.jsonl"), inputs=(("images", "/data/images"),))
    monkeypatch.setenv("AZUREML_RUN_ID", "run-1")
    run = Run.get_context()
    run.log("accuracy", numpy.float32(0.5))
    run.log_list("losses", numpy.arange(2), description="per epoch")
    run.log_row("table", x=1, y=numpy.ones(2))
    run.flush()
    assert run.id == "run-1"
    assert run.input_datasets == {"images": "/data/images"}
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["name"], line["kind"], line["value"]) for line in lines] == [
        ("accuracy", "value", 0.5),
        ("losses", "list", [0, 1]),
        ("table", "row", {"x": 1, "y": [1.0, 1.0]}),
    ]


def test_metrics_that_json_has_no_numbers_for_are_texts_and_a_step_is_kept(names, surroundings, tmp_path):
    from azureml.core import Run

    surroundings(metrics_file=str(tmp_path / "metrics.jsonl"))
    Run.get_context().log("loss", float("nan"), step=3)
    Run.get_context().log_row("rows", x=float("-inf"), y=[1.5, float("inf")])

    def never(constant):
        raise AssertionError(constant)

    first, second = (
        json.loads(line, parse_constant=never) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
    )
    assert (first["value"], first["step"]) == ("nan", 3)
    assert second["value"] == {"x": "-inf", "y": [1.5, "inf"]}


def test_a_run_outside_of_a_job_has_an_id_and_keeps_nothing(names, monkeypatch):
    from azureml.core import Run

    monkeypatch.delenv("AZUREML_RUN_ID", raising=False)
    run = Run.get_context(allow_offline=True)
    run.log("accuracy", 1)
    run.complete()
    assert run.id.startswith("OfflineRun_")
    assert run.id == Run.get_context().id
    with pytest.raises(AttributeError, match="azureml-core"):
        run.experiment  # noqa: B018
