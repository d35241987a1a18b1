"""The special tokens that a tokenizer adds around texts (BOS, ``[CLS]`` and ``[SEP]``), as the
``TemplateProcessing`` of ``tokenizer.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["post_processor"]


def post_processor(
    ids: Mapping[str, int],
    *,
    before: Sequence[str] = (),
    after: Sequence[str] = (),
    between: Sequence[str] | None = None,
    second_type: int = 0,
) -> dict[str, Any] | None:
    """A post-processor: ``before A after``, and for pairs ``before A between B after``.

    ``between``: None is ``after`` and then ``before`` again. ``second_type``: segment id of the
    second text. Returns None where nothing is added.
    """
    if not before and not after:
        return None
    middle = [*after, *before] if between is None else list(between)

    def special(names: Sequence[str], segment: int = 0) -> list[dict[str, Any]]:
        return [{"SpecialToken": {"id": name, "type_id": segment}} for name in names]

    def text(name: str, segment: int = 0) -> list[dict[str, Any]]:
        return [{"Sequence": {"id": name, "type_id": segment}}]

    first = [*special(before), *text("A")]
    second = [*text("B", second_type), *special(after, second_type)]
    return {
        "type": "TemplateProcessing",
        "single": [*first, *special(after)],
        "pair": [*first, *special(middle), *second],
        "special_tokens": {
            name: {"id": name, "ids": [ids[name]], "tokens": [name]}
            for name in dict.fromkeys((*before, *after, *middle))
        },
    }
