"""Sphinx settings: nothing is loaded from outside."""

import stolon

project = "stolon"
author = "the stolon authors"
copyright = "2026, the stolon authors"
version = release = stolon.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"stolon {version}"
exclude_patterns = ["_build"]
autodoc_typehints = "description"
suppress_warnings = ["myst.header"]
