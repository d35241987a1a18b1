"""What an error is about, for ``pytest.raises(InputError, match=..., check=about("field"))``."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["about"]


def about(*params: str) -> Callable[[object], bool]:
    """The error names one of ``params`` as what is at fault."""
    return lambda error: getattr(error, "param", None) in params
