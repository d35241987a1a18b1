"""Raw text to token ids and back: tokenizers, incremental decoding, chat templates.

Names are looked up when they are used: a tokenizer alone loads no templates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstack.lazy_names import lazy_names

if TYPE_CHECKING:
    from lmstack.text.batch import BatchEncoding, make_batch, pad_batch
    from lmstack.text.calls.call_format import CallFormat, JsonArguments, TaggedArguments
    from lmstack.text.calls.reader import CallReader, control_tokens_of
    from lmstack.text.chat import ChatTemplate
    from lmstack.text.corpus_files import TextCorpus, find_files
    from lmstack.text.detokenizer import Detokenizer
    from lmstack.text.raw_bytes import decode_bytes, encode_bytes
    from lmstack.text.report import TokenPiece, TokenReport, count_words, pieces, token_report
    from lmstack.text.template_doctor.doctor import examine
    from lmstack.text.template_doctor.exam import TemplateFinding
    from lmstack.text.tokenizer import Encoding, Tokenizer
    from lmstack.text.training import CHATML, ChatFormat, VocabularyConfig, train_tokenizer
    from lmstack.text.vocab.tiktoken import TiktokenEncoding
    from lmstack.text.windows import Window, encode_windows

__all__ = [
    "CHATML",
    "BatchEncoding",
    "CallFormat",
    "CallReader",
    "ChatFormat",
    "ChatTemplate",
    "Detokenizer",
    "Encoding",
    "JsonArguments",
    "TaggedArguments",
    "TemplateFinding",
    "TextCorpus",
    "TiktokenEncoding",
    "TokenPiece",
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

__getattr__, __dir__ = lazy_names(__name__)
