"""No answer says where things are on the server: absolute paths in errors become their last names.

Errors are made in every layer and are also for the command line, where a full path is what helps.
So paths are cut where errors become bodies. A path that the request itself holds is left as it is:
it tells its sender nothing, and errors quote what was sent. Does not cover answers that are no
errors, nor paths relative to a folder that is served.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import PurePosixPath
from urllib.parse import unquote_to_bytes

from starlette.types import Scope

__all__ = ["asked", "asking", "without_paths"]

_ASKED: ContextVar[list[bytes] | None] = ContextVar("_ASKED", default=None)


@contextlib.contextmanager
def asking(scope: Scope) -> Iterator[None]:
    """Put around the answer to a request: its path and query are the sender's own words."""
    query = unquote_to_bytes(scope.get("query_string", b"").replace(b"+", b" "))
    token = _ASKED.set([scope["path"].encode("utf-8", "surrogatepass"), query])
    try:
        yield
    finally:
        _ASKED.reset(token)


def asked(body: bytes) -> None:
    """So is its ``body``."""
    request = _ASKED.get()
    if request is not None:
        request.append(body)


def without_paths(text: str) -> str:
    """``text`` with the last name of each absolute path alone, unless the request holds it."""
    return _absolute().sub(_name, text)


def _name(found: re.Match[str]) -> str:
    path = found[0]
    sent = path.encode("utf-8", "surrogatepass")
    if any(sent in part for part in _ASKED.get() or ()):
        return path
    return PurePosixPath(path).name


@functools.cache
def _absolute() -> re.Pattern[str]:
    """Matches paths below the top folders of this machine. Other words that begin with a slash,
    as routes do, are none."""
    tops = "|".join(re.escape(name) for name in sorted(os.listdir("/"), reverse=True))
    end = r"\s'\"`<>|()\[\]{},;*?…"
    scheme = r"(?<![\w.~/-])(?!https?:)(?:\w+:/*)?"
    return re.compile(rf"{scheme}/(?:{tops})(?:/[^{end}]*|(?=[{end}.:]|$))")
