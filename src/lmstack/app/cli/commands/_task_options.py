"""Options of `lmstack run`: what it reads and writes, and the options of single tasks.

Each names the tasks it is for. Does not cover checking: every task checks its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lmstack.app.wiring.tasks import WeightForm

__all__ = [
    "Aggregation",
    "InputFile",
    "Kind",
    "Labels",
    "MaxTokens",
    "MultiLabel",
    "NoAnswer",
    "OutputFile",
    "Prefix",
    "Query",
    "Question",
    "Resume",
    "Seed",
    "Settings",
    "Source",
    "Target",
    "Targets",
    "TaskModel",
    "TaskName",
    "TaskWeights",
    "Temperature",
    "Template",
    "Texts",
    "TopK",
    "Truncate",
    "Whole",
]


def _text(name: str, metavar: str, text: str) -> Any:
    return typer.Option(name, metavar=metavar, help=text)


def _flag(name: str, text: str) -> Any:
    return typer.Option(name, help=text)


TaskName = Annotated[
    str,
    typer.Argument(
        metavar="TASK",
        help="classify, ner, fill-mask, qa, features, embed, rerank, zero-shot, generate, chat,"
        " summarize or translate; transformers' names work, too.",
    ),
]
Texts = Annotated[
    list[str] | None,
    typer.Argument(metavar="TEXT", help="Texts to work on; - reads standard input."),
]
TaskModel = Annotated[
    str | None,
    _text(
        "--model",
        "NAME",
        "A model in the store or a folder. Without it, the one that lmstack knows for the task.",
    ),
]
TaskWeights = Annotated[
    WeightForm | None,
    _text(
        "--weights",
        "FORM",
        "How the model's weights are held: float32, bfloat16, float16, int8, q4, or file for the"
        " blocks of a GGUF file. [default: as lmstack up for what writes text, else float32]",
    ),
]
InputFile = Annotated[
    Path | None,
    _text("--file", "FILE", "An input a line; in a .jsonl file a JSON text or object a line."),
]
Whole = Annotated[bool, _flag("--whole", "The file is one text, not one a line.")]
OutputFile = Annotated[
    Path | None, _text("--output", "FILE", "Write JSON lines here, as they come.")
]
Resume = Annotated[bool, _flag("--resume", "Go on after what --output holds already.")]
Query = Annotated[str | None, _text("--query", "TEXT", "rerank: what is asked for.")]
Question = Annotated[str | None, _text("--question", "TEXT", "qa: what is asked.")]
Labels = Annotated[str | None, _text("--labels", "A,B,...", "zero-shot: labels to choose from.")]
Template = Annotated[str | None, _text("--template", "TEXT", "zero-shot: a hypothesis with {}.")]
MultiLabel = Annotated[bool | None, _flag("--multi-label", "zero-shot: judge each by itself.")]
Aggregation = Annotated[
    str | None,
    _text(
        "--aggregation", "HOW", "ner: none, simple, first, average, max or whole. [default: whole]"
    ),
]
Targets = Annotated[
    list[str] | None, _text("--targets", "WORD", "fill-mask: choose among these; repeat it.")
]
TopK = Annotated[int | None, _text("--top-k", "N", "How many labels, fills, answers, documents.")]
NoAnswer = Annotated[bool | None, _flag("--no-answer", "qa: the text may hold no answer.")]
Prefix = Annotated[
    str | None, _text("--prefix", "TEXT", "summarize, translate: put before every piece.")
]
Source = Annotated[str | None, _text("--source", "CODE", "translate: from, as en.")]
Target = Annotated[str | None, _text("--target", "CODE", "translate: into, as de.")]
Kind = Annotated[str | None, _text("--kind", "KIND", "embed: query or passage.")]
Truncate = Annotated[bool | None, _flag("--truncate", "classify, features: cut what is too long.")]
MaxTokens = Annotated[int | None, _text("--max-tokens", "N", "Of a text that is generated.")]
Temperature = Annotated[float | None, _text("--temperature", "T", "0 is greedy.")]
Seed = Annotated[int | None, _text("--seed", "N", "Of sampling.")]
Settings = Annotated[
    list[str] | None, _text("--set", "NAME=VALUE", "Any other option of the task.")
]
