"""Optional dependencies load through here, so one message names the extra to install."""

from __future__ import annotations

import importlib
from typing import Any

from lmstack.core.errors import ExtraMissingError

__all__ = ["require"]


def require(module: str, extra: str) -> Any:
    """Import ``module``, or say which extra brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ExtraMissingError(
            f"the Python package {module!r} is not installed",
            hint=f"pip install 'lmstack[{extra}]'",
        ) from error
