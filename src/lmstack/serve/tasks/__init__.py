"""What people use such models for, one line each.

    import lmstack

    ner = lmstack.task("ner", "pii-ner")
    ner("Write to Ada Lovelace, 12 Dorset Street.")

`task` loads torch; names and results do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstack.lazy_names import lazy_names
from lmstack.serve.tasks.names import ALIASES, DEFAULT_MODELS, TASKS, abilities, task_name
from lmstack.serve.tasks.results import (
    Classification,
    Entities,
    Entity,
    ExtractedAnswer,
    ExtractedAnswers,
    Features,
    Fill,
    Filled,
    Generated,
    LabelRanking,
    PredictedLabel,
    Ranked,
    Ranking,
    RewardScore,
    Rewritten,
    TaskOutput,
    TextEmbedding,
)

if TYPE_CHECKING:
    from lmstack.serve.tasks.base import ModelTask
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
    "Classification",
    "Entities",
    "Entity",
    "ExtractedAnswer",
    "ExtractedAnswers",
    "Features",
    "Fill",
    "Filled",
    "Generated",
    "LabelRanking",
    "LocalClassifier",
    "LocalReranker",
    "LocalTasks",
    "LocalTokenEmbedder",
    "ModelTask",
    "PredictedLabel",
    "Ranked",
    "Ranking",
    "RewardScore",
    "Rewritten",
    "TaskOutput",
    "TextEmbedding",
    "abilities",
    "task",
    "task_name",
]

__getattr__, __dir__ = lazy_names(__name__)
