"""`lmstack index`: make an index of documents, keep it in step, look into it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmstack.app import document_wiring, indexing, wiring
from lmstack.app.command import command, group
from lmstack.app.commands._chunk_options import (
    ChunkerName,
    ChunkOverlap,
    ChunkTokens,
    VectorsForm,
    chunking_of,
)
from lmstack.app.commands._options import EmbedderName, Place, Rebuild, RequiredIndex
from lmstack.app.commands._reading_options import (
    Exclude,
    GitIgnore,
    Include,
    RayAddress,
    RayCopies,
    Watch,
    rules_of,
)
from lmstack.app.commands.index_move import StoreAddress, check_store, move, store_lines
from lmstack.app.drawing import check_picture
from lmstack.app.embedder_wiring import say_where_texts_go
from lmstack.app.failure import CommandLineError
from lmstack.app.formats import columns, printable, seconds, size
from lmstack.app.index_report import draw_report, report_lines
from lmstack.app.output import Output
from lmstack.core import IntegrityError

if TYPE_CHECKING:
    from lmstack.rag import UpdateResult
    from lmstack.rag.catalogue.duplicates import Duplicate

__all__ = ["register"]

Paths = Annotated[
    list[Path], typer.Argument(metavar="PATH", help="Files and folders of documents.")
]


def register(app: typer.Typer) -> None:
    index = group(
        "Make and keep an index of documents.\n\nAn index holds documents (.txt, .md, .html),"
        " their passages, words and vectors in one SQLite file. `lmstack ask --docs` and"
        " `lmstack up` keep one for each folder by themselves, under $LMSTACK_HOME/indexes, named"
        " by a hash of the folder's absolute path; these commands are for indexes of your own.",
        example="lmstack index add --index notes.idx ~/notes\n"
        "lmstack index update --index notes.idx\n"
        "lmstack index status --index notes.idx",
    )
    for name, function, example in (
        ("add", add, "lmstack index add --index notes.idx ~/notes"),
        ("update", update, "lmstack index update --index notes.idx"),
        ("remove", remove, "lmstack index remove --index notes.idx ~/notes/old.md"),
        ("label", label, "lmstack index label --index notes.idx ~/notes/salaries --set hr,board"),
        ("show", show, "lmstack index show --index notes.idx ~/notes/plan.md --text"),
        ("status", status, "lmstack index status --index notes.idx --json"),
        ("verify", verify, "lmstack index verify --index notes.idx"),
        ("duplicates", duplicates, "lmstack index duplicates --index notes.idx"),
        ("move", move, "lmstack index move --index notes.idx --to faiss:notes.faiss"),
        ("report", report, "lmstack index report --index notes.idx -o passages.png"),
    ):
        command(index, name, example=example)(function)
    app.add_typer(index, name="index")


def add(
    out: Output,
    paths: Paths,
    index: RequiredIndex,
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
    say_where_texts_go(out, embedder)
    out.interrupted = (KEPT, out.again(without=["--rebuild"]))
    chunking = chunking_of(chunker, chunk_tokens, chunk_overlap)
    form: Any = vectors.value if vectors else None
    with document_wiring.open_index(
        index,
        embedder,
        create=True,
        rebuild=rebuild,
        chunking=chunking,
        vectors=form,
    ) as opened:
        if store is not None:
            opened.keep_in(store)
        with indexing.shown_progress(out) as progress:
            result = opened.add(
                paths,
                progress=progress,
                rules=rules_of(include, exclude, gitignore),
                labels=labels or (),
                elsewhere=document_wiring.machines(opened, embedder, ray, copies),
            )
        _print_result(out, result, index, progress)
        indexing.tell_of_store(out, opened)
        indexing.tell_of_refused(out, opened)
        if watch:
            indexing.follow(out, opened, paths, lambda more: _print_result(out, more, index))


def update(
    out: Output,
    index: RequiredIndex,
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
    say_where_texts_go(out, embedder)
    out.interrupted = (KEPT, out.again(without=["--rebuild"]))
    if embedder is not None and not rebuild:
        _change_embedder(out, index, embedder)
    with document_wiring.open_index(index, embedder, create=False, rebuild=rebuild) as opened:
        with indexing.shown_progress(out) as progress:
            result = opened.update(paths or None, progress=progress)
        _print_result(out, result, index, progress)
        indexing.tell_of_store(out, opened)
        indexing.tell_of_refused(out, opened)
        if watch:
            indexing.follow(
                out, opened, paths or None, lambda more: _print_result(out, more, index)
            )


def _change_embedder(out: Output, index: Place, name: str) -> None:
    """Nothing, if the index is made with it already."""
    model = wiring.embedder(wiring.embedder_of_index(index, name))
    with document_wiring.open_index(index, None, create=False, embeds=False) as opened:
        if not opened.is_made_with(model):
            with indexing.shown_progress(out, f"Embedding with {name}") as progress:
                opened.reembed(model, progress)


def remove(out: Output, paths: Paths, index: RequiredIndex) -> None:
    """Take documents out of an index; the files themselves stay.

    They stay out of later updates until they are added again.
    """
    with document_wiring.open_index(index, None, create=False, embeds=False) as opened:
        removed = opened.remove(paths)
        indexing.tell_of_store(out, opened)
    if out.as_json:
        out.result({"index": str(index), "removed": removed})
    else:
        out.line(f"{removed} documents removed")


def label(
    out: Output,
    paths: Paths,
    index: RequiredIndex,
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
    if (labels is None) == (not clear):
        raise CommandLineError(
            "give either --set or --clear",
            hint="lmstack index label PATH --set hr,board --index DIR",
            param="set",
        )
    wanted = None if labels is None else [one.strip() for one in labels.split(",")]
    with document_wiring.open_index(index, None, create=False, embeds=False) as opened:
        changed = opened.set_labels(paths, wanted)
    if out.as_json:
        out.result({"index": str(index), "changed": changed})
    else:
        out.line(f"{changed} documents have other labels now")


def show(
    out: Output,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A document of the index.")],
    index: RequiredIndex,
    text: Annotated[
        bool, typer.Option("--text", help="Print its text exactly as stored, and nothing else.")
    ] = False,
) -> None:
    """Show what an index knows of a document.

    With --text, what was made of the file: the offsets of passages and citations count the
    characters of this text. For text, Markdown, CSV and source code it is the file itself.
    """
    with document_wiring.open_index(index, None, create=False, embeds=False) as opened:
        document = opened.document(path)
        # One document has no more than one line in the list.
        info = next(i for i in opened.documents() if i.path == document.path)
    if text and not out.as_json:
        out.write(document.text)
        return
    facts = {
        "path": document.path,
        "title": document.title,
        "format": document.format,
        "language": document.language,
        "characters": len(document.text),
        "pages": len(document.pages),
        "passages": info.chunks,
        "labels": list(info.labels),
        "fields": wiring.as_json(info.fields),
    }
    if out.as_json:
        out.result({**facts, **({"text": document.text} if text else {})})
        return
    fields = facts.pop("fields")
    rows = [(name, _cell(name, value)) for name, value in facts.items()]
    out.lines(columns([*rows, *((f"  {name}", _cell(name, fields[name])) for name in fields)]))


def status(out: Output, index: RequiredIndex) -> None:
    """Show what an index holds, and which files could not be read."""
    with document_wiring.open_index(index, None, create=False, embeds=False) as opened:
        found = wiring.as_json(opened.status())
    if out.as_json:
        out.result(found)
        return
    problems, plan = found.pop("problems"), found.pop("plan")
    for name in ("fields", "labels"):
        found[name] = [f"{key} ({_cell(name, value)})" for key, value in found[name].items()]
    rows = [(name.replace("_", " "), _cell(name, value)) for name, value in found.items()]
    out.lines(columns([*rows, ("state", _state(plan, index))]))
    out.problems(problems)


def verify(out: Output, index: RequiredIndex) -> None:
    """Check that an index is whole.

    Compares passages with their documents, words and vectors with their passages, and the
    database with itself; a store that the index keeps besides row by row, with its recall
    against exact search. Exit code 1 if something is wrong.
    """
    with document_wiring.open_index(index, None, create=False, embeds=False) as opened:
        report = opened.verify()
        kept = opened.compare_store() if report.ok else None
    if out.as_json:
        ok = report.ok and not (kept and kept.findings)
        store = wiring.as_json(kept) if kept else None
        out.result({**wiring.as_json(report), "ok": ok, "store": store})
        if not ok:
            raise typer.Exit(1)
    elif report.ok:
        check_store(kept, index)
        out.line(f"{index} is whole: {report.documents} documents, {report.chunks} passages")
        if (recall := report.recall) is not None:
            out.line(
                f"approximate search: recall@{recall.k} {recall.mean:.3f} "
                f"({recall.low:.3f} to {recall.high:.3f}, {recall.queries} queries)"
            )
        out.lines(store_lines(kept) if kept else ())
    else:
        raise IntegrityError(
            f"the index is damaged: {'; '.join(report.findings[:3])} ({index})",
            hint=f"lmstack index update --rebuild --index {shlex.quote(str(index))}",
        )


def report(
    out: Output,
    index: RequiredIndex,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Also draw it: FILE.png or FILE.svg."),
    ] = None,
    embedder: EmbedderName = None,
) -> None:
    """Show what the passages of an index look like.

    Their sizes, those that say little or stand under no heading, repeats, and whether the
    embedding model cuts any, counted again by its own tokenizer.
    """
    if output is not None:
        check_picture(output)
    with document_wiring.open_index(index, embedder, create=False) as opened:
        found = opened.report()
    if output is not None:
        draw_report(output, f"Passages of {_name(index)}", found)
    if out.as_json:
        facts = wiring.as_json(found)
        del facts["sizes"]
        out.result({"index": str(index), **facts})
    else:
        out.lines(report_lines(found))


def _name(index: Place) -> str:
    """A folder's name, or a whole address: the last part of one says little."""
    name = index.name if isinstance(index, Path) else index
    return printable(name, one_line=True)


def duplicates(
    out: Output,
    index: RequiredIndex,
    similarity: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            min=0.5,
            max=1.0,
            help="From which share of common five-word sequences on, of all that two have.",
        ),
    ] = 0.8,
) -> None:
    """Show documents that say the same, wholly or nearly, in groups.

    Similarity is counted on the stored texts, with the newest document of the group. Which is
    the newest goes by the time of the file; nothing is removed.
    """
    with document_wiring.open_index(index, None, create=False, embeds=False) as opened:
        groups = opened.duplicates(similarity)
    if out.as_json:
        out.result({"index": str(index), "groups": [wiring.as_json(alike) for alike in groups]})
        return
    for alike in groups:
        out.lines(columns([_duplicate_row(document) for document in alike.documents]))
        out.line()
    copies = sum(len(alike.documents) - 1 for alike in groups)
    out.line(f"{copies} documents repeat another one, in {len(groups)} groups")


def _duplicate_row(document: Duplicate) -> tuple[str, ...]:
    says = "the same text" if document.exact else f"{document.similarity:.0%} alike"
    path = printable(document.path, one_line=True)
    return ("newest" if document.newest else says, document.modified, path)


KEPT = "the documents indexed so far are kept"


def _print_result(
    out: Output, result: UpdateResult, index: Place, progress: indexing.Shown | None = None
) -> None:
    problems = [wiring.as_json(problem) for problem in result.problems]
    left_out = {problem["path"] for problem in problems if problem["kind"] != "access"}
    added = len(set(result.plan.add) - left_out)
    changed = len(set(result.plan.change) - left_out)
    if out.as_json:
        out.result(
            {
                "index": str(index),
                "added": added,
                "changed": changed,
                "removed": result.removed,
                "unchanged": result.plan.unchanged,
                "chunks": result.chunks,
                "problems": problems,
                "seconds": result.seconds,
            }
        )
        return
    out.line(
        f"{added} added, {changed} changed, {result.removed} removed,"
        f" {result.plan.unchanged} unchanged; {result.chunks} passages in"
        f" {seconds(result.seconds)}"
    )
    out.problems(progress.rest(problems) if progress else problems)


def _state(plan: dict[str, Any] | None, index: Place) -> str:
    """Whether the files have changed since, and what brings the index in step."""
    if plan is None:
        return "not compared with the files"
    kinds = ("add", "change", "remove")
    waiting = [f"{len(plan[kind])} to {kind}" for kind in kinds if plan[kind]]
    if not waiting:
        return "up to date"
    return f"{', '.join(waiting)}: lmstack index update --index {shlex.quote(str(index))}"


def _cell(name: str, value: Any) -> str:
    if isinstance(value, int) and name.endswith("bytes"):
        return size(value)
    if isinstance(value, list):
        return ", ".join(printable(str(v), one_line=True) for v in value)
    return printable(str(value), one_line=True)
