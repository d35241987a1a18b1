"""Tokenizers by the names that people type: a model in the store, a folder, a vocabulary file.

Covers what `lmstack tokenizer count --compare` and `lmstack doctor template MODEL` take. Does not
cover what a file holds: `lmstack.text` reads it. Nothing is downloaded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lmstack.core import LmstackError, NotFoundError

if TYPE_CHECKING:
    from lmstack.text import TemplateFinding, Tokenizer

__all__ = ["examined", "vocabulary"]


def vocabulary(name: str) -> Tokenizer:
    """The tokenizer that ``name`` stands for; `LmstackError` says what is wrong with it."""
    from lmstack.registry import load_text
    from lmstack.text import Tokenizer

    path = Path(name)
    if _is(path.is_file) and path.suffix != ".gguf":
        # Companions in its folder name the control tokens.
        whole = path.name == "tokenizer.json"
        return Tokenizer.from_folder(path.parent) if whole else Tokenizer.from_file(path)
    if _is(path.is_dir):
        with contextlib.suppress(NotFoundError):  # a folder with a .gguf file, perhaps
            return Tokenizer.from_folder(path)
    return load_text(name).tokenizer


def examined(name: str) -> list[TemplateFinding]:
    """The findings about a model; its weights are not needed."""
    from lmstack.registry import load_text
    from lmstack.text import examine

    text = load_text(name)
    return examine(
        text.tokenizer,
        text.template,
        eos_ids=text.generation.eos_ids,
        sources=text.sources,
        rows=_rows(name),
    )


def _rows(name: str) -> int | None:
    """Rows of the embedding table, as the model's config states them."""
    from lmstack.app.inspect.inspection import read_config
    from lmstack.registry import Store

    try:
        return read_config(Store().resolve(name)).vocab_size
    except LmstackError:
        return None  # a folder in the making has no config or weights yet


def _is(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except (OSError, ValueError):  # a name too long for a path, or with a NUL in it
        return False
