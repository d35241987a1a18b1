"""Cases that are written to GGUF: one an architecture, and those with metadata of their own."""

from __future__ import annotations

from .decoders import (
    BLOOM,
    GEMMA2,
    GEMMA3,
    GPT2,
    GRANITE,
    LLAMA,
    MISTRAL,
    MIXTRAL,
    MPT,
    NEOX,
    OLMO2,
    PHI3,
    QWEN2,
    QWEN3,
    SMOLLM3,
    STARCODER2,
)
from .encoders import ENCODERS

BERT = next(case for case in ENCODERS if case.architecture == "BertModel")
WRITTEN = [
    ("llama", LLAMA, "plain"),
    ("llama", LLAMA, "tied"),
    ("llama", LLAMA, "biases"),
    ("llama", LLAMA, "wide heads"),
    ("llama", LLAMA, "linear"),
    ("llama", LLAMA, "yarn"),
    ("llama", LLAMA, "llama3"),
    ("llama", MISTRAL, "no window"),
    ("llama", MIXTRAL, "plain"),
    ("qwen2", QWEN2, "plain"),
    ("qwen3", QWEN3, "plain"),
    ("gemma2", GEMMA2, "scale of the head"),
    ("gemma3", GEMMA3, "scale of the head"),
    ("phi3", PHI3, "partial"),
    ("phi3", PHI3, "beyond longrope"),
    ("smollm3", SMOLLM3, "plain"),
    ("olmo2", OLMO2, "plain"),
    ("olmo2", OLMO2, "tied"),
    ("granite", GRANITE, "plain"),
    ("granite", GRANITE, "unscaled"),
    ("starcoder2", STARCODER2, "plain"),
    ("gpt2", GPT2, "plain"),
    ("gptneox", NEOX, "plain"),
    ("gptneox", NEOX, "in sequence"),
    ("gptneox", NEOX, "linear"),
    ("bloom", BLOOM, "six heads"),
    ("mpt", MPT, "plain"),
    ("mpt", MPT, "clipped"),
]
