"""Files of a task's rows as text: one JSON object a line, or a text file, whole or in parts.

Not covered: what a row means (`task_file`), and data of benchmarks (`benchmarks.data_files`).
"""

from __future__ import annotations

from pathlib import Path

from lmstack.core import FormatError, InputError, NotFoundError, nearest
from lmstack.core.files import store_error

__all__ = ["MAX_BYTES", "TEXT_SUFFIX", "numbered_rows", "read_text"]

MAX_BYTES = 1 << 30
TEXT_SUFFIX = ".txt"


def numbered_rows(path: Path, separator: str) -> list[tuple[int, str]]:
    """The rows of ``path`` with their numbers, from 1; of a text file its parts."""
    text = read_text(path, "data")
    if path.suffix == TEXT_SUFFIX:
        rows = text.split(separator) if separator else [text]
    else:
        rows = text.split("\n")
    return [(number, row) for number, row in enumerate(rows, 1) if row.strip()]


def read_text(path: Path, what: str) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} has more than {MAX_BYTES:,} bytes", param="data")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        beside = [each.name for each in path.parent.glob(f"*{path.suffix}")]
        guess = nearest(path.name, beside)
        raise NotFoundError(
            f"there is no {path}, which should be {what}",
            hint=f"did you mean {path.with_name(guess)}?" if guess else "check the path",
        ) from None
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise store_error(error, path, "reading") from error
