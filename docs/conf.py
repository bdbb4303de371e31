from medresnet3d import __version__

project = "medresnet3d"
author = "medresnet3d developers"
copyright = "2026, medresnet3d developers"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"
nitpicky = False
html_theme = "furo"
html_title = f"medresnet3d {release}"
html_static_path: list[str] = []
