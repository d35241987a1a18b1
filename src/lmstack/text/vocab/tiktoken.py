"""tiktoken files (a line a token: base64 and rank) to the JSON of ``tokenizer.json``.

The file holds the ranks only. Which regular expression cuts the text and which control tokens
come on top belongs to the encoding, so that is known here by name, and found by the SHA-256 of
the ranks: a file that was only renamed is still recognized, another vocabulary of the same size
is not mistaken. Does not cover encodings whose pattern is neither known nor given.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lmstack.core import FormatError, InputError, UnsupportedError, nearest, shown
from lmstack.text.vocab.byte_level import byte_level_json

__all__ = ["ENCODINGS", "TiktokenEncoding", "is_tiktoken", "tiktoken_json", "tiktoken_ranks"]

_TAIL = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_CASED = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
R50K = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
LLAMA3 = _CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + _TAIL
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_CASED[0]}*{_CASED[1]}+{_CONTRACTION}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_CASED[0]}+{_CASED[1]}*{_CONTRACTION}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + _TAIL
)
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN3_5 = (
    _CONTRACTION + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + _TAIL
)


@dataclass(frozen=True)
class TiktokenEncoding:
    """``special``: control tokens and their ids. ``roles``: which of them plays which part.
    ``sha256``: of the file with its ranks, empty if nobody publishes one."""

    pattern: str
    special: Mapping[str, int]
    roles: Mapping[str, str] = field(default_factory=dict)
    sha256: str = ""
    normalizer: Mapping[str, Any] | None = None


def _numbered(start: int, *names: str) -> dict[str, int]:
    return {name: start + rank for rank, name in enumerate(names)}


def _llama3() -> dict[str, int]:
    middle = (
        *("<|finetune_right_pad_id|>", "<|step_id|>", "<|start_header_id|>", "<|end_header_id|>"),
        *("<|eom_id|>", "<|eot_id|>", "<|python_tag|>", "<|image|>"),
    )
    reserved = [f"<|reserved_special_token_{n}|>" for n in range(246)]
    names = ("<|begin_of_text|>", "<|end_of_text|>", *reserved[:2], *middle, *reserved[2:])
    return _numbered(128_000, *names)


def _llama4() -> dict[str, int]:
    text = (
        *("<|header_start|>", "<|header_end|>", "<|eom|>", "<|eot|>", "<|step|>"),
        *(f"<|text_post_train_reserved_special_token_{n}|>" for n in range(6)),
        *("<|python_start|>", "<|python_end|>", "<|finetune_right_pad|>"),
        *(f"<|text_post_train_reserved_special_token_{n}|>" for n in range(8, 69)),
    )
    vision = (
        *("<|image_start|>", "<|image_end|>"),
        *(f"<|vision_reserved_special_token_{n}|>" for n in range(2)),
        *("<|tile_x_separator|>", "<|tile_y_separator|>"),
        *(f"<|vision_reserved_special_token_{n}|>" for n in range(2, 6)),
        *("<|image|>", "<|vision_reserved_special_token_6|>", "<|patch|>"),
        *(f"<|vision_reserved_special_token_{n}|>" for n in range(7, 1048)),
    )
    reasoning = (
        *(f"<|reasoning_reserved_special_token_{n}|>" for n in range(8)),
        *("<|reasoning_thinking_start|>", "<|reasoning_thinking_end|>"),
    )
    names = (
        *("<|begin_of_text|>", "<|end_of_text|>"),
        *("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"),
        *(*text, *vision, *reasoning),
    )
    rest = [f"<|reserved_special_token_{n}|>" for n in range(2_048 - len(names))]
    return _numbered(200_000, *names, *rest)


_FIM = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
_END = "<|endoftext|>"
_CHATML = {"eos_token": "<|im_end|>", "pad_token": _END}
_QWEN_NAMES = (
    *(_END, "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>"),
    *("<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>", "<tool_call>"),
    *("</tool_call>", *_FIM, "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>"),
    *("</tool_response>", "<think>", "</think>", "<|audio_start|>", "<|audio_end|>", "<tts_pad>"),
    *("<tts_text_bos>", "<tts_text_eod>", "<tts_text_bos_single>", "<|audio_pad|>"),
)
_NFC = {"type": "NFC"}
ENCODINGS: dict[str, TiktokenEncoding] = {
    "r50k_base": TiktokenEncoding(
        R50K,
        {_END: 50_256},
        {"bos_token": _END, "eos_token": _END},
        "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
    ),
    "p50k_base": TiktokenEncoding(
        R50K,
        {_END: 50_256},
        {"bos_token": _END, "eos_token": _END},
        "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069",
    ),
    "cl100k_base": TiktokenEncoding(
        CL100K,
        {**_numbered(100_257, _END, *_FIM), "<|endofprompt|>": 100_276},
        {"bos_token": _END, "eos_token": _END},
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
    "o200k_base": TiktokenEncoding(
        O200K,
        {_END: 199_999, "<|endofprompt|>": 200_018},
        {"bos_token": _END, "eos_token": _END},
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    "llama3": TiktokenEncoding(
        LLAMA3,
        _llama3(),
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>",
         "pad_token": "<|finetune_right_pad_id|>"},
        "82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55",
    ),
    "llama4": TiktokenEncoding(
        O200K,
        _llama4(),
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>",
         "pad_token": "<|finetune_right_pad|>"},
        "d0bdbaf59b0762c8c807617e2d8ea51420eb1b1de266df2495be755c8e0ed6ed",
    ),
    "qwen": TiktokenEncoding(
        QWEN,
        _numbered(151_643, *_QWEN_NAMES[:3], *(f"<|extra_{n}|>" for n in range(205))),
        _CHATML,
        "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186",
        _NFC,
    ),
    "qwen3.5": TiktokenEncoding(
        QWEN3_5,
        _numbered(248_044, *_QWEN_NAMES),
        _CHATML,
        "8dde380a6405e935f5de16a99eb61c824f3f814dd1ed298784c72babb7a03cdd",
        _NFC,
    ),
}  # fmt: skip


def is_tiktoken(data: bytes) -> bool:
    """Whether the first line is a token and its rank."""
    line = data[:4096].split(b"\n", 1)[0].split()
    return len(line) == 2 and line[1].isdigit() and _decoded(line[0]) is not None


def tiktoken_ranks(data: bytes, name: str = "the tiktoken file") -> dict[bytes, int]:
    """Tokens and ranks of a file."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        token = _decoded(fields[0])
        if len(fields) != 2 or token is None or not token or not fields[1].isdigit():
            raise FormatError(
                f"line {number} of {name} is {shown(line.decode('latin-1'))}",
                hint="each line is a token in base64, a space and its rank: download it again",
            )
        ranks[token] = int(fields[1])
    missing = [value for value in range(256) if bytes([value]) not in ranks]
    if missing:
        raise FormatError(
            f"{name} has no token for the byte 0x{missing[0]:02x}",
            hint="a byte-level vocabulary holds all 256: download it again",
        )
    if len(set(ranks.values())) != len(ranks):
        raise FormatError(f"two tokens of {name} share a rank", hint="download it again")
    return ranks


def tiktoken_json(
    data: bytes, encoding: str | TiktokenEncoding | None = None, name: str = "the tiktoken file"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values of tokenizer.json and tokenizer_config.json.

    ``encoding``: one of `ENCODINGS` by name, or its pattern and control tokens; None: the one
    whose ranks these are.
    """
    ranks = tiktoken_ranks(data, name)
    if not isinstance(encoding, TiktokenEncoding):
        encoding = _known(data, encoding, name)
    taken = set(ranks.values())
    clash = next((token for token, index in encoding.special.items() if index in taken), None)
    if clash is not None:
        raise InputError(
            f"the control token {shown(clash)} has the id {encoding.special[clash]}, which an"
            f" ordinary token of {name} has too",
            hint="these ranks belong to another encoding",
        )
    spec = byte_level_json(
        ranks, encoding.pattern, encoding.special, normalizer=encoding.normalizer
    )
    return spec, {"clean_up_tokenization_spaces": False, **encoding.roles}


def _known(data: bytes, name: str | None, source: str) -> TiktokenEncoding:
    if name is None:
        digest = hashlib.sha256(data).hexdigest()
        found = next((e for e in ENCODINGS.values() if e.sha256 == digest), None)
        if found is None:
            raise UnsupportedError(
                f"{source} is none of the tiktoken files known here, so nothing says how it cuts"
                " text into words",
                hint=f"name its encoding ({', '.join(ENCODINGS)}), or pass a TiktokenEncoding",
            )
        return found
    if name not in ENCODINGS:
        guess = nearest(name, ENCODINGS)
        raise InputError(
            f"there is no tiktoken encoding {shown(name)}",
            hint=f"did you mean {guess!r}?" if guess else f"known: {', '.join(ENCODINGS)}",
        )
    return ENCODINGS[name]


def _decoded(field_: bytes) -> bytes | None:
    try:
        return base64.b64decode(field_, validate=True)
    except (binascii.Error, ValueError):
        return None
