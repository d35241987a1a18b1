"""Text and JSON files of a model, read whole; what is wrong with one is an error that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lmstack.core import FormatError, NotFoundError, shown
from lmstack.core.files import store_error

__all__ = ["AGAIN", "decoded", "file_bytes", "json_file", "json_object", "text_file"]

AGAIN = "get the model again, complete"


def file_bytes(path: Path) -> bytes:
    """The bytes of ``path``."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"{path} is missing", hint=AGAIN) from None
    except OSError as error:
        raise store_error(error, path, "reading") from error


def decoded(data: bytes, path: object, hint: str = AGAIN) -> str:
    """``data`` of ``path`` as text."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is not UTF-8 text (byte {error.start})", hint=hint) from error


def text_file(path: Path) -> str | None:
    """The text of ``path``, None if nothing is there."""
    try:
        return decoded(file_bytes(path), path)
    except NotFoundError:
        return None


def json_object(text: str, path: object, hint: str = AGAIN) -> dict[str, Any]:
    """The object that the JSON ``text`` of ``path`` holds."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} is not valid JSON: {error}", hint=hint) from error
    if not isinstance(value, dict):
        raise FormatError(f"{path} holds {shown(value)}, not an object", hint=hint)
    return value


def json_file(path: Path, hint: str = AGAIN) -> dict[str, Any]:
    """The object in the JSON file ``path``; `NotFoundError` where nothing is there."""
    return json_object(decoded(file_bytes(path), path, hint), path, hint)
