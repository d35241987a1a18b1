"""WikiTableQuestions: tables of Wikipedia, and what people asked about each, seeing it.

The questions of its test set (Pasupat and Liang 2015; CC BY-SA 4.0) whose one answer is a cell of
the table. What is counted or calculated no quotation can say, and the set does not tell which
numbers are, so answers that are numbers are left out. A question means little without its table
("who came third?"), so each is asked of its own, a file of comma-separated values; the gold are the
rows with the answer, whole, for cells are not told apart once commas are left out. No package
carries the set; it is fetched from its repository.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from answers_data import Collection, Gold, Item, is_fourth, merged
from answers_judge import normalized
from pinned import Repository, repository_folder

__all__ = ["TABLES"]

_ASKED = "data/pristine-unseen-tables.tsv"
_REPOSITORY = Repository(
    "https://github.com/ppasupat/WikiTableQuestions",
    "7d455a5a707b96341ef72aff9428749d443d8aa9",
    (_ASKED, "*.csv"),
)


def wikitables() -> Collection:
    """Of every fourth table."""
    folder = repository_folder(_REPOSITORY)
    asked = (folder / _ASKED).read_text("utf-8").splitlines()[1:]
    documents, items = dict[str, str](), list[Item]()
    for line in asked:
        _, question, source, answer = line.split("\t")
        wanted = normalized(answer)
        if is_fourth(source) and wanted and "|" not in answer and not wanted.isdigit():
            name = source.removeprefix("csv/").replace("-csv/", "-")
            rows = _rows(folder / source)
            documents[name] = "".join(map(_written, rows))
            holding = [row for row in rows[1:] if wanted in map(normalized, row)]
            if holding:
                gold = Gold(name, quotes=tuple(_written(row) for row in holding))
                items.append(Item(question, ("table",), (gold,), scope=(name,)))
    return Collection("wikitables", "en", documents, merged(items), apart=True)


def _rows(path: Path) -> list[list[str]]:
    """A cell's lines as one."""
    with path.open(encoding="utf-8", newline="") as lines:
        rows = csv.reader(lines, doublequote=False, escapechar="\\")
        return [[" ".join(cell.split()) for cell in row] for row in rows]


def _written(row: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(row)
    return line.getvalue()


TABLES = {"wikitables": wikitables}
