"""GGUF vocabulary metadata to the JSON of ``tokenizer.json``.

Covers byte-level BPE (``tokenizer.ggml.model`` = ``gpt2``, cut as `gguf_pre.py` says),
SentencePiece BPE (``llama``), BPE on characters with merges (``gemma4``), Unigram (``t5``) and
WordPiece (``bert``). Control tokens inside a text part it, as in llama.cpp: what follows one is
encoded as a text of its own. Does not cover RWKV and PLaMo vocabularies, which are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lmstack.core import FormatError, UnsupportedError, shown
from lmstack.text.vocab.exact import Exact
from lmstack.text.vocab.gguf_pre import pre_tokenizer
from lmstack.text.vocab.sentencepiece import (
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    SentencePiece,
    sentencepiece_parts,
)
from lmstack.text.vocab.tokenizer_json import (
    added_token,
    bpe_model,
    ids_of,
    post_processor,
    replace_step,
    tokenizer_json,
)
from lmstack.text.vocab.word_files import wordpiece_json

__all__ = ["ROLES", "gguf_config", "gguf_parts"]

ROLES = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
    "sep_token": "seperator_token_id",  # spelled so in the format
    "cls_token": "cls_token_id",
    "mask_token": "mask_token_id",
}


def gguf_parts(metadata: Mapping[str, Any]) -> tuple[dict[str, Any], Exact | None]:
    """The value of ``tokenizer.json`` for GGUF ``metadata`` (keys ``tokenizer.ggml.*``), and what
    encodes in its place where that format cannot say it all."""
    model = metadata.get("tokenizer.ggml.model")
    tokens = _strings(metadata, "tokens")
    types = [int(kind) for kind in metadata.get("tokenizer.ggml.token_type", ())]
    if types and len(types) != len(tokens):
        raise _damaged(f"the GGUF file has {len(tokens)} tokens and {len(types)} token types")
    exact: Exact | None = None
    if model == "gpt2":
        parts = _byte_level(metadata, tokens)
    elif model == "bert":
        return _wordpiece(metadata, tokens), None
    elif model in ("llama", "t5"):
        parts, exact = sentencepiece_parts(_sentencepiece(metadata, tokens, types), parted=True)
    elif model == "gemma4":
        parts = _characters(metadata, tokens)
    else:
        raise UnsupportedError(
            f"the GGUF vocabulary is of kind {shown(model)}",
            hint="supported: gpt2 (byte-level BPE), llama (SentencePiece BPE), t5 (Unigram),"
            " bert (WordPiece) and gemma4",
        )
    around = _around(metadata, tokens)
    parts = {**tokenizer_json({}, _added(tokens, types)), **parts, "post_processor": around}
    return parts, None if exact is None else exact.framed(around)


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The value of ``tokenizer_config.json``: which token plays which part."""
    tokens = _strings(metadata, "tokens")
    config: dict[str, Any] = {"clean_up_tokenization_spaces": False}
    return config | {role: tokens[i] for role, i in _roles(metadata, len(tokens)).items()}


def _roles(metadata: Mapping[str, Any], size: int) -> dict[str, int]:
    found = {role: _id(metadata, key, size) for role, key in ROLES.items()}
    return {role: index for role, index in found.items() if index is not None}


def _strings(metadata: Mapping[str, Any], key: str) -> list[str]:
    values = metadata.get(f"tokenizer.ggml.{key}")
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise FormatError(
            f"the GGUF file has no tokenizer.ggml.{key}",
            hint="it carries no vocabulary: use a file made for llama.cpp or Ollama",
        )
    return [str(value) for value in values]


def _id(metadata: Mapping[str, Any], key: str, size: int) -> int | None:
    value = metadata.get(f"tokenizer.ggml.{key}")
    if value is None:
        return None
    if not 0 <= int(value) < size:
        raise _damaged(
            f"tokenizer.ggml.{key} is {shown(value)}, outside the {size} tokens of the file"
        )
    return int(value)


def _added(tokens: Sequence[str], types: Sequence[int]) -> list[dict[str, Any]]:
    return [
        added_token(index, tokens[index], special=kind != USER_DEFINED)
        for index, kind in enumerate(types)
        if kind in (UNKNOWN, CONTROL, USER_DEFINED) and tokens[index]
    ]


def _around(metadata: Mapping[str, Any], tokens: Sequence[str]) -> dict[str, Any] | None:
    sides = {"add_bos_token": "bos_token_id", "add_eos_token": "eos_token_id"}
    before, after = (
        [tokens[index]]
        if _adds(metadata, flag) and (index := _id(metadata, key, len(tokens))) is not None
        else []
        for flag, key in sides.items()
    )
    return post_processor(ids_of(tokens), before=before, after=after)


def _adds(metadata: Mapping[str, Any], flag: str) -> bool:
    """The flag, or llama.cpp's default for the vocabulary where the file leaves it out."""
    value = metadata.get(f"tokenizer.ggml.{flag}")
    if value is not None:
        return bool(value)
    model = metadata.get("tokenizer.ggml.model")
    if flag == "add_eos_token":
        return model == "t5"
    if model == "gpt2":
        return pre_tokenizer(metadata.get("tokenizer.ggml.pre")).adds_bos
    return model in ("llama", "gemma4")


def _byte_level(metadata: Mapping[str, Any], tokens: Sequence[str]) -> dict[str, Any]:
    pre = pre_tokenizer(metadata.get("tokenizer.ggml.pre"))
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "normalizer": {"type": "NFC"} if pre.composes else None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [*pre.steps(), {**level, "use_regex": not pre.patterns}],
        },
        "decoder": {**level, "use_regex": True},
        "model": bpe_model(ids_of(tokens), _merges(metadata), whole=pre.whole),
    }


def _merges(metadata: Mapping[str, Any]) -> list[list[str]]:
    merges = [merge.split(" ") for merge in _strings(metadata, "merges")]
    wrong = next((merge for merge in merges if len(merge) != 2), None)
    if wrong is not None:
        raise _damaged(f"the GGUF merge {shown(' '.join(wrong))} is not a pair")
    return merges


def _sentencepiece(
    metadata: Mapping[str, Any], tokens: Sequence[str], types: Sequence[int]
) -> SentencePiece:
    scores = [float(score) for score in metadata.get("tokenizer.ggml.scores", ())]
    if len(scores) != len(tokens):
        raise _damaged(f"the GGUF file has {len(tokens)} tokens and {len(scores)} scores")
    unigram = metadata.get("tokenizer.ggml.model") == "t5"
    rules = bytes(value & 0xFF for value in metadata.get("tokenizer.ggml.precompiled_charsmap", ()))
    # Places that only fill the embedding are ordinary pieces here that no text spells.
    kinds = [NORMAL if kind == UNUSED else kind for kind in types] or [NORMAL] * len(tokens)
    return SentencePiece(
        kind="unigram" if unigram else "bpe",
        pieces=tuple(tokens),
        scores=tuple(scores),
        types=tuple(kinds),
        unknown_id=_id(metadata, "unknown_token_id", len(tokens)),
        byte_fallback=not unigram,
        charsmap=rules,
        dummy_prefix=bool(metadata.get("tokenizer.ggml.add_space_prefix", True)),
        collapse_spaces=bool(metadata.get("tokenizer.ggml.remove_extra_whitespaces", False)),
    )


def _characters(metadata: Mapping[str, Any], tokens: Sequence[str]) -> dict[str, Any]:
    """Gemma 4: merges as they are listed, on characters, with bytes for those that have no token;
    a run of line ends is looked up whole."""
    unknown = _id(metadata, "unknown_token_id", len(tokens))
    lines = {"type": "Split", "pattern": {"Regex": r"\n+"}, "behavior": "Isolated", "invert": False}
    decoders = [
        replace_step(" ", text="▁"),
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    return {
        "normalizer": replace_step("▁", text=" "),
        "pre_tokenizer": lines,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": bpe_model(
            ids_of(tokens),
            _merges(metadata),
            unknown=None if unknown is None else tokens[unknown],
            fuse_unknown=True,
            byte_fallback=True,
        ),
    }


def _wordpiece(metadata: Mapping[str, Any], tokens: Sequence[str]) -> dict[str, Any]:
    """llama.cpp marks the words' beginnings and not, as BERT does, what continues them."""
    special = set(_control(metadata, tokens))
    words = [
        token
        if token in special or (token.startswith("[") and token.endswith("]"))
        else token[1:]
        if token.startswith("▁")
        else f"##{token}"
        for token in tokens
    ]
    roles = {role: words[i] for role, i in _roles(metadata, len(tokens)).items()}
    return wordpiece_json(words, {**roles, "do_lower_case": True})[0]


def _control(metadata: Mapping[str, Any], tokens: Sequence[str]) -> list[str]:
    types = metadata.get("tokenizer.ggml.token_type", ())
    return [token for token, kind in zip(tokens, types, strict=False) if kind == CONTROL]


def _damaged(why: str) -> FormatError:
    return FormatError(why, hint="the file is damaged: download it again")
