"""Older vocabularies that are lists of words: WordPiece ``vocab.txt``, and ``vocab.json`` with
``merges.txt``, to the JSON of ``tokenizer.json``.

These files leave the rules to the model's code; they are BERT's and GPT-2's here (RoBERTa's and
Qwen 2's where the configuration names them). Does not cover end-of-word marks (CLIP).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lmstack.core import FormatError, UnsupportedError, shown
from lmstack.text.vocab.byte_level import split_step
from lmstack.text.vocab.tiktoken import QWEN
from lmstack.text.vocab.tokenizer_json import (
    added_token,
    bpe_model,
    ids_of,
    post_processor,
    tokenizer_json,
)

__all__ = ["byte_level_files_json", "wordpiece_json", "wordpiece_tokens"]

_BERT = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def wordpiece_tokens(text: str) -> list[str]:
    """The tokens of a ``vocab.txt``: one a line, the line's number is the id."""
    tokens = text.split("\n")
    while tokens and not tokens[-1].strip("\r"):
        tokens.pop()
    return [token.removesuffix("\r") for token in tokens]


def wordpiece_json(
    tokens: Sequence[str], config: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values of tokenizer.json and tokenizer_config.json.

    Whether the model lower-cases its input is ``do_lower_case``; where that is not said, a
    vocabulary without a capital letter does.
    """
    ids = ids_of(tokens)
    roles = {role: _named(config, role, name) for role, name in _BERT.items()}
    roles = {role: name for role, name in roles.items() if name in ids}
    if "unk_token" not in roles:
        raise FormatError(
            "the WordPiece vocabulary has no token for unknown words",
            hint="name it as unk_token in tokenizer_config.json",
        )
    lower = config.get("do_lower_case")
    if lower is None:
        lower = all(t == t.lower() for t in ids if not (t.startswith("[") and t.endswith("]")))
    cls, sep = roles.get("cls_token"), roles.get("sep_token")
    after = [sep] if sep else []
    special = sorted(set(roles.values()), key=ids.__getitem__)
    spec = tokenizer_json(
        {
            "type": "WordPiece",
            "unk_token": roles["unk_token"],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": ids,
        },
        [added_token(ids[name], name) for name in special],
        normalizer={
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": bool(config.get("tokenize_chinese_chars", True)),
            "strip_accents": config.get("strip_accents"),
            "lowercase": bool(lower),
        },
        pre_tokenizer={"type": "BertPreTokenizer"},
        post_processor=post_processor(
            ids, before=[cls] if cls else [], after=after, between=after, second_type=1
        ),
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
    )
    return spec, {**config, **roles}


def byte_level_files_json(
    ids: Mapping[str, Any], merges: str, config: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values of tokenizer.json and tokenizer_config.json for ``vocab.json`` (``ids``) and the
    text of ``merges.txt``."""
    if any(not isinstance(index, int) for index in ids.values()):
        raise FormatError("vocab.json gives some token no number", hint="download it again")
    if sum(token.endswith("</w>") for token in ids) > len(ids) // 10:
        raise UnsupportedError(
            "vocab.json marks the ends of words with </w>",
            hint="load the model's tokenizer.json instead",
        )
    lines = [line for line in merges.split("\n") if line and not line.startswith("#version")]
    pairs = [line.removesuffix("\r").split(" ") for line in lines]
    wrong = next((pair for pair in pairs if len(pair) != 2), None)
    if wrong is not None:
        raise FormatError(f"merges.txt has {shown(' '.join(wrong))}", hint="download it again")
    family = str(config.get("tokenizer_class", "")).removesuffix("Fast").removesuffix("Tokenizer")
    qwen, roberta = family == "Qwen2", family in ("Roberta", "Longformer", "Bart", "LED")
    prefix = bool(config.get("add_prefix_space", False))
    level = {"type": "ByteLevel", "trim_offsets": True, "add_prefix_space": prefix}
    steps = [split_step(QWEN)] if qwen else []
    roles = _byte_level_roles(ids, config, roberta)
    ends = [roles[role] for role in ("bos_token", "eos_token")] if roberta else []
    special = sorted(set(roles.values()), key=ids.__getitem__)
    added = [added_token(ids[name], name) for name in special]
    for token in added:
        # A mask stands for a word with the space before it.
        token["lstrip"] = roberta and token["content"] == roles.get("mask_token")
    spec = tokenizer_json(
        bpe_model(ids, pairs),
        added,
        normalizer={"type": "NFC"} if qwen else None,
        pre_tokenizer={
            "type": "Sequence",
            "pretokenizers": [*steps, {**level, "use_regex": not qwen}],
        },
        post_processor=post_processor(
            ids, before=ends[:1], after=ends[1:], between=[*ends[1:], *ends[1:]]
        ),
        decoder={**level, "use_regex": True},
    )
    return spec, {**config, **roles}


def _byte_level_roles(
    ids: Mapping[str, int], config: Mapping[str, Any], roberta: bool
) -> dict[str, str]:
    end = "<|endoftext|>"
    names = {"bos_token": end, "eos_token": end, "unk_token": end}
    if roberta:
        names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
        names |= {"pad_token": "<pad>", "mask_token": "<mask>"}
        names |= {"cls_token": "<s>", "sep_token": "</s>"}
    names = {role: _named(config, role, name) for role, name in names.items()}
    return {role: name for role, name in names.items() if name in ids}


def _named(config: Mapping[str, Any], role: str, default: str) -> str:
    value = config.get(role)
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) and value else default
