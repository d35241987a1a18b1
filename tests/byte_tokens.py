"""Tokenizers whose tokens are bytes, for tests to which any tokenizer will do."""

from __future__ import annotations

from collections.abc import Iterable

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from lmstack.text import Tokenizer
from lmstack.text.detokenizer import byte_letters

__all__ = ["byte_level", "smollm_bytes"]


def byte_level(
    *special: str | tokenizers.AddedToken,
    first: Iterable[str] = (),
    merges: Iterable[tuple[str, str]] = (),
) -> tokenizers.Tokenizer:
    """Ids: ``first``, then every byte as GPT-2's letter, what ``merges`` make, ``special``."""
    pairs = list(merges)
    tokens = [*first, *sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, pairs)]
    made = tokenizers.Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, pairs))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(special))
    return made


def smollm_bytes(*, adds_bos: bool = False) -> Tokenizer:
    """Bytes with two merges and control tokens, as a GGUF file of SmolLM's kind has them."""
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokens = [*control, *sorted(byte_letters()), "th", "Ġth"]
    return Tokenizer.from_gguf(
        {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "smollm",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": [3, 3, 3] + [1] * (len(tokens) - 3),
            "tokenizer.ggml.merges": ["t h", "Ġ th"],
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
            "tokenizer.ggml.add_bos_token": adds_bos,
        }
    )
