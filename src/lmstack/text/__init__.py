"""Raw text to token ids and back: tokenizers, incremental decoding, chat templates."""

from lmstack.text.batch import Batch, make_batch, pad_batch
from lmstack.text.chat import ChatTemplate
from lmstack.text.corpus_files import Corpus, find_files
from lmstack.text.detokenizer import Detokenizer
from lmstack.text.doctor import examine
from lmstack.text.finding import Finding
from lmstack.text.raw_bytes import decode_bytes, encode_bytes
from lmstack.text.report import Piece, TokenReport, count_words, pieces, token_report
from lmstack.text.tiktoken import TiktokenEncoding
from lmstack.text.tokenizer import Encoding, Tokenizer
from lmstack.text.training import CHATML, ChatFormat, VocabularyConfig, train_tokenizer
from lmstack.text.windows import Window, encode_windows

__all__ = [
    "CHATML",
    "Batch",
    "ChatFormat",
    "ChatTemplate",
    "Corpus",
    "Detokenizer",
    "Encoding",
    "Finding",
    "Piece",
    "TiktokenEncoding",
    "TokenReport",
    "Tokenizer",
    "VocabularyConfig",
    "Window",
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
