"""What `lmstack run` reads (lines of a file, JSON lines, standard input) and what it writes:
results as people read them in a terminal, aligned, with nothing that moves the cursor. Does not
cover JSON: results write that themselves.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any, Self

from lmstack.app.formats import columns, printable
from lmstack.core import FormatError, InputError, NotFoundError, StoreError, shown

__all__ = ["ResultFile", "count_lines", "read_inputs", "read_whole", "result_lines"]


PREVIEW = 72


def result_lines(task: str, result: Any, text: str = "") -> list[str]:
    """``result`` of ``task`` as lines. ``text``: what it was about, to show entities as they
    stand there, and answers beside their rewards."""
    if task == "token-classification":
        return _entities(result, text)
    if task == "reward":
        return columns([(f"{result.score:.4f}", _preview(text))])
    return _WRITERS[task](result)


def _labels(result: Any) -> list[str]:
    return columns([(_flat(label.label), f"{label.score:.4f}") for label in result.labels])


def _entities(result: Any, text: str) -> list[str]:
    rows = [
        (_flat(e.label), _flat(text[e.start : e.end]), f"{e.start}-{e.end}", f"{e.score:.4f}")
        for e in result.entities
    ]
    return columns(rows) or ["no entities"]


def _fills(result: Any) -> list[str]:
    lines: list[str] = []
    for number, fills in enumerate(result.masks, 1):
        if len(result.masks) > 1:
            lines.append(f"mask {number}")
        lines += columns([(_flat(f.token), f"{f.score:.4f}", _preview(f.sequence)) for f in fills])
    return lines


def _answers(result: Any) -> list[str]:
    return columns(
        [
            (_preview(a.answer) or "(no answer)", f"{a.start}-{a.end}", f"{a.score:.4f}")
            for a in result.answers
        ]
    ) or ["(no answer)"]


def _features(result: Any) -> list[str]:
    rows = [
        (_flat(token), *_numbers(vector))
        for token, vector in zip(result.tokens, result.vectors, strict=True)
    ]
    tokens, dimensions = result.vectors.shape
    return [f"{tokens} tokens of {dimensions} dimensions", *columns(rows, indent=2)]


def _embedding(result: Any) -> list[str]:
    numbers = "  ".join(_numbers(result.vector))
    return [f"{len(result.vector)} dimensions: {numbers}"]


def _ranking(result: Any) -> list[str]:
    return columns(
        [
            (f"{place}.", f"{r.score:.4f}", f"[{r.index}]", _preview(r.text))
            for place, r in enumerate(result.results, 1)
        ]
    )


def _text(result: Any) -> list[str]:
    return printable(result.text).splitlines() or [""]


def _generated(result: Any) -> list[str]:
    lines = _text(result)
    for other in result.others or ():
        lines += ["", *printable(other).splitlines()]
    return lines


_WRITERS: dict[str, Callable[[Any], list[str]]] = {
    "text-classification": _labels,
    "zero-shot-classification": _labels,
    "fill-mask": _fills,
    "question-answering": _answers,
    "feature-extraction": _features,
    "sentence-embedding": _embedding,
    "reranking": _ranking,
    "text-generation": _generated,
    "chat": _generated,
    "summarization": _text,
    "translation": _text,
}


def _numbers(vector: Sequence[float]) -> list[str]:
    """The first few, to tell vectors apart by eye; JSON has them all."""
    return [*(f"{value:+.4f}" for value in vector[:6]), *(["..."] if len(vector) > 6 else [])]


def _flat(text: str) -> str:
    return printable(text, one_line=True)


def _preview(text: str) -> str:
    flat = " ".join(printable(text).split())
    return flat if len(flat) <= PREVIEW else flat[:PREVIEW].rsplit(" ", 1)[0] + " …"


STDIN = Path("-")


def read_inputs(path: Path) -> Iterator[Any]:
    """An input a line, read as they are asked for. In the place of a line that cannot be read
    stands the error that says why: it is no reason to lose the lines around it."""
    with _opened(path) as lines:
        for number, line in enumerate(lines, 1):
            yield _input_of(line, path, number)


def read_whole(path: Path) -> str:
    """All of a file as one text."""
    with _opened(path) as lines:
        return _decoded(lines.read(), path, 1)


def count_lines(path: Path) -> int | None:
    """How many inputs a file holds; None where that is not known beforehand."""
    if path == STDIN or not path.is_file():
        return None
    count, last = 0, b"\n"
    with _opened(path) as lines:
        while block := lines.read(1 << 20):
            count, last = count + block.count(b"\n"), block[-1:]
    return count + (last != b"\n")


class ResultFile:
    """JSON lines that are written as results come. ``done``: results that were there already."""

    def __init__(self, path: Path | None, *, resume: bool) -> None:
        self.path = path
        self.done = 0
        self._file: IO[bytes] | None = None
        if path is None:
            return
        try:
            if resume and path.exists():
                self._file = path.open("r+b")
                self.done = self._cut_partial_line(self._file)
            else:
                self._file = path.open("wb")
        except OSError as error:
            raise InputError(
                f"{path} cannot be written: {(error.strerror or 'refused').lower()}",
                hint="choose another file: --output FILE",
                param="output",
            ) from error

    def write(self, value: Any) -> None:
        """One line, on disk before the next one is computed."""
        text = json.dumps(value, ensure_ascii=False)
        if self._file is None:
            raise RuntimeError("no file to write to")
        try:
            self._file.write(text.encode() + b"\n")
            self._file.flush()
        except OSError as error:
            # Closing writes what is left once more, and fails once more.
            with suppress(OSError):
                self._file.close()
            raise StoreError(
                f"{self.path} cannot be written: {(error.strerror or 'refused').lower()}",
                hint="make room there, then run the command again with --resume",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    @staticmethod
    def _cut_partial_line(file: IO[bytes]) -> int:
        """Whole lines in the file; what comes after the last of them is cut off."""
        count = end = 0
        while line := file.readline():
            if not line.endswith(b"\n"):
                break
            count, end = count + 1, file.tell()
        file.seek(end)
        file.truncate()
        return count


def _opened(path: Path) -> AbstractContextManager[IO[bytes]]:
    if path == STDIN:
        return nullcontext(sys.stdin.buffer)
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no file {shown(str(path))}", hint="check the path", param="file"
        ) from None
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {(error.strerror or 'refused').lower()}",
            hint="check the path",
            param="file",
        ) from error


def _input_of(line: bytes, path: Path, number: int) -> Any:
    try:
        text = _decoded(line, path, number).removesuffix("\n").removesuffix("\r")
        return _parsed(text, path, number) if path.suffix in (".jsonl", ".ndjson") else text
    except FormatError as error:
        return error


def _decoded(data: bytes, path: Path, number: int) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise FormatError(
            f"line {number} of {_name(path)} is not UTF-8 (byte 0x{data[error.start]:02x})",
            hint="convert it: iconv -f latin1 -t utf-8 FILE",
            param="file",
        ) from None


def _parsed(text: str, path: Path, number: int) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"line {number} of {_name(path)} is no JSON: {error}",
            hint='a text in quotes or an object a line: {"text": "..."}',
            param="file",
        ) from None


def _name(path: Path) -> str:
    return "standard input" if path == STDIN else str(path)
