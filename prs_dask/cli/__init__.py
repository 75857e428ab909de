"""The command line: ``prs-dask``, and the same under ``dask prs``.

Commands read settings, call ``prs_dask.pipeline`` and show what it says; they decide nothing. They import
it when they run, so that ``--help`` is there at once.
"""

from prs_dask.cli.group import main

__all__ = ["main"]
