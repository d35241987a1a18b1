"""A load generator for OpenAI-compatible servers: prompts, arrivals, streams, percentiles, plot."""

from lmstack.app.loadgen.prompts import Ask, FilePrompts, RandomPrompts
from lmstack.app.loadgen.run import Level, Outcome, run_levels
from lmstack.app.loadgen.stream import Row
from lmstack.app.loadgen.summary import Summary, summarize
from lmstack.app.loadgen.target import Target, connect

__all__ = [
    "Ask",
    "FilePrompts",
    "Level",
    "Outcome",
    "RandomPrompts",
    "Row",
    "Summary",
    "Target",
    "connect",
    "run_levels",
    "summarize",
]
