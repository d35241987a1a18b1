"""The metrics of a run: a line of JSON a step, and its curves as a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmstack.core.files import store_error

__all__ = ["MetricsLog"]


class MetricsLog:
    """Appends to ``path``; a run that resumes goes on in the same file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, values: Mapping[str, Any]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(dict(values)) + "\n")
        except OSError as error:
            raise store_error(error, self._path, "writing") from error
