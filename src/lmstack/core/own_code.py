"""Python files that a person names to be run: rewards of a recipe, scorers of a task file.

They are trusted: they run in this process, with the rights of whoever started it, outside of any
sandbox. Not covered: code that a model wrote or a request brought, which nothing here runs.
"""

from __future__ import annotations

import hashlib
import sys
import traceback
from types import ModuleType

__all__ = ["error_in", "module_of"]


def module_of(source: bytes, path: str) -> ModuleType:
    """What the file at ``path`` defines, whose ``source`` was read. What it raises is raised."""
    name = f"lmstack_own_{hashlib.sha256(source).hexdigest()}"
    module = sys.modules[name] = ModuleType(name)  # dataclasses look there
    module.__file__ = path
    try:
        exec(compile(source, path, "exec"), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module


def error_in(path: str, error: BaseException) -> str:
    """``ZeroDivisionError: division by zero (line 7)``: what it was, and where in the file."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == path]
    line = (lines or [getattr(error, "lineno", None)])[-1]
    text = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
    return text if line is None else f"{text} (line {line})"
