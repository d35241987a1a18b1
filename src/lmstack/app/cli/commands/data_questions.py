"""`lmstack data questions`: rows for the reader, from a folder of documents alone."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lmstack.app import wiring
from lmstack.app.cli import indexing
from lmstack.app.cli.command import command
from lmstack.app.cli.commands._options import EmbedderName, ModelName, Weights, say_if_remote
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, count
from lmstack.app.wiring import retrieval
from lmstack.core import InputError, close_model, shown
from lmstack.train.recipe import Recipe, read_recipe

if TYPE_CHECKING:
    from lmstack.core import ChatModel
    from lmstack.pipelines.question_file import QuestionFile
    from lmstack.rag import Hit, Index
    from lmstack.rag.questions import QuestionConfig

__all__ = ["Wanted", "ask_about", "questions", "read_recipe_with_docs"]

_DOCS = "docs="
# Passages that a recipe asks about: a sample of a large folder, asked in minutes.
_SAMPLE = 600


@command(
    "data questions",
    """
    FOLDER: Your documents.
    --output, -o FILE: JSON Lines, a row a question.
    --questions N 1..16: Asked of each passage.
    --passages N 1..: Ask about so many at most. [default: all]

    lmstack data questions docs --output questions.jsonl
    """,
)
def questions(
    out: Output,
    folder: Path,
    output: Path = Path("questions.jsonl"),
    per_passage: int = 3,
    passages: int | None = None,
    model: ModelName = None,
    weights: Weights = None,
    embedder: EmbedderName = None,
) -> None:
    """Let a model ask questions about documents, to train on.

    Each passage is shown to the model, which asks a few questions. Those are kept for which search
    finds the passage again and that it is certain to answer; what else was found becomes what does
    not answer. `lmstack train recipes/reader.yaml data=FILE` reads the rows.

    Stopped, it goes on where it was when it is started again."""
    wanted = Wanted(per_passage, passages, model, weights, embedder)
    _say(out, ask_about(out, folder, output, wanted))


@dataclass(frozen=True)
class Wanted:
    """Options of the command."""

    per_passage: int = 3
    passages: int | None = None
    model: str | None = None
    weights: str | None = None
    embedder: str | None = None


def ask_about(out: Output, folder: Path, output: Path, wanted: Wanted) -> QuestionFile:
    """Ask, and write ``output``, with progress."""
    from lmstack.pipelines.question_file import QuestionFile
    from lmstack.rag.questions import QuestionConfig, passages_of

    wiring.require_models(wanted.model, wanted.embedder, wanted.weights)
    say_if_remote(out, wanted.model)
    config = QuestionConfig(questions=wanted.per_passage)
    model = wiring.lazy_generator(wanted.model, wanted.weights)
    settings = {
        "folder": str(wiring.existing_folder(folder)),
        "model": model.info.digest or model.info.name,
        "passages": wanted.passages,
        **dataclasses.asdict(config),
    }
    try:
        with (
            QuestionFile(output, settings) as file,
            indexing.open_source(out, folder, None, wanted.embedder) as index,
        ):
            chosen = passages_of(index, wanted.passages)
            out.interrupted = (f"what was asked so far is in {file.journal}", out.again())
            asyncio.run(_ask(out, index, model, config, file, chosen))
            file.finish()
            out.interrupted = None
    finally:
        close_model(model)
    return file


def read_recipe_with_docs(out: Output, path: Path, overrides: Sequence[str]) -> Recipe:
    """`read_recipe`, where ``docs=FOLDER`` stands for questions about that folder. They are asked
    first, and kept where the run is."""
    named = [each.removeprefix(_DOCS) for each in overrides if each.startswith(_DOCS)]
    recipe = read_recipe(path, [each for each in overrides if not each.startswith(_DOCS)])
    if not named:
        return recipe
    if recipe.objective_name != "reader":
        raise InputError(
            f"docs is for the objective reader, and {path} has {shown(recipe.objective_name)}",
            hint="data=FILES",
            param="docs",
        )
    asked = recipe.folder / "questions.jsonl"
    if not asked.exists():
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise InputError(
                "questions are asked by one process, and there are several",
                hint=f"lmstack data questions {shlex.quote(named[-1])} -o {asked} first",
                param="docs",
            )
        file = ask_about(out, Path(named[-1]), asked, Wanted(passages=_SAMPLE))
        out.note(f"{count(len(file.rows), 'questions')} to train on are in {asked}")
    return recipe.replace(data=(str(asked),))


async def _ask(
    out: Output,
    index: Index,
    model: ChatModel,
    config: QuestionConfig,
    file: QuestionFile,
    chosen: Sequence[Hit],
) -> None:
    from lmstack.rag import Answerer
    from lmstack.rag.questions import QuestionWriter, key_of

    answerer = Answerer(index, model, reranker=retrieval.answer_reranker(out.note))
    asked = [row["query"] for row in file.rows]
    writer = QuestionWriter(answerer, model, config, asked)
    left = [passage for passage in chosen if key_of(passage) not in file]
    with out.progress("Asking", "passages") as bar:
        done = len(chosen) - len(left)
        bar.update(done, len(chosen))
        async for each in writer.write(left):
            file.add(each)
            done += 1
            bar.update(done, len(chosen), f"{len(file.rows):,} questions kept")


def _say(out: Output, file: QuestionFile) -> None:
    rows = file.rows
    answered = sum(bool(row["positives"]) for row in rows)
    if out.as_json:
        kept = {"questions": len(rows), "answerable": answered, "dropped": file.dropped}
        out.result({"file": str(file.path), "passages": file.passages, **kept})
        return
    table = [
        ("questions", f"{len(rows):,} about {count(file.passages, 'passages')}, in {file.path}"),
        ("answerable", f"{answered:,}; of the others the document was taken away"),
        *((f"dropped: {reason}", f"{number:,}") for reason, number in file.dropped.items()),
    ]
    out.lines(columns(table))
