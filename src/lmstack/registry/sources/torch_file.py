"""Tensors of a state dict that old torch saved, read without running anything.

Such a file is a program for a stack machine, and opening it with the usual tools runs what it
says. Here its instructions are only looked at: the few that a state dict needs are understood,
on plain values, and any other is refused, so nothing in the file can call anything. Used for
pinned files of packages alone, whose bytes are known; pickles from elsewhere stay refused.
Covers the format of torch before 1.6, contiguous tensors. Does not cover the newer zip format.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lmstack.core import FormatError, shown
from lmstack.core.files import store_error

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["read_state_dict"]

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_WIDTHS = {"FloatStorage": 4, "DoubleStorage": 8, "HalfStorage": 2, "LongStorage": 8}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset(("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE"))


@dataclass(frozen=True)
class _Name:
    """Something that the file wants imported, as text."""

    text: str


@dataclass(frozen=True)
class _Storage:
    kind: str
    key: str
    size: int


@dataclass(frozen=True)
class _View:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]


class _Mark:
    pass


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors of ``path`` by name, in their stored types."""
    try:
        with path.open("rb") as file:
            return _read(file, str(path))
    except OSError as error:
        raise store_error(error, path, "reading") from error
    except (ValueError, LookupError, TypeError, AttributeError, UnicodeError) as error:
        raise FormatError(
            f"{path} is no state dict of old torch: {error}", hint="give its safetensors"
        ) from error


def _read(file: IO[bytes], label: str) -> dict[str, Tensor]:
    import torch

    if _run(file) != _MAGIC or _run(file) != _PROTOCOL or not _run(file)["little_endian"]:
        raise ValueError("it does not start as one")
    values, keys = _run(file), _run(file)
    views = {str(name): value for name, value in values.items() if isinstance(value, _View)}
    if len(views) != len(values):
        raise ValueError("it holds more than tensors")
    storages = {view.storage.key: view.storage for view in views.values()}
    found: dict[str, Tensor] = {}
    for key in keys:
        storage = storages[key]
        if int.from_bytes(file.read(8), "little") != storage.size:
            raise ValueError(f"storage {shown(key)} has another size than announced")
        data = bytearray(file.read(storage.size * _WIDTHS[storage.kind]))
        if len(data) != storage.size * _WIDTHS[storage.kind]:
            raise FormatError(f"{label} is cut", hint="get the package again")
        dtype: torch.dtype = getattr(torch, storage.kind.removesuffix("Storage").lower())
        whole = torch.frombuffer(data, dtype=dtype)
        for name, view in views.items():
            if view.storage.key == key:
                end = view.offset + math.prod(view.shape)
                if end > storage.size:
                    raise ValueError(f"{shown(name)} ends after its storage")
                found[name] = whole[view.offset : end].reshape(view.shape).clone()
    if file.read(1) or len(found) != len(views):
        raise ValueError("its storages are not those of its tensors")
    return {name: found[name] for name in views}


def _run(file: IO[bytes]) -> Any:
    """The value that one program of the file stands for, built of plain values alone."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for name, argument in _instructions(file):
        if name == "STOP":
            if len(stack) != 1:
                raise ValueError("it ends in the middle")
            return stack[0]
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "GLOBAL":
            stack.append(_Name(argument))
        elif name in _BUILDERS:
            _BUILDERS[name](stack)
        elif name != "PROTO":
            raise ValueError(f"it has the instruction {name}")
    raise ValueError("it has no end")


def _instructions(file: IO[bytes]) -> Iterator[tuple[str, Any]]:
    for opcode, argument, _ in pickletools.genops(file):
        yield opcode.name, argument


def _since_mark(stack: list[Any]) -> list[Any]:
    at = max(i for i, value in enumerate(stack) if isinstance(value, _Mark))
    values = stack[at + 1 :]
    del stack[at:]
    return values


def _tuple(count: int | None) -> Callable[[list[Any]], None]:
    def build(stack: list[Any]) -> None:
        values = _since_mark(stack) if count is None else stack[len(stack) - count :]
        if count:
            del stack[len(stack) - count :]
        stack.append(tuple(values))

    return build


def _set_items(stack: list[Any]) -> None:
    values = _since_mark(stack)
    stack[-1].update(zip(values[::2], values[1::2], strict=True))


def _set_item(stack: list[Any]) -> None:
    value, key = stack.pop(), stack.pop()
    stack[-1][key] = value


def _append_all(stack: list[Any]) -> None:
    values = _since_mark(stack)
    stack[-1].extend(values)


def _persistent(stack: list[Any]) -> None:
    kind, storage, key, _, size, _ = stack.pop()
    name = storage.text.removeprefix("torch ")
    if kind != "storage" or name not in _WIDTHS or not isinstance(size, int) or size < 0:
        raise ValueError(f"it refers to {shown(storage)}")
    stack.append(_Storage(name, str(key), size))


def _reduce(stack: list[Any]) -> None:
    """Calls that a state dict has: an empty dict, and a tensor as a view of a storage."""
    arguments, function = stack.pop(), stack.pop().text
    if function == "collections OrderedDict" and arguments == ():
        stack.append({})
    elif function == "torch._utils _rebuild_tensor_v2":
        storage, offset, shape, stride = arguments[:4]
        dense = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
        if not isinstance(storage, _Storage) or stride != dense or min((offset, *shape)) < 0:
            raise ValueError(f"a tensor of shape {shown(shape)} and strides {shown(stride)}")
        stack.append(_View(storage, offset, shape))
    else:
        raise ValueError(f"it wants to call {shown(function)}")


def _drop_state(stack: list[Any]) -> None:
    """Attributes of the dict itself: versions of modules, nothing that is a weight."""
    stack.pop()


_BUILDERS: dict[str, Callable[[list[Any]], None]] = {
    "MARK": lambda stack: stack.append(_Mark()),
    "EMPTY_DICT": lambda stack: stack.append({}),
    "EMPTY_LIST": lambda stack: stack.append([]),
    "EMPTY_TUPLE": lambda stack: stack.append(()),
    "TUPLE": _tuple(None),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "APPENDS": _append_all,
    "BINPERSID": _persistent,
    "REDUCE": _reduce,
    "BUILD": _drop_state,
}
