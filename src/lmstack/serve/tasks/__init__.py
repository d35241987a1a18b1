"""What people use such models for, one line each.

    import lmstack

    ner = lmstack.task("ner", "pii-ner")
    ner("Write to Ada Lovelace, 12 Dorset Street.")

`task` loads torch; names and results do not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lmstack.serve.tasks.names import ALIASES, DEFAULT_MODELS, TASKS, abilities, task_name
from lmstack.serve.tasks.results import (
    Answer,
    Answers,
    Classification,
    Embedding,
    Entities,
    Entity,
    Features,
    Fill,
    Filled,
    Generated,
    Label,
    LabelRanking,
    Ranked,
    Ranking,
    Result,
    Reward,
    Rewritten,
)

if TYPE_CHECKING:
    from lmstack.serve.tasks.base import Task
    from lmstack.serve.tasks.catalog import (
        LocalClassifier,
        LocalReranker,
        LocalTasks,
        LocalTokenEmbedder,
        task,
    )

__all__ = [
    "ALIASES",
    "DEFAULT_MODELS",
    "TASKS",
    "Answer",
    "Answers",
    "Classification",
    "Embedding",
    "Entities",
    "Entity",
    "Features",
    "Fill",
    "Filled",
    "Generated",
    "Label",
    "LabelRanking",
    "LocalClassifier",
    "LocalReranker",
    "LocalTasks",
    "LocalTokenEmbedder",
    "Ranked",
    "Ranking",
    "Result",
    "Reward",
    "Rewritten",
    "Task",
    "abilities",
    "task",
    "task_name",
]

_CATALOG = ("LocalClassifier", "LocalReranker", "LocalTasks", "LocalTokenEmbedder", "task")
_NEEDS_TORCH = {
    "Task": "lmstack.serve.tasks.base",
    **dict.fromkeys(_CATALOG, "lmstack.serve.tasks.catalog"),
}


def __getattr__(name: str) -> Any:
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_NEEDS_TORCH[name]), name)
