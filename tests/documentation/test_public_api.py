"""The public API is complete, lazy, and what the type checkers see."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import prs_dask

HEAVY = ("dask", "distributed", "pandas", "pyarrow", "numpy", "click", "rich", "fsspec")


def test_importing_the_package_imports_nothing_heavy():
    program = f"import sys, prs_dask; print([name for name in {HEAVY!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "module", ["prs_dask.errors", "prs_dask.attempts", "prs_dask.datasets", "prs_dask.entry_script"]
)
def test_what_a_worker_process_imports_knows_no_dask(module):
    program = f"import sys, {module}; print([name for name in ('dask', 'distributed') if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("name", prs_dask.__all__)
def test_every_public_name_is_there(name):
    assert getattr(prs_dask, name) is not None


@pytest.mark.parametrize("name", sorted(prs_dask._HOMES))
def test_a_public_name_is_the_object_of_its_home(name):
    assert getattr(prs_dask, name) is getattr(importlib.import_module(f"prs_dask.{prs_dask._HOMES[name]}"), name)


def test_public_names_are_listed_before_they_are_loaded():
    program = "import prs_dask; print('TabularDataset' in dir(prs_dask))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "True"


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'ParallelRunStepp'"):
        prs_dask.ParallelRunStepp  # noqa: B018


@pytest.mark.parametrize("package", ["", ".clusters", ".datasets", ".pipeline", ".stores"])
def test_type_checkers_see_the_same_names_from_the_same_homes(package):
    module = importlib.import_module(f"prs_dask{package}")
    tree = ast.parse(Path(module.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == {name: f"prs_dask{package}.{home}" for name, home in module._HOMES.items()}
    assert set(seen) <= set(module.__all__)
    if not package:
        assert set(module.__all__) == {*seen, "__version__"}


def test_public_names_are_no_modules_whatever_was_imported_before():
    program = """
import importlib, pkgutil, types, prs_dask
for module in pkgutil.walk_packages(prs_dask.__path__, "prs_dask."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print([name for name in prs_dask.__all__ if isinstance(getattr(prs_dask, name), types.ModuleType)])
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
