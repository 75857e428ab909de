"""Whole jobs on real data that comes with scikit-learn: ``prs-dask demo``."""
