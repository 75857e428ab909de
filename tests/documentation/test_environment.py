"""environment.yml repeats the names of pyproject.toml, and nothing else."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
CONDA_NAMES = {"dask": "dask-core", "build": "python-build", "prometheus-client": "prometheus_client"}


def names_in_pyproject() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    names = {re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower() for requirement in requirements}
    return {CONDA_NAMES.get(name, name) for name in names - {"prs-dask"}}


def entries_in_environment() -> list[str | dict[str, list[str]]]:
    entries: list[str | dict[str, list[str]]] = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    return entries


def entries_of_pip() -> list[str]:
    [pip] = [entry["pip"] for entry in entries_in_environment() if isinstance(entry, dict)]
    return pip


def test_environment_has_the_names_of_pyproject():
    names = {entry.split()[0] for entry in entries_in_environment() if isinstance(entry, str)}
    names |= set(entries_of_pip()) - {"-e ."}
    assert names - {"python", "pip"} == names_in_pyproject()


def test_environment_leaves_the_versions_to_pyproject():
    versioned = [entry for entry in entries_in_environment() if isinstance(entry, str) and re.search("[<>=]", entry)]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert versioned == [f"python {project['requires-python']}"]


def test_environment_installs_the_checkout_itself():
    assert "-e ." in entries_of_pip()


def test_extras_are_those_that_the_documentation_names():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras) == {
        "all", "azure", "cuda", "debug", "demo", "docs", "fuzz", "gcs", "gpu", "http", "memray", "notebook",
        "otel", "prometheus", "report", "s3", "sql", "ssh", "test",
    }  # fmt: skip
