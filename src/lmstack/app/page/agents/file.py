"""A run as one HTML file."""

from __future__ import annotations

from lmstack.agents.runs.run import Run
from lmstack.app.page.agents.body import run_values
from lmstack.app.report.pages import self_contained

__all__ = ["run_page"]


def run_page(run: Run) -> str:
    """The page of ``run`` with those of the agents below it, as far as they go."""
    return self_contained(
        "page/agents/templates/file.html",
        styles=("page/static/agents.css",),
        scripts=("report/page.js",),
        **run_values(run),
    )
