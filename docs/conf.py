"""Sphinx settings; the figures of ``docs/figures/*.py`` are drawn anew by every build, into ``docs/_figures``."""

import runpy
from pathlib import Path

import matplotlib

from medresnet3d import __version__

project = "medresnet3d"
author = "medresnet3d developers"
copyright = "2026, medresnet3d developers"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "_figures", "figures"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"
nitpicky = False
html_theme = "furo"
html_title = f"medresnet3d {release}"
html_static_path: list[str] = []


def draw_figures(app: object) -> None:
    """Run ``draw(folder)`` of every script in ``docs/figures``."""
    matplotlib.use("Agg")
    here = Path(__file__).parent
    folder = here / "_figures"
    folder.mkdir(exist_ok=True)
    for script in sorted((here / "figures").glob("*.py")):
        runpy.run_path(str(script))["draw"](folder)


def setup(app) -> None:
    """Draw the figures before pages are read."""
    app.connect("builder-inited", draw_figures)
