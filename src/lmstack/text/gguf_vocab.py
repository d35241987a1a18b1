"""GGUF vocabulary metadata to the JSON of ``tokenizer.json``, one pre-tokenizer at a time.

Covers byte-level BPE (``tokenizer.ggml.model`` = ``gpt2``) with the pre-tokenizers of SmolLM2,
GPT-2, LLaMA 3 and Qwen 2, and SentencePiece BPE with byte fallback (``llama``). The regular
expressions are those of llama.cpp's ``unicode_regex_split`` table, which match the Hugging Face
tokenizers of the same models. Does not cover WordPiece, unigram or RWKV vocabularies, which are
refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lmstack.core import FormatError, UnsupportedError, nearest, shown

__all__ = ["gguf_config", "gguf_json"]

# llama.cpp's `llama_token_type`.
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3_NAMES = ("llama-bpe", "llama3", "llama-v3")
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_ROLES = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
    "sep_token": "seperator_token_id",  # spelled so in the format
    "cls_token": "cls_token_id",
    "mask_token": "mask_token_id",
}


def gguf_json(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The value of ``tokenizer.json`` for GGUF ``metadata`` (keys ``tokenizer.ggml.*``)."""
    model = metadata.get("tokenizer.ggml.model")
    tokens = _strings(metadata, "tokens")
    types = [int(kind) for kind in metadata.get("tokenizer.ggml.token_type", ())]
    if types and len(types) != len(tokens):
        raise FormatError(
            f"the GGUF file has {len(tokens)} tokens and {len(types)} token types",
            hint="the file is damaged: download it again",
        )
    if model == "gpt2":
        parts = _byte_level(metadata, tokens)
    elif model == "llama":
        parts = _sentencepiece(metadata, tokens, types)
    else:
        raise UnsupportedError(
            f"the GGUF vocabulary is of kind {shown(model)}",
            hint="supported: gpt2 (byte-level BPE) and llama (SentencePiece BPE)",
        )
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(tokens, types),
        **parts,
        "post_processor": _post_processor(metadata, tokens),
    }


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The value of ``tokenizer_config.json``: which token plays which part."""
    tokens = _strings(metadata, "tokens")
    config: dict[str, Any] = {"clean_up_tokenization_spaces": False}
    for role, key in _ROLES.items():
        index = _id(metadata, key, len(tokens))
        if index is not None:
            config[role] = tokens[index]
    return config


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
        raise FormatError(
            f"tokenizer.ggml.{key} is {shown(value)}, outside the {size} tokens of the file",
            hint="the file is damaged: download it again",
        )
    return int(value)


def _added(tokens: Sequence[str], types: Sequence[int]) -> list[dict[str, Any]]:
    return [
        {
            "id": index,
            "content": tokens[index],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind != _USER_DEFINED,
        }
        for index, kind in enumerate(types)
        if kind in (_UNKNOWN, _CONTROL, _USER_DEFINED) and tokens[index]
    ]


def _post_processor(metadata: Mapping[str, Any], tokens: Sequence[str]) -> dict[str, Any] | None:
    sides = {"add_bos_token": "bos_token_id", "add_eos_token": "eos_token_id"}
    ids = {
        flag: _id(metadata, key, len(tokens))
        for flag, key in sides.items()
        if _adds(metadata, flag)
    }
    before, after = ids.get("add_bos_token"), ids.get("add_eos_token")
    if before is None and after is None:
        return None

    def special(index: int | None) -> list[dict[str, Any]]:
        return [] if index is None else [{"SpecialToken": {"id": tokens[index], "type_id": 0}}]

    def template(names: Sequence[str]) -> list[dict[str, Any]]:
        return [
            piece
            for name in names
            for piece in (
                *special(before),
                {"Sequence": {"id": name, "type_id": 0}},
                *special(after),
            )
        ]

    return {
        "type": "TemplateProcessing",
        "single": template("A"),
        "pair": template("AB"),
        "special_tokens": {
            tokens[index]: {"id": tokens[index], "ids": [index], "tokens": [tokens[index]]}
            for index in (before, after)
            if index is not None
        },
    }


def _adds(metadata: Mapping[str, Any], flag: str) -> bool:
    """The flag, or llama.cpp's default for the vocabulary where the file leaves it out."""
    value = metadata.get(f"tokenizer.ggml.{flag}")
    if value is not None:
        return bool(value)
    llama3 = metadata.get("tokenizer.ggml.pre") in _LLAMA3_NAMES
    return flag == "add_bos_token" and (metadata.get("tokenizer.ggml.model") == "llama" or llama3)


def _byte_level(metadata: Mapping[str, Any], tokens: Sequence[str]) -> dict[str, Any]:
    pre = metadata.get("tokenizer.ggml.pre")
    if pre not in _PRE_TOKENIZERS:
        guess = nearest(str(pre), _PRE_TOKENIZERS)
        raise UnsupportedError(
            f"the GGUF pre-tokenizer is {shown(pre)}",
            hint=(f"closest known: {guess}; " if guess else "")
            + f"known: {', '.join(sorted(_PRE_TOKENIZERS))}",
        )
    splits = _PRE_TOKENIZERS[pre]
    own_regex = any(step["type"] == "Split" for step in splits)
    merges = [merge.split(" ") for merge in _strings(metadata, "merges")]
    if any(len(merge) != 2 for merge in merges):
        bad = next(merge for merge in merges if len(merge) != 2)
        raise FormatError(
            f"the GGUF merge {shown(' '.join(bad))} is not a pair",
            hint="the file is damaged: download it again",
        )
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "normalizer": {"type": "NFC"} if pre == "qwen2" else None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [*splits, {**level, "use_regex": not own_regex}],
        },
        "decoder": {**level, "use_regex": True},
        "model": _bpe(tokens, merges, ignore_merges=pre in _LLAMA3_NAMES),
    }


def _split(pattern: str) -> dict[str, Any]:
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }


_DIGITS = [{"type": "Digits", "individual_digits": True}]
_PRE_TOKENIZERS: dict[Any, list[dict[str, Any]]] = {
    "smollm": _DIGITS,
    "starcoder": _DIGITS,
    "gpt-2": [],
    "gpt2": [],
    **{name: [_split(_LLAMA3)] for name in _LLAMA3_NAMES},
    "qwen2": [_split(_QWEN2)],
}


def _bpe(tokens: Sequence[str], merges: Sequence[Sequence[str]], **extra: Any) -> dict[str, Any]:
    vocabulary: dict[str, int] = {}
    for index, token in enumerate(tokens):
        vocabulary.setdefault(token, index)
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": vocabulary,
        "merges": [list(pair) for pair in merges],
        **extra,
    }


def _sentencepiece(
    metadata: Mapping[str, Any], tokens: Sequence[str], types: Sequence[int]
) -> dict[str, Any]:
    scores = [float(score) for score in metadata.get("tokenizer.ggml.scores", ())]
    if len(scores) != len(tokens):
        raise FormatError(
            f"the GGUF file has {len(tokens)} tokens and {len(scores)} scores",
            hint="the file is damaged: download it again",
        )
    prefix = bool(metadata.get("tokenizer.ggml.add_space_prefix", True))
    mark = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    unmark = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    normalizers = [{"type": "Prepend", "prepend": "▁"}, mark] if prefix else [mark]
    decoders = [unmark, {"type": "ByteFallback"}, {"type": "Fuse"}]
    if prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    unknown = _id(metadata, "unknown_token_id", len(tokens))
    return {
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": _bpe(
            tokens,
            _merges(tokens, scores, types),
            unk_token=None if unknown is None else tokens[unknown],
            fuse_unk=True,
            byte_fallback=True,
        ),
    }


def _merges(
    tokens: Sequence[str], scores: Sequence[float], types: Sequence[int]
) -> list[tuple[str, str]]:
    """SentencePiece joins the pair whose result scores best: that order as a merge list."""
    ordinary = {
        token: index
        for index, token in enumerate(tokens)
        if not types or types[index] not in (_UNKNOWN, _CONTROL)
    }
    found: list[tuple[float, int, int, str, str]] = []
    for token, index in ordinary.items():
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in ordinary and right in ordinary:
                rank = (-scores[index], ordinary[left], ordinary[right])
                found.append((*rank, left, right))
    found.sort(key=lambda merge: merge[:3])
    return [(left, right) for *_, left, right in found]
