"""The model that reads what was found: one of the store, or an adapter that was trained for it.

Imports what it needs when it is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstack.core import UnsupportedError
from lmstack.train.merged import model_named

if TYPE_CHECKING:
    from lmstack.registry import ModelFolder

__all__ = ["reader_folder"]


def reader_folder(name: str) -> ModelFolder:
    """``name``: a cross-encoder of the store, the folder of one, or of an adapter that `lmstack
    train` made. `UnsupportedError` where it gives no score for a question and a text."""
    from lmstack.registry import Store

    folder = Store().resolve(model_named(name))
    if folder.kind != "rerank":
        raise UnsupportedError(
            f"{folder.name} is a model to {folder.kind}, not a reader",
            hint="lmstack train recipes/reader.yaml",
            param="reader",
        )
    return folder
