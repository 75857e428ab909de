"""Several hosts for real, on one machine: see ``hosts.py``."""
