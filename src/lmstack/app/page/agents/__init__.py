"""Runs of agents on a page: as one HTML file, and live in the server.

`run_page` is a file with all of it: its styles and its script are in it and named by hash in the
file's own policy, so nothing else can run and nothing is asked of any host. Text of models, tools
and people is escaped and never parsed. Without JavaScript all of it opens and can be read.
"""

from __future__ import annotations

from lmstack.app.page.agents.file import run_page

__all__ = ["run_page"]
