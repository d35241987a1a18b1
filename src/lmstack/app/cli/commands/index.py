"""`lmstack index`: make an index of documents and keep it in step.

Does not cover the commands that only look into one: `index_looking`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmstack.app import wiring
from lmstack.app.cli import indexing
from lmstack.app.cli.command import command, group
from lmstack.app.cli.commands._index_options import (
    ChosenIndex,
    ChunkerName,
    ChunkOverlap,
    ChunkTokens,
    Exclude,
    GitIgnore,
    Include,
    RayAddress,
    RayCopies,
    VectorsForm,
    Watch,
    chosen_index,
    chunking_of,
    rules_of,
)
from lmstack.app.cli.commands._options import Docs, EmbedderName, IndexFolder, Rebuild
from lmstack.app.cli.commands.index_looking import duplicates, report, show, status, verify
from lmstack.app.cli.commands.index_move import StoreAddress, move
from lmstack.app.cli.failure import CommandLineError
from lmstack.app.cli.output import Output
from lmstack.app.formats import seconds
from lmstack.app.wiring import documents

if TYPE_CHECKING:
    from lmstack.rag import UpdateResult

__all__ = ["register"]

Paths = Annotated[
    list[Path], typer.Argument(metavar="PATH", help="Files and folders of documents.")
]
AddedPaths = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="PATH",
        help="Files and folders of documents; with --docs, some in it, or all of it without PATH.",
    ),
]
KEPT = "the documents indexed so far are kept"


def register(app: typer.Typer) -> None:
    index = group(
        "Make and keep an index of documents.\n\nAn index holds documents (.txt, .text, .md,"
        " .markdown, .html, .htm, .xhtml, .pdf, .docx, .eml, .csv, .tsv, .tab, .jsonl, .ndjson,"
        " .ipynb and source code), their passages, words and vectors in one SQLite file. `lmstack"
        " ask` and"
        " `lmstack up` keep one for each folder by themselves, under $LMSTACK_HOME/indexes, named"
        " by a hash of the folder's absolute path: --docs names that one, --index one of your own.",
        example="lmstack index add --docs ~/notes\n"
        "lmstack index status --docs ~/notes\n"
        "lmstack index add --index notes.idx ~/notes\n"
        "lmstack index update --index notes.idx",
    )
    for name, function, example in (
        ("add", add, "lmstack index add --index notes.idx ~/notes"),
        ("update", update, "lmstack index update --index notes.idx"),
        ("remove", remove, "lmstack index remove --index notes.idx ~/notes/old.md"),
        ("label", label, "lmstack index label --index notes.idx ~/notes/salaries --set hr,board"),
        ("show", show, "lmstack index show --index notes.idx ~/notes/plan.md --text"),
        ("status", status, "lmstack index status --docs ~/notes --json"),
        ("verify", verify, "lmstack index verify --index notes.idx"),
        ("duplicates", duplicates, "lmstack index duplicates --index notes.idx"),
        ("move", move, "lmstack index move --index notes.idx --to faiss:notes.faiss"),
        ("report", report, "lmstack index report --index notes.idx -o passages.png"),
    ):
        command(index, name, example=example)(function)
    app.add_typer(index, name="index")


def add(
    out: Output,
    paths: AddedPaths = None,
    docs: Docs = None,
    index: IndexFolder = None,
    include: Include = None,
    exclude: Exclude = None,
    gitignore: GitIgnore = None,
    store: StoreAddress = None,
    watch: Watch = False,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="LABEL",
            help="Only callers that hold this access label see these documents; repeat it for"
            " several, all of which are needed then.",
        ),
    ] = None,
    embedder: EmbedderName = None,
    rebuild: Rebuild = False,
    chunker: ChunkerName = None,
    chunk_tokens: ChunkTokens = None,
    chunk_overlap: ChunkOverlap = None,
    ray: RayAddress = None,
    copies: RayCopies = 2,
    vectors: VectorsForm = None,
) -> None:
    """Add documents to an index, which is made if it is new.

    Files that are already in and did not change cost nothing. Each document is written in one
    transaction, so stopping at any moment keeps what is done. How documents are cut is kept in
    the index; another choice cuts all of them anew. Labels are kept for the path and all that is
    ever under it, besides those in a document's own `access` field.
    """
    chosen = chosen_index(docs, index, "lmstack index add", create=True)
    added = chosen.paths(paths, "lmstack index add")
    indexing.say_where_texts_go(out, embedder)
    out.interrupted = (KEPT, out.again(without=["--rebuild"]))
    chunking = chunking_of(chunker, chunk_tokens, chunk_overlap)
    form: Any = vectors.value if vectors else None
    with documents.open_index(
        chosen.place,
        embedder,
        create=True,
        rebuild=rebuild,
        chunking=chunking,
        vectors=form,
        sources=added,
        note=out.note,
    ) as opened:
        if store is not None:
            opened.keep_in(store)
        with indexing.shown_progress(out) as progress:
            result = opened.add(
                added,
                progress=progress,
                rules=rules_of(include, exclude, gitignore),
                labels=labels or (),
                executor=documents.machines(opened, embedder, ray, copies),
            )
        _print_result(out, result, chosen, progress)
        indexing.tell_of_store(out, opened)
        indexing.tell_of_refused(out, opened)
        if watch:
            indexing.follow(out, opened, added, lambda more: _print_result(out, more, chosen))


def update(
    out: Output,
    docs: Docs = None,
    index: IndexFolder = None,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH", help="Only these; without them, everything that was added."),
    ] = None,
    watch: Watch = False,
    embedder: EmbedderName = None,
    rebuild: Rebuild = False,
) -> None:
    """Bring an index in step with its files.

    Adds new files, reads changed ones again and removes those that are gone, by content hash.

    With --embedder and another model than the index was made with, it changes to that one: it
    is searched with the old model until all is done, and stopping keeps what is done.
    """
    chosen = chosen_index(docs, index, "lmstack index update")
    indexing.say_where_texts_go(out, embedder)
    out.interrupted = (KEPT, out.again(without=["--rebuild"]))
    if embedder is not None and not rebuild:
        _change_embedder(out, chosen, embedder)
    with documents.open_index(chosen.place, embedder, create=False, rebuild=rebuild) as opened:
        with indexing.shown_progress(out) as progress:
            result = opened.update(paths or None, progress=progress)
        _print_result(out, result, chosen, progress)
        indexing.tell_of_store(out, opened)
        indexing.tell_of_refused(out, opened)
        if watch:
            indexing.follow(
                out, opened, paths or None, lambda more: _print_result(out, more, chosen)
            )


def _change_embedder(out: Output, chosen: ChosenIndex, name: str) -> None:
    """Nothing, if the index is made with it already."""
    with documents.open_index(chosen.place, None, create=False, embeds=False) as opened:
        status = opened.status(check=False)
        made_with = status.embedder, status.embedder_digest
        model = wiring.embedder(wiring.embedder_name_for(made_with, name))
        if not opened.is_made_with(model):
            with indexing.shown_progress(out, f"Embedding with {name}") as progress:
                opened.reembed(model, progress)


def remove(out: Output, paths: Paths, docs: Docs = None, index: IndexFolder = None) -> None:
    """Take documents out of an index; the files themselves stay.

    They stay out of later updates until they are added again.
    """
    chosen = chosen_index(docs, index, "lmstack index remove")
    with documents.open_index(chosen.place, None, create=False, embeds=False) as opened:
        removed = opened.remove(paths)
        indexing.tell_of_store(out, opened)
    if out.as_json:
        out.result({"index": str(chosen.place), "removed": removed})
    else:
        out.line(f"{removed} documents removed")


def label(
    out: Output,
    paths: Paths,
    docs: Docs = None,
    index: IndexFolder = None,
    labels: Annotated[
        str | None,
        typer.Option("--set", metavar="LABELS", help="Access labels, separated by commas."),
    ] = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="Take the labels given to these paths away.")
    ] = False,
) -> None:
    """Say who may see documents.

    A caller of `lmstack up` sees a document only if its API key holds all of the document's
    labels: those set here for its path or a folder above it, and those in its own `access`
    field. On this machine's command line everything is seen.
    """
    chosen = chosen_index(docs, index, "lmstack index label")
    if (labels is None) == (not clear):
        raise CommandLineError(
            "give either --set or --clear",
            hint=f"lmstack index label PATH --set hr,board {chosen.option}",
            param="set",
        )
    wanted = None if labels is None else [one.strip() for one in labels.split(",")]
    with documents.open_index(chosen.place, None, create=False, embeds=False) as opened:
        changed = opened.set_labels(paths, wanted)
    if out.as_json:
        out.result({"index": str(chosen.place), "changed": changed})
    else:
        out.line(f"{changed} documents have other labels now")


def _print_result(
    out: Output,
    result: UpdateResult,
    chosen: ChosenIndex,
    progress: indexing.Shown | None = None,
) -> None:
    problems = [wiring.as_json(problem) for problem in result.problems]
    left_out = {problem["path"] for problem in problems if problem["kind"] != "access"}
    added = len(set(result.plan.add) - left_out)
    changed = len(set(result.plan.change) - left_out)
    if out.as_json:
        out.result(
            {
                "index": str(chosen.place),
                "added": added,
                "changed": changed,
                "removed": result.removed,
                "unchanged": result.plan.unchanged,
                "chunks": result.chunks,
                "problems": problems,
                "not_read": wiring.as_json(result.plan.not_read),
                "seconds": result.seconds,
            }
        )
        return
    out.line(
        f"{added} added, {changed} changed, {result.removed} removed,"
        f" {result.plan.unchanged} unchanged; {result.chunks} passages in"
        f" {seconds(result.seconds)}"
    )
    indexing.tell_of_problems(out, result, progress)
    indexing.tell_of_not_read(out, result, chosen.option)
    if not (added or changed or result.plan.unchanged or result.removed):
        from lmstack.rag.formats.load import ENDINGS_READ

        out.note(f"no document was found; these are read: {ENDINGS_READ}")
