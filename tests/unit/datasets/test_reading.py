"""What reading needs is loaded before the first mini-batch."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest

from prs_dask.datasets.read_spec import Kind, ReadSpec
from prs_dask.datasets.reading import load_libraries
from prs_dask.stores import StorageOptions


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


@pytest.mark.parametrize(
    ("url", "package", "options"),
    [
        ("s3://bucket/a.csv", "s3fs", {"key": "k", "secret": "s", "endpoint_url": "http://127.0.0.1:9"}),
        (
            "abfs://container/a.csv",
            "adlfs",
            {"connection_string": "BlobEndpoint=http://127.0.0.1:9/a;AccountName=a;AccountKey=a2V5"},
        ),
        ("http://127.0.0.1:9/a.csv", "aiohttp", {}),
    ],
)
def test_what_a_store_needs_is_loaded_ahead(url, package, options):
    """In a fresh interpreter: the first request imports nothing of the store's package, and finds its client made."""
    program = f"""
import sys, time
from prs_dask.datasets import FileDataset
from prs_dask.datasets.reading import load_libraries
from prs_dask.stores import store_of
spec = FileDataset.from_files({url!r}, storage_options={options!r}).reader()
begun = time.process_time()
load_libraries(spec)
ahead = time.process_time() - begun
print({package!r} in sys.modules)
before = set(sys.modules)
begun = time.process_time()
try:
    store_of({url!r}, spec.storage)._client.info({url!r}.partition("://")[2])
except Exception as error:
    print("nobody answered")
print([name for name in set(sys.modules) - before if name.startswith(({package!r}, "botocore", "azure.storage"))])
print(time.process_time() - begun < ahead / 2)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True\nnobody answered\n[]\nTrue\n"


def test_a_store_that_cannot_be_had_is_told_by_its_mini_batches_and_not_by_the_start():
    wrong = StorageOptions({"no_such_option": 1})
    load_libraries(ReadSpec("files", stores=("nowhere://a", "http://127.0.0.1:9"), storage=wrong))
