"""Tokenizers by the names that people type: a model in the store, a folder, a vocabulary file.

Covers what `lmstack tokens --compare` and `lmstack doctor MODEL` take. Does not cover what a file
holds: `lmstack.text` reads it. Nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lmstack.core import FormatError, LmstackError

if TYPE_CHECKING:
    from lmstack.text import Finding, Tokenizer

__all__ = ["examined", "vocabulary"]


def vocabulary(name: str) -> Tokenizer:
    """The tokenizer that ``name`` stands for; `LmstackError` says what is wrong with it."""
    from lmstack.registry import load_text
    from lmstack.text import Tokenizer

    path = Path(name)
    if _is_file(path) and path.suffix != ".gguf":
        if path.name == "tokenizer.json":
            return Tokenizer.from_folder(path.parent)
        return Tokenizer.from_json(_text(path))
    return load_text(name).tokenizer


def examined(name: str) -> list[Finding]:
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
    from lmstack.app.inspection import read_config
    from lmstack.registry import Store

    try:
        return read_config(Store().resolve(name)).vocab_size
    except LmstackError:
        return None  # a folder in the making has no config or weights yet


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{path} is not UTF-8 text (byte {error.start})",
            hint="give a tokenizer.json, a model folder or a .gguf file",
        ) from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long for a path, or with a NUL in it
        return False
