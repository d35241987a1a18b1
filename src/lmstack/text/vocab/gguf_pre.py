"""How each pre-tokenizer that a GGUF file names cuts text: a table.

A byte-level vocabulary's file gives only a name (``tokenizer.ggml.pre``). The expressions here are
those of the models' own ``tokenizer.json``, for which llama.cpp has rewritten some. Does not cover
names that need more than expressions (Han or digit grouping by code), which are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lmstack.core import UnsupportedError, nearest, shown
from lmstack.text.vocab.byte_level import split_step
from lmstack.text.vocab.tiktoken import LLAMA3, O200K, QWEN, QWEN3_5

__all__ = ["PRE_TOKENIZERS", "PreTokenizer", "pre_tokenizer"]

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")
_FALCON = (r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, "[0-9][0-9][0-9]")
_DEEPSEEK3 = (
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
_DEEPSEEK_CODER = ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥\u0800-一가-\ud7ff]+", r"\p{N}")
_WORDS = " ?[^(\\s|.,!?…。，、।۔،)]+"
_TEKKEN = O200K.replace(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace(r"\p{N}{1,3}", r"\p{N}")
_BAILING = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*"
    r"|\s*[\r\n]|\s+(?!\S)|\s+"
)
_SEED = QWEN.replace(r"[^\s\p{L}\p{N}]+[\r\n]*", r"[^\s\p{L}\p{N}\r\n]+")


@dataclass(frozen=True)
class PreTokenizer:
    """``patterns``: expressions that cut one after another; none is GPT-2's own. ``digits``: cut
    every digit first. ``whole``: a piece that is a token needs no merges. ``adds_bos``: unless the
    file says otherwise. ``composes``: accents are composed (NFC) first."""

    patterns: tuple[str, ...] = ()
    digits: bool = False
    whole: bool = False
    adds_bos: bool = False
    composes: bool = False

    def steps(self) -> list[dict[str, Any]]:
        """What comes before the bytes become letters, as in tokenizer.json."""
        digits = [{"type": "Digits", "individual_digits": True}] if self.digits else []
        return [*digits, *(split_step(pattern) for pattern in self.patterns)]


def pre_tokenizer(name: object) -> PreTokenizer:
    """The entry for a name; `UnsupportedError` with the nearest one if there is none."""
    if name not in PRE_TOKENIZERS:
        guess = nearest(str(name), PRE_TOKENIZERS)
        raise UnsupportedError(
            f"the GGUF pre-tokenizer is {shown(name)}",
            hint=(f"closest known: {guess}; " if guess else "")
            + f"known: {', '.join(sorted(PRE_TOKENIZERS))}",
        )
    return PRE_TOKENIZERS[str(name)]


def _named(names: str, entry: PreTokenizer) -> dict[str, PreTokenizer]:
    return dict.fromkeys(names.split(), entry)


PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    **_named(
        "gpt-2 gpt2 phi-2 jina-es jina-de jina-v1-en jina-v2-es jina-v2-de jina-v2-code gigachat"
        " a.x-4.0 mellum modern-bert roberta-bpe exaone4 mpt olmo jais trillion granite-docling",
        PreTokenizer(),
    ),
    **_named(
        "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2",
        PreTokenizer(digits=True),
    ),
    **_named(
        "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
        PreTokenizer((LLAMA3,), whole=True, adds_bos=True),
    ),
    **_named("dbrx smaug-bpe chatglm-bpe", PreTokenizer((LLAMA3,))),
    **_named("glm4 glm5", PreTokenizer((LLAMA3,), whole=True)),
    **_named("qwen2 deepseek-r1-qwen megrez", PreTokenizer((QWEN,), composes=True)),
    **_named("kormo f2llmv2 stablelm2 hunyuan solar-open grok-2", PreTokenizer((QWEN,))),
    "qwen35": PreTokenizer((QWEN3_5,), composes=True),
    **_named("gpt-4o llama4 kanana2 talkie minimax-m2", PreTokenizer((O200K,))),
    "tekken": PreTokenizer((_TEKKEN,), whole=True, adds_bos=True),
    "deepseek-coder": PreTokenizer(_DEEPSEEK_CODER),
    **_named("deepseek-v3 hunyuan-dense joyai-llm hy_v4", PreTokenizer(_DEEPSEEK3)),
    "falcon": PreTokenizer(_FALCON),
    "default": PreTokenizer(_DEFAULT),
    **_named("poro-chat bloom gpt3-finnish", PreTokenizer((_WORDS,))),
    "viking": PreTokenizer((_WORDS, r"\p{N}")),
    **_named("bailingmoe bailingmoe2 llada-moe", PreTokenizer((_BAILING,))),
    "seed-coder": PreTokenizer((_SEED,)),
}
