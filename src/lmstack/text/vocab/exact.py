"""What a tokenizer puts in the place of parts that ``tokenizer.json`` cannot describe exactly.

The file that is saved keeps the nearest parts that the format has, for other libraries; the
encoding in this process uses these.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Exact"]


@dataclass(frozen=True)
class Exact:
    """``spec``: the value of tokenizer.json for the encoding in memory. ``normalizer`` and
    ``pre_tokenizer``: objects of the ``tokenizers`` library that take the place of its own.
    ``files``: name and bytes of what is saved beside tokenizer.json, from which all this can be
    made again."""

    spec: Mapping[str, Any]
    normalizer: Any
    pre_tokenizer: Any
    files: Mapping[str, bytes] = field(default_factory=dict)

    def framed(self, post_processor: Any) -> Exact:
        """The same with what is added around texts."""
        return dataclasses.replace(self, spec={**self.spec, "post_processor": post_processor})

    def install(self, backend: Any) -> None:
        """Put the parts into a `tokenizers.Tokenizer` made from ``spec``."""
        backend.normalizer = self.normalizer
        backend.pre_tokenizer = self.pre_tokenizer
