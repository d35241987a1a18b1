"""Every error that lmstack raises on purpose.

    LmstackError
    ├── InputError            what the caller passed is wrong            400, exit 1
    │   ├── ContextLengthError  more tokens than the model's window
    │   └── UnsupportedError    well formed, but this model or route cannot do it
    ├── NotFoundError         a model, file, document or index is missing 404
    ├── AuthError             a missing or wrong API key                  401
    ├── GuardError            a safety check refused the request          403
    ├── OverloadedError       queue full or rate limit reached            429
    ├── FormatError           a file is not what its name says            400
    │   └── IntegrityError      its bytes are not those that were pinned
    ├── StoreError            disk full, locked, read-only, unreadable    507
    ├── RemoteError           an upstream provider failed                 502
    ├── ExtraMissingError     an optional dependency is not installed     501
    └── EngineError           the engine stopped; a fault of ours         503

A message says what was wrong and the value seen; ``hint`` says what to do. The CLI prints
them as ``error:`` and ``try:``; the server answers with ``http_status``. Anything else that
escapes is a bug.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = [
    "AuthError",
    "ContextLengthError",
    "EngineError",
    "ExtraMissingError",
    "FormatError",
    "GuardError",
    "InputError",
    "IntegrityError",
    "LmstackError",
    "NotFoundError",
    "OverloadedError",
    "RemoteError",
    "StoreError",
    "UnsupportedError",
    "require",
    "shown",
]


class LmstackError(Exception):
    """Root of the tree.

    ``message``: what was wrong, with the value seen. ``hint``: what to do, a command where one
    helps. ``param``: the name of the field or option at fault, as the caller wrote it."""

    http_status = 500
    code = "internal_error"

    def __init__(self, message: str, *, hint: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.param = param

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InputError(LmstackError):
    http_status = 400
    code = "invalid_value"


class ContextLengthError(InputError):
    code = "context_length_exceeded"


class UnsupportedError(InputError):
    code = "unsupported_parameter"


class NotFoundError(LmstackError):
    http_status = 404
    code = "not_found"


class AuthError(LmstackError):
    http_status = 401
    code = "invalid_api_key"


class GuardError(LmstackError):
    http_status = 403
    code = "blocked_by_guard"


class OverloadedError(LmstackError):
    """``retry_after_s``: seconds after which a retry may succeed (the Retry-After header)."""

    http_status = 429
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after_s: float = 1.0, **options: Any) -> None:
        super().__init__(message, **options)
        self.retry_after_s = retry_after_s


class FormatError(LmstackError):
    http_status = 400
    code = "invalid_file"


class IntegrityError(FormatError):
    code = "integrity_error"


class StoreError(LmstackError):
    http_status = 507
    code = "storage_error"


class RemoteError(LmstackError):
    http_status = 502
    code = "upstream_error"


class ExtraMissingError(LmstackError):
    http_status = 501
    code = "missing_extra"


class EngineError(LmstackError):
    http_status = 503
    code = "engine_error"


def shown(value: object, limit: int = 80) -> str:
    """``repr(value)`` cut to ``limit`` characters, for use in messages."""
    try:
        text = repr(value)
    except Exception:  # a message about a bad value must not fail on it: 10**5000 has no repr
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def require(module: str, extra: str) -> Any:
    """Import ``module``, which is optional, or say which extra brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ExtraMissingError(
            f"the Python package {module!r} is not installed",
            hint=f"pip install 'lmstack[{extra}]'",
        ) from error
