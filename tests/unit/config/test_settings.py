from __future__ import annotations

import ast
import inspect
import subprocess
import sys

import pytest

from prs_dask.config import SETTINGS, SHORT_CALL_DEFAULTS, ParallelRunConfig, Setting, parallel_run_config
from prs_dask.config.settings import REQUIRED, check_values

TABLE = list(SETTINGS.values())


def test_the_fields_and_the_typed_signature_are_those_of_the_table() -> None:
    tree = ast.parse(inspect.getsource(parallel_run_config))
    (init,) = [
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    ]
    assert [argument.arg for argument in init.args.kwonlyargs] == list(SETTINGS)
    assert list(ParallelRunConfig.__dataclass_fields__) == list(SETTINGS)
    for setting, default in zip(TABLE, init.args.kw_defaults, strict=True):
        if default is None:
            assert setting.default is REQUIRED
        elif not (isinstance(default, ast.Constant) and default.value is ...):
            assert ast.literal_eval(default) == setting.default


def test_the_signature_that_help_shows_is_the_tables() -> None:
    assert list(inspect.signature(ParallelRunConfig).parameters) == list(SETTINGS)


@pytest.mark.parametrize("setting", TABLE, ids=lambda setting: setting.name)
def test_the_example_of_every_setting_is_accepted(setting: Setting) -> None:
    assert setting.parse(ast.literal_eval(setting.example)) is not None


@pytest.mark.parametrize("setting", TABLE, ids=lambda setting: setting.name)
def test_the_default_of_every_setting_is_accepted(setting: Setting) -> None:
    if setting.default is not REQUIRED:
        assert setting.parse(setting.default) == setting.default


def test_short_calls_have_defaults_of_settings_that_exist() -> None:
    assert dict(SHORT_CALL_DEFAULTS) == {"error_threshold": 0}


def test_a_value_whose_repr_raises_is_still_a_fault_and_no_crash() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError

    _, faults = check_values({"run_max_try": Rude()})
    assert "found <Rude>" in str(faults[-1])


def test_settings_import_no_dask_pandas_click_or_yaml() -> None:
    code = (
        "import sys, prs_dask.config; "
        "print([n for n in ('dask', 'distributed', 'pandas', 'numpy', 'click', 'yaml') if n in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
