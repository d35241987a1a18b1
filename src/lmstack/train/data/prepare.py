"""Files to the examples of a run: hashed, read, encoded, split by document, and reported on.

Examples are encoded once, into a store in the run's folder that is named by everything they follow
from: the content of the files, the tokenizer and template, the objective, the settings. A run that
resumes, or another with the same data, opens it. The store appears in one rename, whole.

A document goes to training or validation by a hash of what it says, a preference and a rating by
its prompt's, so the split does not change when rows are added. Copies of it, exact and near, go
with the first of them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import lmstack
from lmstack.core import InputError
from lmstack.core.files import store_error
from lmstack.registry import locked
from lmstack.train.data.copies import CopyFinder, hash_of
from lmstack.train.data.encoding import encoded_rows
from lmstack.train.data.fingerprint import (
    DataFile,
    check_same_files,
    check_unchanged,
    data_files,
    fingerprint,
)
from lmstack.train.data.formats import document_of, split_text_of
from lmstack.train.data.report import DataReport, Lengths
from lmstack.train.data.rows import BadRow, Row, Rows, find_data
from lmstack.train.data.split import Split
from lmstack.train.data.store import ExampleStore, ExampleWriter
from lmstack.train.objectives.objective import Objective, Reading

__all__ = ["DataSelection", "PreparedData", "Told", "prepare"]

Told = Callable[[str, int, int], None]
# So many rows that are all unusable: the rest will be too.
_HOPELESS = 1000


@dataclass(frozen=True)
class DataSelection:
    """Which rows are used. ``data``: files, folders and patterns. ``validation``: a share of their
    documents, or files of its own. ``seed``: of the split. ``strict``: the first bad row is an
    error. ``deduplicate``: of exact and near copies the first alone is used, and nothing to train
    on is a copy of what is in files to validate with."""

    data: Sequence[str]
    validation: float | Sequence[str] = 0.0
    seed: int = 0
    strict: bool = False
    deduplicate: bool = False

    @property
    def share(self) -> float:
        return float(self.validation) if isinstance(self.validation, int | float) else 0.0

    @property
    def held(self) -> Sequence[str]:
        """Files to validate with."""
        if isinstance(self.validation, int | float):
            return ()
        return (self.validation,) if isinstance(self.validation, str) else self.validation


@dataclass(frozen=True)
class PreparedData:
    """Examples to train on and to validate with. ``fingerprint``: of the files' content.
    ``folder``: where they lie, of whose name everything is that they follow from."""

    train: ExampleStore
    validation: ExampleStore
    report: DataReport
    fingerprint: str
    folder: Path


def prepare(
    selection: DataSelection,
    objective: Objective,
    reading: Reading,
    folder: Path,
    *,
    before: Sequence[Mapping[str, Any]] | None = None,
    told: Told = lambda _doing, _done, _total: None,
) -> PreparedData:
    """The examples that ``objective`` makes of the rows, kept in ``folder``, one set at a time.

    ``before``: `DataReport.files` of the run that goes on, where one does. ``told``: called with
    what is going on, bytes read, and all bytes. `InputError`: a file changed, no row can be used,
    or under ``strict`` one cannot. Several processes may call it at once; one encodes."""
    held = find_data(selection.held)
    apart = {path.resolve() for path in held}  # a folder of data may hold them
    paths = [path for path in find_data(selection.data) if path.resolve() not in apart]
    files = data_files([*paths, *held])
    if before is not None:
        check_same_files(before, files)
    work = _Work(selection, objective, reading, files, len(paths), told)
    target = folder / work.key()
    with locked(folder / ".lock"):
        if not target.is_dir():
            _encode(work, target)
    report = DataReport.from_json(json.loads((target / "report.json").read_bytes()))
    report.files = [file.to_json() for file in files]  # the names that they have now
    train, validation = (ExampleStore(target / part) for part in ("train", "validation"))
    return PreparedData(train, validation, report, fingerprint(files), target)


@dataclass(frozen=True)
class _Work:
    """``own``: how many of ``files`` are to train on; the others are validated with."""

    selection: DataSelection
    objective: Objective
    reading: Reading
    files: Sequence[DataFile]
    own: int
    told: Told

    def key(self) -> str:
        """Of everything that the examples follow from."""
        reading, template = self.reading, self.reading.template
        return hashlib.sha256(
            json.dumps(
                [
                    lmstack.__version__,
                    [file.sha256 for file in self.files],
                    self.own,
                    self.selection.share,
                    self.selection.seed,
                    self.selection.strict,
                    self.selection.deduplicate,
                    type(self.objective).__name__,
                    dataclasses.asdict(self.objective),
                    reading.tokenizer.digest,
                    template and template.source,
                    reading.max_length,
                    reading.segments,
                    reading.decoder_start,
                ]
            ).encode()
        ).hexdigest()[:16]


def _encode(work: _Work, target: Path) -> None:
    """Write ``target``, whole or not at all, and forget what was there for other settings."""
    partial = target.with_name(f".{target.name}.part")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        with (
            ExampleWriter(partial / "train") as train,
            ExampleWriter(partial / "validation") as validation,
        ):
            report = _written(work, train, validation, _split(work, partial / "copies"))
        shutil.rmtree(partial / "copies", ignore_errors=True)
        check_unchanged(work.files)
        report.lengths = Lengths.of(ExampleStore(partial / "train").lengths)
        text = json.dumps(report.to_json(), indent=2) + "\n"
        (partial / "report.json").write_bytes(text.encode())
        for older in target.parent.iterdir():
            if older.is_dir() and older != partial:
                shutil.rmtree(older, ignore_errors=True)
        partial.rename(target)
    except OSError as error:
        raise store_error(error, target, "writing") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _split(work: _Work, folder: Path) -> Split | None:
    """Of all rows in order, bad ones included; None where nothing depends on copies."""
    selection = work.selection
    if not (selection.deduplicate or selection.share or work.own < len(work.files)):
        return None
    finder, keys = CopyFinder(folder), array("Q")
    rows, own = Rows([file.path for file in work.files]), 0
    for row in rows:
        finder.add(document_of(row) if isinstance(row, Row) else "")
        keys.append(hash_of(split_text_of(row) if isinstance(row, Row) else ""))
        own += rows.file < work.own
        work.told("looking for copies", rows.done, rows.total)
    return Split(
        finder.copies(),
        np.array(keys, np.uint64),
        own,
        selection.share,
        selection.seed,
        deduplicate=selection.deduplicate,
    )


def _written(
    work: _Work, train: ExampleWriter, validation: ExampleWriter, split: Split | None
) -> DataReport:
    report = DataReport()
    rows = Rows([file.path for file in work.files])
    encoded = encoded_rows(rows, work.objective, work.reading)
    for place, (row, examples) in enumerate(encoded):
        work.told("encoding", rows.done, rows.total)
        if isinstance(row, BadRow):
            report.add_bad(row)
            _check_hope(work, report, row)
            continue
        report.add(document_of(row), examples)
        side = "train" if split is None else split.side(place, report)
        if side is not None:
            writer = train if side == "train" else validation
            for example in examples:
                writer.add(example)
    report.examples, report.validation = train.examples, validation.examples
    report.tokens = train.tokens
    if not train.examples:
        raise _none_usable(work, report)
    return report


def _check_hope(work: _Work, report: DataReport, row: BadRow) -> None:
    if work.selection.strict:
        raise InputError(
            f"{row.place}: {row.reason}", hint="mend the row, or strict=false", param="data"
        )
    if report.bad_rows == report.rows == _HOPELESS:
        raise _none_usable(work, report)


def _none_usable(work: _Work, report: DataReport) -> InputError:
    reasons = "; ".join(f"{bad.place}: {bad.reason}" for bad in report.bad[:2])
    files = ", ".join(map(str, work.selection.data))
    what = f"none of the {report.rows} rows of {files} can be trained on"
    return InputError(
        (what if report.rows else f"there is no row in {files}")
        + (f" ({reasons})" if reasons else ""),
        hint=f"the objective reads {', '.join(work.objective.reads)}",
        param="data",
    )
