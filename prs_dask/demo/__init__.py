"""Whole jobs on real data that comes with scikit-learn: what ``prs-dask demo`` runs.

``material`` writes the input, a trained model and the entry script; ``jobs`` runs the step over
it with the public API, exactly as a user would, and counts the right answers. The entry scripts
are ordinary ones, in ``entry_scripts/``.
"""

from prs_dask.demo.jobs import DEMOS, run_demo

__all__ = ["DEMOS", "run_demo"]
