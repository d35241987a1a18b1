"""Libraries that results are compared with, imported when a test first uses them: each worker of
pytest-xdist imports all files of tests, and runs a part of them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import anthropic as anthropic
    import peft as peft
    import sentence_transformers as sentence_transformers
    from rouge_score import rouge_scorer as rouge_scorer
    from sentence_transformers.sentence_transformer import losses as losses
    from sentence_transformers.sentence_transformer import modules as modules
    from sklearn import cluster as cluster
    from sklearn import linear_model as linear_model
    from sklearn import metrics as metrics
    from trl.trainer import reward_trainer as reward_trainer
else:

    class _Library:
        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, name: str) -> Any:
            if name.startswith(("_", "pytest")):  # pytest looks for marks on all that a file has
                raise AttributeError(name)
            return getattr(importlib.import_module(self._name), name)

    anthropic = _Library("anthropic")
    peft = _Library("peft")
    sentence_transformers = _Library("sentence_transformers")
    rouge_scorer = _Library("rouge_score.rouge_scorer")
    losses = _Library("sentence_transformers.sentence_transformer.losses")
    modules = _Library("sentence_transformers.sentence_transformer.modules")
    cluster = _Library("sklearn.cluster")
    linear_model = _Library("sklearn.linear_model")
    metrics = _Library("sklearn.metrics")
    reward_trainer = _Library("trl.trainer.reward_trainer")
