"""Reading JSON that another program wrote: NaN is allowed, as Python writes it, and what is not of
the expected type is a `FormatError` that names the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar, cast

from lmstack.core import FormatError, NotFoundError, shown
from lmstack.core.files import store_error, write_atomic

__all__ = ["OWN", "field_of", "read_json", "read_text", "write_json"]

# Under this name a log of ours carries what the other program's format has no place for.
OWN = "lmstack"
MAX_BYTES = 2 << 30
T = TypeVar("T")


def field_of(data: Any, name: str, kind: type[T], default: T | None = None) -> T:
    """The field ``name`` of the object ``data``; ``default`` where it is missing or null."""
    if not isinstance(data, dict):
        raise FormatError(f"the log has {shown(data)} where an object with {name!r} should be")
    value = data.get(name)
    if value is None and default is not None:
        return default
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return cast(T, float(value))
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise FormatError(f"{name} of the log is {shown(value)}, not {kind.__name__}")
    return value


def read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise FormatError(f"{path} has more than {MAX_BYTES:,} bytes")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFoundError(f"there is no log {path}", hint="check the path") from None
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is not JSON text (byte {error.start})") from error
    except OSError as error:
        raise store_error(error, path, "reading") from error


def read_json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{place} is not JSON: {error}") from error


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False).encode())
