"""Raw text to token ids and back: tokenizers, incremental decoding, chat templates."""

from lmstack.text.batch import Batch, make_batch, pad_batch
from lmstack.text.chat import ChatTemplate
from lmstack.text.detokenizer import Detokenizer
from lmstack.text.tokenizer import Encoding, Tokenizer

__all__ = [
    "Batch",
    "ChatTemplate",
    "Detokenizer",
    "Encoding",
    "Tokenizer",
    "make_batch",
    "pad_batch",
]
