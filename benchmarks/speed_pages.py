"""The tables and pictures of `speed.py`, from the results of its scripts.

A page holds ``<!-- speed: NAME -->`` and ``<!-- /speed -->``; what stands between is written anew,
where there are results for it.
"""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from spine import HERE

__all__ = ["write_pages"]

RESULTS, DOCS = HERE / "results", HERE.parent / "docs"
OURS, THEIRS = "#1f5fa8", "#8a8a8a"
# What is shown of `retrieval_speed.py`, under which name.
RANKED_WORDS = {"lmstack ranked": "lmstack, ranked", "bm25s ranked": "bm25s, ranked"}
RANKED_MEANING = {
    "lmstack vectors": "lmstack, ranked",
    "faiss flat": "FAISS flat, ranked",
    "faiss hnsw": "FAISS HNSW, ranked",
}
SEARCHED = {
    "lmstack lexical": "lmstack, by words",
    "lmstack dense": "lmstack, by meaning",
    "lmstack hybrid": "lmstack, by both",
    "chroma dense": "Chroma, by meaning",
}
STORED = {
    "lmstack hybrid": "lmstack, from files",
    "bm25s ranked": "bm25s",
    "chroma dense": "Chroma",
    "faiss flat": "FAISS flat",
    "faiss hnsw": "FAISS HNSW",
}
CHUNKERS = {
    "windows": ("lmstack fixed", "chonkie tokens-token", ""),
    "sentences": ("lmstack sentence", "chonkie tokens-sentence", ""),
    "recursive": ("lmstack recursive", "chonkie tokens-recursive", "langchain tokens-recursive"),
    "semantic": ("lmstack semantic", "chonkie tokens-semantic", ""),
    "structure": ("lmstack structure", "", ""),
}
READERS = {
    "lmstack": "lmstack",
    "pypdf": "pypdf",
    "pdfminer": "pdfminer.six",
    "docling_parse": "docling-parse",
}


def write_pages() -> None:
    names = ("speed", "words", "retrieval_speed", "chunking", "documents")
    files = {name: RESULTS / f"{name}.json" for name in names}
    found = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
    tables = {
        table: "\n".join(lines(found[name]))
        for table, (name, lines) in TABLES.items()
        if name in found
    }
    written = set()
    for page in sorted(DOCS.glob("*.md")):
        old = page.read_text("utf-8")
        new = old
        for name, table in tables.items():
            place = re.compile(f"(<!-- speed: {name} -->\n).*?(<!-- /speed -->)", re.DOTALL)
            new, count = place.subn(lambda m, t=table: f"{m[1]}{t}\n{m[2]}", new)
            written |= {name} if count else set()
        if new != old:
            page.write_text(new, "utf-8")
            print(f"written to {page.relative_to(HERE.parent)}")
    if missing := sorted(tables.keys() - written):
        raise SystemExit(f"no page has a place for {', '.join(missing)}")
    draw(found, DOCS / "pictures")


def run_lines(speed: Mapping[str, Any]) -> Iterator[str]:
    """What the figures are from."""
    before = speed["before"]
    beside = ", ".join(f"{name} {share:.0%}" for name, share in before["beside"].items())
    minutes = sum(speed["seconds"].values()) / 60
    began = speed["began"].replace("T", " ")[:16]
    yield (
        f"Measured on {before['processor']}, {before['cores']} cores, "
        f"{before['memory_gb']:.0f} GB, Python {before['python']}, in one run of {minutes:.0f} "
        f"minutes that began at {began} UTC; load before it {before['load_a_minute']}, after it "
        f"{speed['after']['load_a_minute']}; beside it ran {beside or 'nothing'} (share of a core)."
    )


def row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def head(*cells: str) -> Iterator[str]:
    yield row(*cells)
    yield "|" + "---|" * len(cells)


def sizes_of(record: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(f"{int(size):,}", rows) for size, rows in record["sizes"].items()]


def ranking(record: Mapping[str, Any]) -> Iterator[str]:
    """`words.py`: milliseconds a query, text to numbers."""
    speed = record["speed"]
    yield from head("mean (p95), ms", *(f"{one['passages']:,} passages" for one in speed))
    for name in ("lmstack", "bm25s with numba", "bm25s", "FTS5"):
        cells = [
            f"{one[name]['mean_ms']:.3f} ({one[name]['p95_ms']:.3f})" if name in one else "–"
            for one in speed
        ]
        yield row(name, *cells)


def search(record: Mapping[str, Any]) -> Iterator[str]:
    sizes = sizes_of(record)
    yield from head("queries/s (p95 in ms; recall@10)", *(f"{size} passages" for size, _ in sizes))
    groups = (("words: ", RANKED_WORDS), ("meaning: ", RANKED_MEANING), ("passages: ", SEARCHED))
    for group, names in groups:
        for name, shown in names.items():
            cells = []
            for _, rows in sizes:
                one = rows[name]
                recall = f"; {one['recall_at_10']:.3f}" if "recall_at_10" in one else ""
                cells.append(f"{one['queries_per_s']:,.0f} ({one['p95_ms']:.2f}{recall})")
            yield row(group + shown, *cells)


def indexing(record: Mapping[str, Any]) -> Iterator[str]:
    sizes = sizes_of(record)
    yield from head("passages indexed/s; memory in MB", *(f"{size} passages" for size, _ in sizes))
    for name, shown in STORED.items():
        cells = [
            f"{rows[name]['indexing']['passages_per_s']:,.0f}; {rows[name]['memory_mb']:,.0f}"
            for _, rows in sizes
        ]
        yield row(shown, *cells)
    rate = record.get("with_model_passages_per_s")
    if not rate:
        return
    yield ""
    yield f"With the model running, lmstack indexes {rate:,.0f} of these passages a second."


def chunking(record: Mapping[str, Any]) -> Iterator[str]:
    rows = record["rows"]
    yield from head("MB/s, first pass (later)", "lmstack", "Chonkie", "LangChain")
    for shown, sides in CHUNKERS.items():
        cells = [
            f"{rows[side]['first_mb_per_s']:.2f} ({rows[side]['again_mb_per_s']:.2f})"
            if side
            else "–"
            for side in sides
        ]
        yield row(shown, *cells)


def documents(record: Mapping[str, Any]) -> Iterator[str]:
    yield from head("", "pages/s", "pages read", "version")
    for name, one in record["rows"].items():
        version = "" if name == "lmstack" else next(iter(record["versions"][name].values()))
        cells = (f"{one['pages_per_s']:,.1f}", f"{one['pages']:,}", version)
        yield row(READERS[name], *cells)
    agree = "agree" if record["page_counts_agree"] else "DIFFER"
    total = sum(record["files"].values())
    yield ""
    yield (
        f"{len(record['files'])} files of {total:,} pages; page counts of "
        f"{', '.join(record['counted_by'])} {agree}."
    )


TABLES: dict[str, tuple[str, Callable[[Mapping[str, Any]], Iterator[str]]]] = {
    "run": ("speed", run_lines),
    "ranking": ("words", ranking),
    "search": ("retrieval_speed", search),
    "indexing": ("retrieval_speed", indexing),
    "chunking": ("chunking", chunking),
    "documents": ("documents", documents),
}


def draw(found: Mapping[str, Any], folder: pathlib.Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    folder.mkdir(exist_ok=True)
    if "retrieval_speed" in found:
        _lines(found["retrieval_speed"], folder / "retrieval-speed.svg")
        _stored(found["retrieval_speed"], folder / "indexing-speed.svg")
    if "chunking" in found and "documents" in found:
        _bars(found, folder / "documents-speed.svg")


def _lines(record: Mapping[str, Any], path: pathlib.Path) -> None:
    """Queries a second against passages."""
    titles = ("ranked by words", "ranked by meaning", "found, with their texts")
    groups = (RANKED_WORDS, RANKED_MEANING, SEARCHED)
    panels = [
        (title, "queries/s", _series(record, names, lambda one: one["queries_per_s"]))
        for title, names in zip(titles, groups, strict=True)
    ]
    _against_passages(record, panels, path)


def _stored(record: Mapping[str, Any], path: pathlib.Path) -> None:
    panels = [
        (
            "stored",
            "passages/s",
            _series(record, STORED, lambda one: one["indexing"]["passages_per_s"]),
        ),
        ("memory", "MB", _series(record, STORED, lambda one: max(one["memory_mb"], 1))),
    ]
    _against_passages(record, panels, path)


def _series(record: Mapping[str, Any], names: Mapping[str, str], value: Any) -> dict[str, Any]:
    return {
        shown: [value(rows[name]) for rows in record["sizes"].values()]
        for name, shown in names.items()
    }


def _against_passages(
    record: Mapping[str, Any], panels: Sequence[tuple[str, str, Any]], path: pathlib.Path
) -> None:
    import matplotlib.pyplot as plt

    sizes = [int(size) for size in record["sizes"]]
    figure, axes = plt.subplots(1, len(panels), figsize=(3.9 * len(panels), 3.3), squeeze=False)
    styles = ("-", "--", ":", "-.")
    for axis, (title, label, series) in zip(axes[0], panels, strict=True):
        counts = {OURS: 0, THEIRS: 0}
        for name, values in series.items():
            colour = OURS if name.startswith("lmstack") else THEIRS
            style = styles[counts[colour] % len(styles)]
            counts[colour] += 1
            axis.plot(sizes, values, style, marker="o", ms=4, lw=1.5, color=colour, label=name)
        axis.set(xscale="log", yscale="log")
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("passages", fontsize=8)
        axis.set_ylabel(label, fontsize=8)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _bars(found: Mapping[str, Any], path: pathlib.Path) -> None:
    """Pages and megabytes a second."""
    import matplotlib.pyplot as plt

    pages = {READERS[n]: one["pages_per_s"] for n, one in found["documents"]["rows"].items()}
    rows = found["chunking"]["rows"]
    cut = {
        f"{who}, {shown}": rows[side]["first_mb_per_s"]
        for shown, sides in CHUNKERS.items()
        for who, side in zip(("lmstack", "Chonkie", "LangChain"), sides, strict=True)
        if side
    }
    figure, axes = plt.subplots(1, 2, figsize=(9.2, 2.9))
    panels = (("PDF pages a second", pages), ("MB a second cut, first pass", cut))
    for axis, (title, values) in zip(axes, panels, strict=True):
        colours = [OURS if name.startswith("lmstack") else THEIRS for name in values]
        axis.barh(range(len(values)), list(values.values()), color=colours)
        axis.set_yticks(range(len(values)), list(values), fontsize=8)
        axis.invert_yaxis()
        axis.set_title(title, fontsize=10)
        axis.tick_params(axis="x", labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
