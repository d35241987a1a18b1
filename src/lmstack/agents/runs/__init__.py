"""Runs of agents: kept in SQLite, read, replayed and shown."""

from __future__ import annotations

from lmstack.agents.runs.rendering import run_to_text, step_to_text
from lmstack.agents.runs.replay import ReplayDifference, replay
from lmstack.agents.runs.run import Run, run_from_json, run_to_json
from lmstack.agents.runs.store import RunStore, RunSummary

__all__ = [
    "ReplayDifference",
    "Run",
    "RunStore",
    "RunSummary",
    "replay",
    "run_from_json",
    "run_to_json",
    "run_to_text",
    "step_to_text",
]
