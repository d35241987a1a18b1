"""A tokenizer as the vocabulary metadata of a GGUF file: the inverse of `vocab.gguf`.

Covers byte-level BPE, BPE with byte fallback (SentencePiece, as LLaMA 2 and Gemma have it) and
WordPiece. A byte-level vocabulary needs the name of its pre-tokenizer: it is the first of those
known that cuts a text of hard cases as this tokenizer does. Not covered: Unigram, and whatever
cuts text in a way that no known name does; both are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import tokenizers

from lmstack.core import UnsupportedError, shown
from lmstack.text.tokenizer import Tokenizer
from lmstack.text.vocab.gguf import ROLES
from lmstack.text.vocab.gguf_pre import PRE_TOKENIZERS, PreTokenizer
from lmstack.text.vocab.sentencepiece import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED
from lmstack.text.vocab.tokenizer_json import tokenizer_json

__all__ = ["gguf_metadata"]

_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
# What pre-tokenizers are known to cut differently.
_PROBE = (
    "Hello, world!  I'll've HE'S 12 123456789 3.14 café e\u0301 naïve_name snake_case camelCase\n\n"
    " \t x = [1, 2];\r\n  --- $5+4=9 <a href='b'>~^`|  日本語のテキスト 中文 한국어 ไทย العربية "
    "हिन्दी ١٢٣ Ⅷ ½ 😀👩‍👩‍👧 a\u00a0b  \n   trailing !!\n--\r\n\n y   "
)


def gguf_metadata(tokenizer: Tokenizer, template: str | None = None) -> dict[str, Any]:
    """Keys ``tokenizer.*`` for a file with this vocabulary. ``template``: of the chat."""
    spec = json.loads(tokenizer.backend.to_str())
    model = spec["model"]
    values: dict[str, Any]
    if model["type"] == "WordPiece":
        values = {"model": "bert"} | _listed(tokenizer, words=True)
    elif model["type"] != "BPE":
        raise UnsupportedError(
            f"a vocabulary of kind {shown(model['type'])} cannot be written to GGUF",
            hint="byte-level BPE, SentencePiece BPE and WordPiece can",
        )
    elif model.get("byte_fallback"):
        values = {"model": "llama", "pre": "default"} | _listed(tokenizer)
        values["scores"] = _scores(values["tokens"], model)
        first = tokenizer.encode("a", add_special_tokens=False)[:1]
        values["add_space_prefix"] = tokenizer.token(first[0]).startswith("▁") if first else False
    else:
        values = {"model": "gpt2", "pre": _pre_name(tokenizer, spec)} | _listed(tokenizer)
        values["merges"] = [" ".join(_pair(merge)) for merge in model["merges"]]
    ends = tokenizer.encode("a")[-1:]
    values |= {
        "add_bos_token": tokenizer.adds_bos,
        "add_eos_token": tokenizer.eos_id is not None and ends == [tokenizer.eos_id],
    }
    ids = {key: tokenizer.id_of(tokenizer.name_of(role)) for role, key in ROLES.items()}
    values |= {name: index for name, index in ids.items() if index is not None}
    found: dict[str, Any] = {f"tokenizer.ggml.{name}": value for name, value in values.items()}
    if template is not None:
        found["tokenizer.chat_template"] = template
    return found


def _listed(tokenizer: Tokenizer, *, words: bool = False) -> dict[str, list[Any]]:
    """Tokens and their types by id. ``words``: as llama.cpp marks those of WordPiece."""
    added = tokenizer.backend.get_added_tokens_decoder()
    tokens, types = [], []
    for index in range(tokenizer.vocab_size):
        token = tokenizer.token(index)
        if index in tokenizer.unknown_ids:
            kind = UNKNOWN
        elif index in added:
            kind = CONTROL if added[index].special else USER_DEFINED
        elif not token:
            kind = UNUSED
        else:
            kind = BYTE if _BYTE_TOKEN.fullmatch(token) else NORMAL
        if words and kind == NORMAL and not (token.startswith("[") and token.endswith("]")):
            token = token.removeprefix("##") if token.startswith("##") else f"▁{token}"
        tokens.append(token or f"[PAD{index}]")
        types.append(kind)
    return {"tokens": tokens, "token_type": types}


def _pair(merge: str | list[str]) -> list[str]:
    return merge.split(" ") if isinstance(merge, str) else merge


def _scores(tokens: list[str], model: Mapping[str, Any]) -> list[float]:
    """SentencePiece joins the pair of the best score: those joined earlier score higher."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(model["merges"]):
        ranks.setdefault("".join(_pair(merge)), rank)
    return [-float(ranks.get(token, 0)) for token in tokens]


def _pre_name(tokenizer: Tokenizer, spec: Mapping[str, Any]) -> str:
    normalizer, pre = tokenizer.backend.normalizer, tokenizer.backend.pre_tokenizer
    composes = normalizer is not None and normalizer.normalize_str("e\u0301") == "\u00e9"
    cut = [] if pre is None else pre.pre_tokenize_str(_PROBE)
    whole = bool(spec["model"].get("ignore_merges"))
    for name, entry in PRE_TOKENIZERS.items():
        if (entry.composes, entry.whole) == (composes, whole) and _cuts(entry) == cut:
            return name
    raise UnsupportedError(
        "no pre-tokenizer that GGUF has a name for cuts text as this tokenizer does",
        hint="keep it in a Hugging Face folder",
    )


def _cuts(entry: PreTokenizer) -> list[Any]:
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    steps = [*entry.steps(), {**level, "use_regex": not entry.patterns}]
    model = {"type": "BPE", "vocab": {"a": 0}, "merges": []}
    spec = tokenizer_json(model, pre_tokenizer={"type": "Sequence", "pretokenizers": steps})
    backend = tokenizers.Tokenizer.from_str(json.dumps(spec))
    cut: list[Any] = backend.pre_tokenizer.pre_tokenize_str(_PROBE)
    return cut
