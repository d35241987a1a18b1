"""A file of Python as a module."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["load"]


def load(path: str, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Run the file ``path`` as the module ``name``, which begins with the names ``given``; what
    it holds then."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    vars(module).update(given)
    spec.loader.exec_module(module)
    return vars(module)
