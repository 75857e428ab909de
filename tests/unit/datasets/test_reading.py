"""What reading needs is loaded before the first mini-batch."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest

from prs_dask.datasets.read_spec import Kind


@pytest.mark.parametrize("kind", [*get_args(Kind)])
def test_libraries_are_loaded_ahead_where_tables_are_read(kind):
    """In a fresh interpreter: what reading imports later is there already; for files nothing is."""
    program = f"""
import sys
from prs_dask.datasets.read_spec import ReadSpec
from prs_dask.datasets.reading import load_libraries
load_libraries(ReadSpec({kind!r}))
print("pandas" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == f"{kind != 'files'}\n"
