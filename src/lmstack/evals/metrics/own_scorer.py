"""A scorer of one's own: a Python file that a task file names.

    scorer: {file: score.py}              # beside the task file

    METRICS = {"right": "share", "words": "lower"}

    def score(sample, output):
        said = output.text.strip()
        return {"right": said in sample.targets, "words": len(said.split())}

``sample`` is a `Sample` (``input``, ``targets``, ``metadata``: the row), ``output`` an
`ModelOutput` (``text``, ``finish_reason``, ...). ``METRICS`` names the figures: a ``share`` of
samples that score 1 and not 0, or the mean of a number of which ``higher`` or ``lower`` is better.
Without it there is one figure, ``score``, of which higher is better, and the function gives a
number.

The file is trusted: it runs with the rights of who starts the evaluation. Its SHA-256 is part of
the protocol, so results of two versions are never compared; what it imports is not. Not covered:
asking models, and running code that a model wrote.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from lmstack.core import InputError, NotFoundError, shown
from lmstack.core.files import store_error
from lmstack.core.own_code import error_in, module_of
from lmstack.evals.metrics.scoring import average, share
from lmstack.evals.task import Metric, ModelOutput, Sample

__all__ = ["OwnScorer"]

_KINDS = ("share", "higher", "lower")
_ONE = {"score": "higher"}
_EXAMPLE = 'METRICS = {"right": "share", "words": "lower"}'


@dataclass(frozen=True)
class OwnScorer:
    """``path``: for messages. ``source``: of the file, as it was read and is run."""

    path: str
    source: bytes

    @classmethod
    def load(cls, path: Path) -> Self:
        """`NotFoundError` without a file, `InputError` where it cannot be run or is no scorer."""
        try:
            found = cls(str(path), path.read_bytes())
        except FileNotFoundError:
            raise NotFoundError(
                f"there is no scorer {path}",
                hint="scorer: {file: score.py} is beside the task file",
                param="scorer",
            ) from None
        except OSError as error:
            raise store_error(error, path, "reading") from error
        _ = found.metrics
        if not callable(getattr(found._module, "score", None)):
            raise InputError(
                f"{path} has no function score",
                hint="def score(sample, output): return output.text in sample.targets",
                param="scorer",
            )
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.source)  # what it was run to cannot be sent elsewhere

    @property
    def protocol(self) -> Mapping[str, Any]:
        digest = hashlib.sha256(self.source).hexdigest()
        return {"name": "file", "file": Path(self.path).name, "sha256": digest}

    @cached_property
    def _module(self) -> ModuleType:
        try:
            return module_of(self.source, self.path)
        except (Exception, SystemExit) as error:
            raise InputError(
                f"{self.path} cannot be run: {error_in(self.path, error)}",
                hint="correct the file; it can import what is installed",
                param="scorer",
            ) from error

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        stated = getattr(self._module, "METRICS", _ONE)
        if not isinstance(stated, Mapping) or not stated or not set(stated.values()) <= {*_KINDS}:
            raise InputError(
                f"METRICS of {self.path} is {shown(stated)}",
                hint=f"{_EXAMPLE}: each a share, or one of which higher or lower is better",
                param="scorer",
            )
        return tuple(
            share(str(name)) if kind == "share" else average(str(name), kind)
            for name, kind in stated.items()
        )

    async def __call__(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        try:
            found = self._module.score(sample, output)
        except Exception as error:
            raise InputError(
                f"{self.path} failed for {sample.id}: {error_in(self.path, error)}",
                hint="correct it; outputs are kept, and the next run scores them",
                param="scorer",
            ) from error
        names = [metric.name for metric in self.metrics]
        scores = found if isinstance(found, Mapping) else {names[0]: found}
        if set(scores) != set(names):
            raise self._wrong(sample, found, f"a number for each of {', '.join(names)}")
        for metric in self.metrics:
            value = scores[metric.name]
            if not isinstance(value, int | float):
                raise self._wrong(sample, found, f"a number for {metric.name}")
            if metric.is_share and value not in (0, 1):
                raise self._wrong(sample, found, f"0 or 1 for {metric.name}, which is a share")
        return {name: float(scores[name]) for name in names}

    def _wrong(self, sample: Sample, found: Any, wanted: str) -> InputError:
        return InputError(
            f"{self.path} gave {shown(found)} for {sample.id}, not {wanted}",
            hint=f"return what METRICS names: {_EXAMPLE}",
            param="scorer",
        )
