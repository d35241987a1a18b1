"""Names of a package that are imported when they are used (PEP 562)."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of ``package``: names of its ``__all__`` come from where its
    block ``if TYPE_CHECKING`` imports them, so that what type checkers see is what a program gets.

    The block is read from the package's own source when the first name is used.
    """

    @cache
    def homes() -> dict[str, tuple[str, str]]:
        tree = ast.parse(inspect.getsource(sys.modules[package]))
        blocks = (
            node.body
            for node in tree.body
            if isinstance(node, ast.If)
            and isinstance(node.test, ast.Name)
            and node.test.id == "TYPE_CHECKING"
        )
        return {
            alias.asname or alias.name: (str(line.module), alias.name)
            for body in blocks
            for line in body
            if isinstance(line, ast.ImportFrom)
            for alias in line.names
        }

    def getattribute(name: str) -> Any:
        module = sys.modules[package]
        if name not in module.__all__ or name not in homes():
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home, there = homes()[name]
        value = getattr(importlib.import_module(home), there)
        setattr(module, name, value)
        return value

    return getattribute, lambda: sorted(sys.modules[package].__all__)
