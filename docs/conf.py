"""Sphinx's settings."""

project = "kedro-flask-server"
author = "The kedro-flask-server founders"
extensions = ["myst_parser"]
# The pages are read where the repository is shown, too, which knows no directives.
root_doc = "contents"
html_theme = "furo"
html_title = "kedro-flask-server"
exclude_patterns = ["_build"]
myst_heading_anchors = 3
