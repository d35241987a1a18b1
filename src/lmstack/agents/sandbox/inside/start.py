"""The first code that runs in the sandbox: limits on this process, then what was asked for.

The limits are hard, so nothing that runs later can raise them.
"""

from __future__ import annotations

import json
import resource
import sys

from .modules import load

__all__ = ["main"]


def main() -> None:
    """``argv``: JSON of the limits by name, a role, and what the role takes."""
    limits, role, *rest = sys.argv[1:]
    for name, value in json.loads(limits).items():
        resource.setrlimit(getattr(resource, name), (value, value))
    if role == "answer":
        from .answer import serve

        serve(*map(int, rest))
    elif role == "judge":
        from .judge import judge

        judge(*map(int, rest))
    else:
        sys.argv[:] = ["/box/program.py", *rest]
        load("/box/program.py", "__main__", {})
