"""Examples on disk: written once, read through memory maps, so that memory holds what a step needs.

    FOLDER/values.bin      int32: sequences, labels and scores one after another; floats by bits
    FOLDER/ends.bin        int64: where each of these arrays ends in values.bin
    FOLDER/examples.bin    int64 (examples, 2): where the arrays of an example end in ends.bin, and
                           the kind of its labels, and 8 more where it has scores
    FOLDER/lengths.bin     int64: tokens of each example

Numbers are in the byte order of the machine: a store is a cache and does not travel. Does not
cover when one may be used again (`prepare`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
import numpy.typing as npt

from lmstack.core import IntegrityError
from lmstack.core.files import store_error
from lmstack.train.data.examples import Example

__all__ = ["ExampleStore", "ExampleWriter"]

_PARTS = {"values": np.int32, "ends": np.int64, "examples": np.int64, "lengths": np.int64}
_INTS, _FLOATS, _INT, _FLOAT = 1, 2, 3, 4  # kinds of labels; 0: none
_SCORED = 8


class ExampleWriter:
    """Writes a store; use it as a context."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}
        self._values = self._arrays = 0
        self.examples = self.tokens = 0

    def __enter__(self) -> ExampleWriter:
        self._folder.mkdir(exist_ok=True)
        for part in _PARTS:
            self._files[part] = (self._folder / f"{part}.bin").open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def add(self, example: Example) -> None:
        kind, labels = 0, example.labels
        arrays = [np.asarray(sequence, np.int32) for sequence in example.sequences]
        if labels is not None:
            is_float = labels.dtype.kind == "f"
            kind = (
                (_FLOATS if is_float else _INTS) if labels.ndim else (_FLOAT if is_float else _INT)
            )
            plain = np.asarray(labels, np.float32 if is_float else np.int32).reshape(-1)
            arrays.append(plain.view(np.int32))
        if example.scores is not None:
            kind += _SCORED
            arrays.append(np.asarray(example.scores, np.float32).view(np.int32))
        ends = self._values + np.cumsum([len(array) for array in arrays], dtype=np.int64)
        self._values, self._arrays = int(ends[-1]), self._arrays + len(arrays)
        self.examples += 1
        self.tokens += example.tokens
        for array in arrays:
            self._files["values"].write(array.tobytes())
        self._files["ends"].write(ends.tobytes())
        self._files["examples"].write(np.array([self._arrays, kind], np.int64).tobytes())
        self._files["lengths"].write(np.int64(example.tokens).tobytes())


class ExampleStore(Sequence[Example]):
    """The examples in ``folder``; arrays are views of the files, which must not be changed."""

    def __init__(self, folder: Path) -> None:
        self._values: npt.NDArray[np.int32] = _mapped(folder, "values")
        self._ends = _mapped(folder, "ends")
        self._examples = _mapped(folder, "examples").reshape(-1, 2)
        self._lengths = _mapped(folder, "lengths")
        last = self._ends[-1] if len(self._ends) else 0
        arrays = self._examples[-1, 0] if len(self._examples) else 0
        if not (
            len(self._lengths) == len(self._examples)
            and arrays == len(self._ends)
            and last == len(self._values)
        ):
            raise IntegrityError(f"the examples in {folder} are damaged", hint=f"delete {folder}")

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each example."""
        return self._lengths

    @property
    def tokens(self) -> int:
        return int(self._lengths.sum(dtype=np.int64))

    def __len__(self) -> int:
        return len(self._examples)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        first = int(self._examples[place - 1, 0]) if place else 0
        stop, kind = (int(value) for value in self._examples[place])
        bounds = [int(self._ends[first - 1]) if first else 0, *map(int, self._ends[first:stop])]
        arrays = [self._values[a:b] for a, b in itertools.pairwise(bounds)]
        scores = arrays.pop().view(np.float32) if kind & _SCORED else None
        kind &= ~_SCORED
        if not kind:
            return Example(tuple(arrays), scores=scores)
        labels = arrays.pop()
        if kind in (_FLOATS, _FLOAT):
            labels = labels.view(np.float32)
        labels = labels if kind in (_INTS, _FLOATS) else labels.reshape(())
        return Example(tuple(arrays), labels, scores=scores)


def _mapped(folder: Path, part: str) -> npt.NDArray[Any]:
    path, kind = folder / f"{part}.bin", np.dtype(_PARTS[part])
    try:
        size = path.stat().st_size
        if size % kind.itemsize:
            raise IntegrityError(f"{path} is damaged", hint=f"delete {folder}")
        if not size:  # which cannot be mapped
            return np.zeros(0, kind)
        return np.memmap(path, kind, "r").view(np.ndarray)
    except OSError as error:
        raise store_error(error, path, "reading") from error
