"""Sphinx settings: nothing is loaded from outside."""

from docutils import nodes
from sphinx.application import Sphinx

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
autodoc_member_order = "bysource"
napoleon_use_ivar = True  # autodoc describes fields of named tuples already; twice is a warning
suppress_warnings = ["myst.header"]


def math_as_text(_app: Sphinx, tree: nodes.document, _docname: str) -> None:
    """Show equations as the LaTeX they are written in.

    Sphinx's own ways are MathJax, which pages load from outside, and pictures, which need LaTeX installed.
    """
    for node in list(tree.findall(nodes.math_block)):
        node.replace_self(nodes.literal_block(text=node.astext(), language="none"))
    for node in list(tree.findall(nodes.math)):
        node.replace_self(nodes.literal(text=node.astext()))


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("doctree-resolved", math_as_text)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
