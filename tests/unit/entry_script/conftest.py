"""Every test here leaves the interpreter's state as it found it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest

from prs_dask.entry_script import azure_names
from prs_dask.entry_script.entry_script import configure


@pytest.fixture(autouse=True)
def same_interpreter() -> Iterator[None]:
    path, argv, finders, modules = sys.path[:], sys.argv[:], sys.meta_path[:], dict(sys.modules)
    handlers, basic_config = logging.getLogger().handlers[:], logging.basicConfig
    yield
    configure(None)
    azure_names.uninstall()
    for handler in logging.getLogger("entry_script").handlers[:]:
        logging.getLogger("entry_script").removeHandler(handler)
        handler.close()
    logging.getLogger().handlers[:] = handlers
    logging.basicConfig = basic_config
    sys.path[:], sys.argv[:], sys.meta_path[:] = path, argv, finders
    for name in sys.modules.keys() - modules.keys():
        if name.partition(".")[0] in ("score", "helper", "azureml", "azureml_user"):
            del sys.modules[name]
