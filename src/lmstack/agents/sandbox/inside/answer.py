"""The process of the answer's code: runs it, says which names it defines, answers calls.

Nothing here can be trusted once the code has run: it may replace all of it. What it can do at most
is to send values (`wire`).
"""

from __future__ import annotations

import os
from typing import Any

from . import wire
from .modules import load

__all__ = ["serve"]


def serve(box: str, read: int, write: int) -> None:
    """Run ``answer.py`` of the folder ``box``, and answer calls from the file descriptor ``read``
    on ``write`` until it is closed."""
    asked, told = os.fdopen(read, "rb"), os.fdopen(write, "wb")
    found: dict[str, Any] = {}
    wire.send(told, "started")
    try:
        found = load(f"{box}/answer.py", "answer", {})
        names = {name: value for name, value in found.items() if not name.startswith("__")}
        wire.send(told, {"functions": _functions(names), "values": _values(names)})
    except BaseException as error:  # whatever other people's code raises, SystemExit too
        wire.send(told, {"raised": _raised(error)})
        return
    while True:
        try:
            call = wire.receive(asked)
        except wire.WireError:
            return
        wire.send(told, _called(found, call))


def _functions(names: dict[str, Any]) -> list[str]:
    return [name for name, value in names.items() if callable(value)]


def _values(names: dict[str, Any]) -> dict[str, Any]:
    values = {}
    for name, value in names.items():
        try:
            values[name] = wire.encoded(value)
        except wire.NotPlainError:
            continue  # a function or a module
    return values


def _called(found: dict[str, Any], call: Any) -> Any:
    try:
        arguments = [wire.decoded(value) for value in call["args"]]
        named = {name: wire.decoded(value) for name, value in call["kwargs"].items()}
        result = found[call["name"]](*arguments, **named)
        return {"value": wire.encoded(result)}
    except BaseException as error:  # whatever other people's code raises, SystemExit too
        return {"raised": _raised(error)}


def _raised(error: BaseException) -> list[str]:
    args = error.args
    text = args[0] if len(args) == 1 and isinstance(args[0], str) else str(error)
    return [type(error).__name__, text[:1000]]
