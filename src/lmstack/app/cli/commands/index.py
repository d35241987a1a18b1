"""`lmstack index`: make an index of documents and keep it in step.

Does not cover the commands that only look into one: `index_looking`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from lmstack.app import wiring
from lmstack.app.cli import indexing
from lmstack.app.cli.command import command, group, option
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
from lmstack.app.cli.commands.index_move import StoreAddress
from lmstack.app.cli.failure import CommandLineError
from lmstack.app.cli.output import Output
from lmstack.app.formats import seconds
from lmstack.app.wiring import documents

if TYPE_CHECKING:
    from lmstack.rag import UpdateResult

__all__ = ["add", "label", "remove", "update"]

Paths = Annotated[list[Path], option("PATH: Files and folders of documents.")]
KEPT = "the documents indexed so far are kept"


group(
    "index",
    "add update remove label show status verify duplicates move report",
    """
    Make and keep an index of documents.

    An index holds documents (.txt, .text, .md, .markdown, .html, .htm, .xhtml, .pdf, .docx, .eml,
    .csv, .tsv, .tab, .jsonl, .ndjson, .ipynb and source code), their passages, words and vectors in
    one SQLite file. `lmstack ask` and `lmstack up` keep one for each folder by themselves, under
    $LMSTACK_HOME/indexes, named by a hash of the folder's absolute path: --docs names that one,
    --index one of your own.

    lmstack index add --docs ~/notes
    lmstack index status --docs ~/notes
    lmstack index add --index notes.idx ~/notes
    lmstack index update --index notes.idx
    """,
)


@command(
    "index add",
    """
    PATH: Files and folders of documents; with --docs, some in it, or all of it without PATH.
    --label LABEL: Only callers that hold this access label see these documents; repeat it for
        several, all of which are needed then.

    lmstack index add --index notes.idx ~/notes
    """,
)
def add(
    out: Output,
    paths: list[Path] | None = None,
    docs: Docs = None,
    index: IndexFolder = None,
    include: Include = None,
    exclude: Exclude = None,
    gitignore: GitIgnore = None,
    store: StoreAddress = None,
    watch: Watch = False,
    labels: list[str] | None = None,
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


@command(
    "index update",
    """
    PATH: Only these; without them, everything that was added.

    lmstack index update --index notes.idx
    """,
)
def update(
    out: Output,
    docs: Docs = None,
    index: IndexFolder = None,
    paths: list[Path] | None = None,
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


@command("index remove", "lmstack index remove --index notes.idx ~/notes/old.md")
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


@command(
    "index label",
    """
    --set LABELS: Access labels, separated by commas.
    --clear: Take the labels given to these paths away.

    lmstack index label --index notes.idx ~/notes/salaries --set hr,board
    """,
)
def label(
    out: Output,
    paths: Paths,
    docs: Docs = None,
    index: IndexFolder = None,
    labels: str | None = None,
    clear: bool = False,
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
