"""An index that keeps a store: documents to put into it, and what is found and stored."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np

from lmstack.rag import Index
from lmstack.rag.filters import Filter
from lmstack.rag.retrieve.hybrid import Mode
from lmstack.rag.view import IndexView

__all__ = ["content", "corpus", "found", "write"]

WORDS = ["harbour", "lantern", "meadow", "quartz", "violet", "copper", "willow", "marble"]
QUERIES = ("harbour lantern", "violet", "marble willow copper")


def write(folder: Path, number: int, seed: int) -> None:
    """A document of some paragraphs, with a date, a list, and the same times whenever made."""
    dice = random.Random(seed)
    path = folder / f"{'ab'[number % 2]}/{number}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    matter = (
        f"---\ndate: 2024-0{number % 9 + 1}-01\nweight: {number}\ntags: [x, y{number % 3}]\n---\n"
    )
    texts = [" ".join(dice.choices(WORDS, k=40)) for _ in range(dice.randint(1, 4))]
    path.write_text(matter + "\n\n".join(texts) + "\n")
    os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))


def corpus(folder: Path, count: int) -> Path:
    for number in range(count):
        write(folder, number, number)
    return folder


def found(
    index: IndexView, where: Filter | None = None, modes: tuple[Mode, ...] = ("dense", "hybrid")
) -> list[list[tuple[object, ...]]]:
    return [
        [
            (hit.path, hit.start, hit.score, hit.similarity)
            for hit in index.search(query, 8, mode, where=where)
        ]
        for query in QUERIES
        for mode in modes
    ]


def content(index: Index) -> dict[tuple[str, int], tuple[bytes, object]]:
    """What the store of an index holds, by path and place in the document."""
    keeper = index._opened.keeper
    store = keeper._at(keeper.address).opened()
    where = {}
    for info in index.documents():
        with index._database.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT id, ordinal FROM chunks WHERE document_id = ?", (info.id,)
            )
            where.update({row.id: (info.path, row.ordinal) for row in rows})
    rows = store.fetch(np.array(sorted(store.ids()), np.int64))
    return {where[row.id]: (row.vector.round(5).tobytes(), row.fields) for row in rows}
