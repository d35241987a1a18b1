"""The parts of ``tokenizer.json`` that every kind of vocabulary has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = [
    "added_token",
    "bpe_model",
    "ids_of",
    "post_processor",
    "replace_step",
    "tokenizer_json",
]

Part = Mapping[str, Any]


def tokenizer_json(
    model: Part,
    added_tokens: Iterable[Part] = (),
    *,
    normalizer: Part | None = None,
    pre_tokenizer: Part | None = None,
    post_processor: Part | None = None,
    decoder: Part | None = None,
) -> dict[str, Any]:
    """The value of the whole file, without padding and truncation."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": list(added_tokens),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": decoder,
        "model": model,
    }


def replace_step(content: str, *, text: str = "", regex: str = "") -> dict[str, Any]:
    """A normalizer or decoder that puts ``content`` in the place of ``text`` or of what ``regex``
    matches."""
    pattern = {"String": text} if text else {"Regex": regex}
    return {"type": "Replace", "pattern": pattern, "content": content}


def added_token(index: int, content: str, *, special: bool = True) -> dict[str, Any]:
    """An entry of ``added_tokens``: matched in the text as it is, before anything else."""
    return {
        "id": index,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": special,
    }


def ids_of(tokens: Iterable[str]) -> dict[str, int]:
    """Each token's id is its place; of a token that occurs twice, the first."""
    ids: dict[str, int] = {}
    for index, token in enumerate(tokens):
        ids.setdefault(token, index)
    return ids


def bpe_model(
    ids: Mapping[str, int],
    merges: Iterable[Iterable[str]],
    *,
    unknown: str | None = None,
    fuse_unknown: bool = False,
    byte_fallback: bool = False,
    whole: bool = False,
) -> dict[str, Any]:
    """``merges``: pairs in the order of their rank. ``whole``: a piece that is a token is taken
    as it is, not merged."""
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": unknown,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": fuse_unknown,
        "byte_fallback": byte_fallback,
        "ignore_merges": whole,
        "vocab": dict(ids),
        "merges": [list(pair) for pair in merges],
    }


def post_processor(
    ids: Mapping[str, int],
    *,
    before: Sequence[str] = (),
    after: Sequence[str] = (),
    between: Sequence[str] | None = None,
    second_type: int = 0,
) -> dict[str, Any] | None:
    """Special tokens around texts: ``before A after``, of pairs ``before A between B after``.

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
