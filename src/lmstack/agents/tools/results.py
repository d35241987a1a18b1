"""What a function returned or raised, as the result that a model is shown.

Texts stay as they are; pydantic models, dataclasses and other JSON values become JSON. Whatever
leaves here is bounded, well-formed and without the values of secrets.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json

from lmstack.agents.tools.secret import SecretMask
from lmstack.agents.tools.texts import bounded
from lmstack.agents.tools.tool import ToolResult
from lmstack.core import InputError, LmstackError, shown

__all__ = ["error_result", "finished", "result_of"]

# Of more JSON than this only the text is kept, which is bounded.
MAX_DATA_CHARS = 1 << 20
MAX_ERROR_CHARS = 2_000


def result_of(value: Any, mask: SecretMask) -> ToolResult:
    """``value`` as a result, whole; `InputError` where it cannot be written as JSON. Values are
    masked before they are written: JSON inside of JSON escapes a secret twice."""
    if isinstance(value, ToolResult):
        return value
    if value is None:
        return ToolResult("Done.")
    if isinstance(value, str):
        return ToolResult(str(value))
    if isinstance(value, Iterator):
        problem = f"the tool returned {shown(value)}, whose end nobody knows"
        raise InputError(problem, hint="return a list")
    try:
        written = to_json(value, inf_nan_mode="strings", bytes_mode="base64")
        data = mask.data(from_json(written))
        text = json.dumps(data, ensure_ascii=False)
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        problem = f"the tool returned a {type(value).__name__}, which is not JSON: {error}"
        raise InputError(problem, hint="return text, or values that JSON can write") from error
    return ToolResult(text, data=data if len(text) <= MAX_DATA_CHARS else None)


def error_result(error: BaseException) -> ToolResult:
    """``error`` in words: its message and what to do, without a traceback."""
    if isinstance(error, LmstackError):
        return ToolResult(str(error), is_error=True)
    message = str(error).strip()
    name = type(error).__name__
    return ToolResult(f"{name}: {message}" if message else name, is_error=True)


def finished(result: ToolResult, mask: SecretMask, max_chars: int) -> ToolResult:
    """``result`` with its secrets masked first, then cut to ``max_chars``: the other way round
    half a secret could be left over."""
    limit = min(max_chars, MAX_ERROR_CHARS) if result.is_error else max_chars
    text = mask.text(result.text).encode("utf-8", "replace").decode()
    return replace(result, text=bounded(text, limit), data=mask.data(result.data))
