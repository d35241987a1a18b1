"""The commands of `lmstack index` that look into an index and change nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

from lmstack.app import wiring
from lmstack.app.cli.command import command
from lmstack.app.cli.commands._index_options import ChosenIndex, chosen_index
from lmstack.app.cli.commands._options import Docs, EmbedderName, IndexFolder
from lmstack.app.cli.commands.index_move import check_store, store_lines
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, printable, size
from lmstack.app.report.drawing import ACCENT, BARS, QUIET, Sheet, check_picture
from lmstack.app.wiring import documents
from lmstack.core import IntegrityError

if TYPE_CHECKING:
    from lmstack.rag.catalogue.duplicates import Duplicate
    from lmstack.rag.catalogue.report import ChunkReport, Spread

__all__ = ["duplicates", "report", "show", "status", "verify"]


MOST_LINES = 100


@command(
    "index show",
    """
    PATH: A document of the index.
    --text: Print its text exactly as stored, and nothing else.

    lmstack index show --index notes.idx ~/notes/plan.md --text
    """,
)
def show(
    out: Output,
    path: Path,
    docs: Docs = None,
    index: IndexFolder = None,
    text: bool = False,
) -> None:
    """Show what an index knows of a document.

    With --text, what was made of the file: the offsets of passages and citations count the
    characters of this text. For text, Markdown, CSV and source code it is the file itself.
    """
    chosen = chosen_index(docs, index, "lmstack index show")
    with documents.open_index(chosen.place, None, create=False, embeds=False) as opened:
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


@command("index status", "lmstack index status --docs ~/notes --json")
def status(out: Output, docs: Docs = None, index: IndexFolder = None) -> None:
    """Show what an index holds, and which files are not in it.

    Those that could not be read, and those that are passed over on purpose (of a kind that is not
    read, left out by a pattern, in a folder of programs), each with the reason. Hidden files and
    folders are not counted.
    """
    from lmstack.rag.formats.load import ENDINGS_READ

    chosen = chosen_index(docs, index, "lmstack index status")
    with documents.open_index(chosen.place, None, create=False, embeds=False) as opened:
        found = wiring.as_json(opened.status())
    found["not_read"] = found["plan"].pop("not_read")
    if out.as_json:
        out.result(found)
        return
    problems, plan, not_read = (found.pop(name) for name in ("problems", "plan", "not_read"))
    for name in ("formats", "fields", "labels"):
        found[name] = [f"{key} ({_cell(name, value)})" for key, value in found[name].items()]
    rows = [
        (name.replace("_", " "), _cell(name, value))
        for name, value in found.items()
        if value not in (None, [])
    ]
    rows += [("endings read", ENDINGS_READ), ("state", _state(plan, chosen))]
    out.lines(columns(rows))
    _print_not_read(out, problems, not_read)


def _print_not_read(
    out: Output, problems: Sequence[Mapping[str, Any]], not_read: Mapping[str, Any]
) -> None:
    """Each file with the reason; of what is passed over on purpose the first `MOST_LINES`."""
    total, files = sum(not_read["counts"].values()), not_read["files"]
    # What to do is the same for all files of one kind, and stands in the JSON.
    listed = [*problems, *({**file, "hint": ""} for file in files[:MOST_LINES])]
    if not listed:
        return
    out.line()
    out.line(out.style("Not read", "bold"))
    out.lines(columns([_not_read_row(each) for each in listed], indent=2))
    if total > MOST_LINES:
        out.line(f"  and {total - MOST_LINES:,} more; --json lists the first {len(files):,}")


def _not_read_row(problem: Mapping[str, Any]) -> tuple[str, str]:
    reason = "; ".join(filter(None, (problem["message"], problem["hint"])))
    cells = (problem["path"], reason)
    path, reason = (printable(cell, one_line=True) for cell in cells)
    return path, reason


@command("index verify", "lmstack index verify --index notes.idx")
def verify(out: Output, docs: Docs = None, index: IndexFolder = None) -> None:
    """Check that an index is whole.

    Compares passages with their documents, words and vectors with their passages, and the
    database with itself; a store that the index keeps besides row by row, with its recall
    against exact search. Exit code 1 if something is wrong.
    """
    chosen = chosen_index(docs, index, "lmstack index verify")
    with documents.open_index(chosen.place, None, create=False, embeds=False) as opened:
        report = opened.verify()
        kept = opened.compare_store() if report.ok else None
    if out.as_json:
        ok = report.ok and not (kept and kept.findings)
        store = wiring.as_json(kept) if kept else None
        out.result({**wiring.as_json(report), "ok": ok, "store": store})
        if not ok:
            raise typer.Exit(1)
    elif report.ok:
        check_store(kept, chosen)
        out.line(f"{chosen.name} is whole: {report.documents} documents, {report.chunks} passages")
        if (recall := report.recall) is not None:
            out.line(
                f"approximate search: recall@{recall.k} {recall.mean:.3f} "
                f"({recall.low:.3f} to {recall.high:.3f}, {recall.queries} queries)"
            )
        out.lines(store_lines(kept) if kept else ())
    else:
        raise IntegrityError(
            f"the index is damaged: {'; '.join(report.findings[:3])} ({chosen.name})",
            hint=f"lmstack index update --rebuild {chosen.option}",
        )


@command(
    "index report",
    """
    -o, --output FILE: Also draw it: FILE.png or FILE.svg.

    lmstack index report --index notes.idx -o passages.png
    """,
)
def report(
    out: Output,
    docs: Docs = None,
    index: IndexFolder = None,
    output: Path | None = None,
    embedder: EmbedderName = None,
) -> None:
    """Show what the passages of an index look like.

    Their sizes, those that say little or stand under no heading, repeats, and whether the
    embedding model cuts any, counted again by its own tokenizer.
    """
    chosen = chosen_index(docs, index, "lmstack index report")
    if output is not None:
        check_picture(output)
    with documents.open_index(chosen.place, embedder, create=False) as opened:
        found = opened.report()
    if output is not None:
        draw_report(output, f"Passages of {chosen.name}", found)
    if out.as_json:
        facts = wiring.as_json(found)
        del facts["sizes"]
        out.result({"index": str(chosen.place), **facts})
    else:
        out.lines(report_lines(found))


@command(
    "index duplicates",
    """
    --similarity SHARE 0.5..1.0: From which share of common five-word sequences on, of all that two
        have.

    lmstack index duplicates --index notes.idx
    """,
)
def duplicates(
    out: Output,
    docs: Docs = None,
    index: IndexFolder = None,
    similarity: float = 0.8,
) -> None:
    """Show documents that say the same, wholly or nearly, in groups.

    Similarity is counted on the stored texts, with the newest document of the group. Which is
    the newest goes by the time of the file; nothing is removed.
    """
    chosen = chosen_index(docs, index, "lmstack index duplicates")
    with documents.open_index(chosen.place, None, create=False, embeds=False) as opened:
        groups = opened.duplicates(similarity)
    if out.as_json:
        out.result(
            {"index": str(chosen.place), "groups": [wiring.as_json(alike) for alike in groups]}
        )
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


def _state(plan: dict[str, Any] | None, chosen: ChosenIndex) -> str:
    """Whether the files have changed since, and what brings the index in step."""
    if plan is None:
        return "not compared with the files"
    kinds = ("add", "change", "remove")
    waiting = [f"{len(plan[kind])} to {kind}" for kind in kinds if plan[kind]]
    if not waiting:
        return "up to date"
    return f"{', '.join(waiting)}: lmstack index update {chosen.option}"


def _cell(name: str, value: Any) -> str:
    if isinstance(value, int) and name.endswith("bytes"):
        return size(value)
    if isinstance(value, list):
        return ", ".join(printable(str(v), one_line=True) for v in value)
    return printable(str(value), one_line=True)


MARGIN, TOP = 0.6, 1.1  # inches
PLOT = (4.4, 2.6)


def report_lines(report: ChunkReport) -> list[str]:
    """The report as people read it."""
    lines = columns(
        [
            ("", "least", "10 %", "median", "90 %", "most", "mean"),
            ("tokens", *_spread(report.tokens)),
            ("characters", *_spread(report.characters)),
        ]
    )
    checked = "counted again" if report.recounted else "as stored"
    rows = [
        ("passages", f"{report.chunks} of {report.documents} documents"),
        ("cut by the embedder", f"{report.truncated} (limit {report.limit} tokens, {checked})"),
        ("under no heading", str(report.orphans)),
        ("under 10 tokens", str(report.tiny)),
        ("repeats of another", str(report.duplicates)),
        ("prefixes", f"{100 * report.prefix_share:.0f} % of what is embedded"),
    ]
    if report.wrong_counts:
        rows.append(("counted wrongly", f"{report.wrong_counts}: lmstack index update --rebuild"))
    heads = ("format", "documents", "passages", "no heading", "tiny", "median tokens")
    table = [
        (
            f.format,
            *map(str, (f.documents, f.chunks, f.orphans, f.tiny, f.tokens.median)),
        )
        for f in report.formats
    ]
    return [*columns(rows), "", *lines, "", *columns([heads, *table])]


def _spread(spread: Spread) -> tuple[str, ...]:
    whole = (spread.least, spread.tenth, spread.median, spread.ninetieth, spread.most)
    return (*map(str, whole), f"{spread.mean:.1f}")


def draw_report(path: Path, title: str, report: ChunkReport) -> None:
    """Two histograms: tokens with the embedder's limit, and characters."""
    width = 2 * PLOT[0] + 3 * MARGIN
    sheet = Sheet(width, TOP + PLOT[1] + MARGIN + 0.1)
    sheet.text(MARGIN, 0.25, title, fontsize=13, fontweight="bold")
    note = (
        f"{report.chunks} passages of {report.documents} documents; {report.truncated} cut by the"
        f" embedder, {report.tiny} under 10 tokens, {report.duplicates} repeated"
    )
    sheet.text(MARGIN, 0.55, note, fontsize=9, color=QUIET)
    tokens = np.array([t for t, _ in report.sizes])
    characters = np.array([c for _, c in report.sizes])
    _histogram(sheet, MARGIN, tokens, "tokens of a passage, prefix included", report.limit)
    _histogram(sheet, 2 * MARGIN + PLOT[0], characters, "characters of its text", None)
    sheet.write(path)


def _histogram(
    sheet: Sheet, left: float, values: np.ndarray, label: str, limit: int | None
) -> None:
    axes = sheet.panel(left, TOP, *PLOT, below=label, beside="passages")
    axes.hist(values, bins=40, color=BARS)
    if limit is not None:
        axes.axvline(limit, color=ACCENT, linewidth=1.5)
        style = {"fontsize": 8, "color": ACCENT, "va": "top", **sheet.font}
        axes.text(limit, axes.get_ylim()[1], " limit", **style)
    axes.set_xlim(left=0)
