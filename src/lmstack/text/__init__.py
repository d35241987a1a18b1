"""Raw text to token ids and back: tokenizers, incremental decoding, chat templates.

Names are looked up when they are used: a tokenizer alone loads no templates.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmstack.text.batch import Batch, make_batch, pad_batch
    from lmstack.text.calls.call_format import CallFormat, JsonArguments, TaggedArguments
    from lmstack.text.calls.reader import CallReader, control_tokens_of
    from lmstack.text.chat import ChatTemplate
    from lmstack.text.corpus_files import Corpus, find_files
    from lmstack.text.detokenizer import Detokenizer
    from lmstack.text.raw_bytes import decode_bytes, encode_bytes
    from lmstack.text.report import Piece, TokenReport, count_words, pieces, token_report
    from lmstack.text.template_doctor.doctor import examine
    from lmstack.text.template_doctor.exam import Finding
    from lmstack.text.tokenizer import Encoding, Tokenizer
    from lmstack.text.training import CHATML, ChatFormat, VocabularyConfig, train_tokenizer
    from lmstack.text.vocab.tiktoken import TiktokenEncoding
    from lmstack.text.windows import Window, encode_windows

__all__ = [
    "CHATML",
    "Batch",
    "CallFormat",
    "CallReader",
    "ChatFormat",
    "ChatTemplate",
    "Corpus",
    "Detokenizer",
    "Encoding",
    "Finding",
    "JsonArguments",
    "Piece",
    "TaggedArguments",
    "TiktokenEncoding",
    "TokenReport",
    "Tokenizer",
    "VocabularyConfig",
    "Window",
    "control_tokens_of",
    "count_words",
    "decode_bytes",
    "encode_bytes",
    "encode_windows",
    "examine",
    "find_files",
    "make_batch",
    "pad_batch",
    "pieces",
    "token_report",
    "train_tokenizer",
]

_HOMES = {
    **dict.fromkeys(("Batch", "make_batch", "pad_batch"), "lmstack.text.batch"),
    **dict.fromkeys(
        ("CallFormat", "JsonArguments", "TaggedArguments"), "lmstack.text.calls.call_format"
    ),
    **dict.fromkeys(("CallReader", "control_tokens_of"), "lmstack.text.calls.reader"),
    "ChatTemplate": "lmstack.text.chat",
    **dict.fromkeys(("Corpus", "find_files"), "lmstack.text.corpus_files"),
    "Detokenizer": "lmstack.text.detokenizer",
    "examine": "lmstack.text.template_doctor.doctor",
    "Finding": "lmstack.text.template_doctor.exam",
    **dict.fromkeys(("decode_bytes", "encode_bytes"), "lmstack.text.raw_bytes"),
    **dict.fromkeys(
        ("Piece", "TokenReport", "count_words", "pieces", "token_report"), "lmstack.text.report"
    ),
    "TiktokenEncoding": "lmstack.text.vocab.tiktoken",
    **dict.fromkeys(("Encoding", "Tokenizer"), "lmstack.text.tokenizer"),
    **dict.fromkeys(
        ("CHATML", "ChatFormat", "VocabularyConfig", "train_tokenizer"), "lmstack.text.training"
    ),
    **dict.fromkeys(("Window", "encode_windows"), "lmstack.text.windows"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found
