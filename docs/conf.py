"""Sphinx settings: ``sphinx-build -W -b html docs docs/_build/html``, without any network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import prs_dask

project = "prs_dask"
author = "The prs_dask developers"
copyright = author
release = version = prs_dask.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "numpydoc",
    "sphinx_click",
    "lifecycle_diagram",
    "settings_reference",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = "prs_dask"
html_show_sourcelink = False
html_theme_options = {"navbar_end": ["theme-switcher"], "show_prev_next": False}
