"""Names of tasks, and which of them a model can do.

Names are those of transformers' pipelines and shorter ones. What a model can do follows from
its head, not from its name. Loads no torch: `app` looks names up before it loads a model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lmstack.core import InputError, UnsupportedError, nearest, shown

if TYPE_CHECKING:
    from lmstack.registry import LoadedModel

__all__ = [
    "ALIASES",
    "DEFAULT_MODELS",
    "GENERATING",
    "TASKS",
    "ScoringTask",
    "abilities",
    "require",
    "task_name",
]


@dataclass(frozen=True)
class Declared:
    """A task: its other names, the model with a short name that does it well enough to be tried
    first, and whether it generates text."""

    aliases: tuple[str, ...] = ()
    model: str | None = None
    generates: bool = False


_DECLARED = {
    "text-classification": Declared(("classify", "sentiment-analysis")),
    "token-classification": Declared(("ner",), "pii-ner"),
    "fill-mask": Declared(("mask",), "albert-smiles"),
    "question-answering": Declared(("qa",)),
    "feature-extraction": Declared(("features",), "all-minilm-l6-v2"),
    "sentence-embedding": Declared(("embed", "sentence-similarity"), "all-minilm-l6-v2"),
    "reranking": Declared(("rerank", "text-ranking"), "ms-marco-minilm-l12"),
    "reward": Declared(),
    "zero-shot-classification": Declared(("zero-shot",)),
    "text-generation": Declared(
        ("generate", "text2text-generation"), "smollm2-135m-instruct", generates=True
    ),
    "chat": Declared(("conversational",), "smollm2-135m-instruct", generates=True),
    "summarization": Declared(("summarize",), "flan-t5-small-titles", generates=True),
    "translation": Declared(("translate",), "flan-t5-small-titles", generates=True),
}
TASKS = tuple(_DECLARED)
GENERATING = tuple(name for name, each in _DECLARED.items() if each.generates)
ALIASES = {alias: name for name, each in _DECLARED.items() for alias in each.aliases}
DEFAULT_MODELS = {name: each.model for name, each in _DECLARED.items() if each.model}
if TYPE_CHECKING:
    ScoringTask = str
else:
    ScoringTask = Literal[tuple(name for name in TASKS if name not in GENERATING)]
_PAIR = re.compile(r"translation_([A-Za-z]{2,3})_to_([A-Za-z]{2,3})")


def task_name(name: str) -> tuple[str, dict[str, Any]]:
    """The task's own name, and options that the name given implies (``translation_en_to_de``)."""
    pair = _PAIR.fullmatch(name) if isinstance(name, str) else None
    if pair is not None:
        return "translation", {"source": pair[1], "target": pair[2]}
    found = ALIASES.get(name, name) if isinstance(name, str) else None
    if found in TASKS:
        return found, {}
    guess = nearest(str(name), [*TASKS, *ALIASES])
    raise InputError(
        f"there is no task {shown(name)}",
        hint=f"did you mean {guess!r}?" if guess else f"tasks: {', '.join(TASKS)}",
        param="task",
    )


def abilities(loaded: LoadedModel) -> tuple[str, ...]:
    """The tasks that a model can do, in the order of `TASKS`."""
    config = loaded.module.config
    can: set[str] = set()
    if config.head == "lm" and config.encoder is not None:
        return ("text-generation", "summarization", "translation")
    can.add("feature-extraction")
    if loaded.late is not None:
        can.add("reranking")
    elif config.head == "lm" and config.causal:
        can |= {"text-generation"} | ({"chat"} if loaded.template is not None else set())
    elif config.head == "lm":
        can.add("fill-mask")
    elif config.head == "token":
        can.add("token-classification")
    elif config.head == "span":
        can.add("question-answering")
    elif config.head == "sequence":
        can |= {"reward"} if loaded.kind == "reward" else _of_sequences(loaded.labels)
    if loaded.pooling is not None and config.head in ("pool", "none"):
        can.add("sentence-embedding")
    return tuple(task for task in TASKS if task in can)


def _of_sequences(labels: tuple[str, ...]) -> set[str]:
    can = {"text-classification"}
    if len(labels) == 1:
        can.add("reranking")
    if any(label.lower().startswith("entail") for label in labels):
        can.add("zero-shot-classification")
    return can


def require(loaded: LoadedModel, task: str) -> None:
    """Refuse a task that the model's head cannot do."""
    can = abilities(loaded)
    if task not in can:
        raise UnsupportedError(
            f"{loaded.name} cannot do {task}",
            hint=f"it can do {', '.join(can)}",
            param="task",
        )
