"""``python -m prs_dask``: the command line."""

from prs_dask.cli import main

if __name__ == "__main__":
    main(prog_name="prs-dask")
