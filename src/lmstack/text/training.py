"""Train a vocabulary: byte-level BPE, WordPiece, Unigram, and SentencePiece-style BPE.

The counting and merging is the ``tokenizers`` library's, which runs on every core. What is ours:
texts come from a stream with progress, Ctrl-C is heard at any moment, control tokens and roles are
complete, and byte-level BPE and both SentencePiece styles give any text back exactly. Does not
cover choosing a vocabulary's size or adding tokens to a trained one.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from lmstack.core import Config, InputError, check_whole, nearest, shown
from lmstack.text.tokenizer import Tokenizer
from lmstack.text.vocab.byte_level import library_pattern
from lmstack.text.vocab.tiktoken import CL100K, LLAMA3, O200K, QWEN
from lmstack.text.vocab.tokenizer_json import post_processor

__all__ = ["CHATML", "KINDS", "PATTERNS", "ChatFormat", "VocabularyConfig", "train_tokenizer"]

Kind = Literal["bpe", "wordpiece", "unigram", "sentencepiece-bpe", "sentencepiece-unigram"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# How byte-level BPE cuts text into words; gpt2 is the library's own expression.
PATTERNS = {"gpt2": "", "cl100k": CL100K, "llama3": LLAMA3, "o200k": O200K, "qwen": QWEN}
_ROLES: dict[Kind, dict[str, str]] = {
    "bpe": dict.fromkeys(("bos_token", "eos_token", "pad_token"), "<|endoftext|>"),
    "wordpiece": {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    },
    "unigram": {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"},
    "sentencepiece-bpe": {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
    "sentencepiece-unigram": {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
}
_LONGEST_WORD = 1 << 14


@dataclass(frozen=True)
class ChatFormat:
    """A chat template, the control tokens that it prints, and the parts they play."""

    template: str
    special_tokens: tuple[str, ...]
    roles: Mapping[str, str]


CHATML = ChatFormat(
    template="{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    special_tokens=("<|im_start|>", "<|im_end|>"),
    roles={"eos_token": "<|im_end|>"},
)
_BYTES = tuple(f"<0x{value:02X}>" for value in range(256))
_MARK = "▁"
_LAST_RESORT = -10_000.0
_LETTERS = {"unk_token": "<unk>", "initial_alphabet": [chr(code) for code in range(0x20, 0x7F)]}


@dataclass(frozen=True)
class VocabularyConfig(Config):
    """``vocab_size``: tokens in all, control tokens and bytes included. ``special_tokens``: more
    control tokens, after those that the kind has. ``min_frequency``: pairs seen less often are
    not merged. ``lowercase``: WordPiece and Unigram only. ``pattern``: byte-level BPE only, one of
    `PATTERNS`."""

    kind: Kind = "bpe"
    vocab_size: int = 32_000
    special_tokens: tuple[str, ...] = ()
    min_frequency: int = 2
    lowercase: bool = False
    pattern: str = "gpt2"

    def __post_init__(self) -> None:
        for name, value, known in (("kind", self.kind, KINDS), ("pattern", self.pattern, PATTERNS)):
            if value not in known:
                guess = nearest(str(value), known)
                raise InputError(
                    f"{name} is {shown(value)}",
                    hint=f"did you mean {guess!r}?" if guess else f"one of {', '.join(known)}",
                    param=name,
                )
        least = len(self.control) + (256 if self.keeps_bytes else 1)
        check_whole("vocab_size", self.vocab_size, least, 1_000_000)
        check_whole("min_frequency", self.min_frequency, 1, 1 << 31)
        if self.lowercase and self.kind not in ("wordpiece", "unigram"):
            raise InputError(
                f"{self.kind} keeps its text as it is", hint="leave it out", param="lowercase"
            )
        if self.pattern != "gpt2" and self.kind != "bpe":
            raise InputError(
                f"{self.kind} cuts text in its own way", hint="leave it out", param="pattern"
            )
        if not all(self.special_tokens) or len(set(self.control)) != len(self.control):
            raise InputError(
                f"special_tokens are {shown(self.special_tokens)}",
                hint="name each once, and none that the kind has already",
                param="special_tokens",
            )

    @property
    def keeps_bytes(self) -> bool:
        """Whether the vocabulary has a token for every byte."""
        return self.kind not in ("wordpiece", "unigram")

    @property
    def roles(self) -> Mapping[str, str]:
        """Which control token plays which part."""
        return _ROLES[self.kind]

    @property
    def control(self) -> tuple[str, ...]:
        """All control tokens, in the order of their ids."""
        return (*dict.fromkeys(self.roles.values()), *self.special_tokens)


def train_tokenizer(
    texts: Iterable[str],
    config: VocabularyConfig | None = None,
    *,
    roles: Mapping[str, str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Tokenizer:
    """A tokenizer trained on ``texts``, any iterable, read once.

    ``roles``: parts that other control tokens play (``{"eos_token": "<|im_end|>"}``).
    ``progress``: called after each text with ``"reading"``, then some times a second with
    ``"merging"`` until the end. Ctrl-C ends it at any moment; a thread of the library may then go
    on for some seconds, and nothing of it is used.
    """
    config = config or VocabularyConfig()
    parts = {**config.roles, **(roles or {})}
    strange = next((name for name in parts.values() if name not in config.control), None)
    if strange is not None:
        raise InputError(
            f"{shown(strange)} is not a control token of the vocabulary",
            hint=f"add it to special_tokens, or take one of {', '.join(config.control)}",
            param="roles",
        )
    backend, trainer = _BUILDERS[config.kind](config)
    tell = progress or _silent
    read = _trained(backend, trainer, texts, tell)
    if not read:
        raise InputError(
            "there is no text to train on", hint="give at least one text", param="texts"
        )
    spec = _finished(json.loads(backend.to_str()), config)
    return Tokenizer(spec, {"clean_up_tokenization_spaces": False, **parts})


def _silent(_: str) -> None:
    pass


def _without_endless_words(text: str) -> Iterator[str]:
    """``text``, cut after each block of characters without a space. Merging takes time quadratic
    in the length of a word: minutes for one of a million letters, which none learns from."""
    start = 0
    for at in range(0, len(text) - _LONGEST_WORD, _LONGEST_WORD):
        end = at + _LONGEST_WORD
        # One word, and no space before or after it.
        if text[at:end].split(maxsplit=1) == [text[at:end]]:
            yield text[start:end]
            start = end
    yield text[start:]


def _trained(backend: Any, trainer: Any, texts: Iterable[str], tell: Callable[[str], None]) -> int:
    """Train in a thread, so that this one hears Ctrl-C; returns the characters read."""
    stopped = threading.Event()
    failures: list[BaseException] = []
    read = 0
    exhausted = False

    def source() -> Iterator[str]:
        nonlocal read, exhausted
        for text in texts:
            if stopped.is_set():
                return
            read += len(text)
            yield from _without_endless_words(text)
            tell("reading")
        exhausted = True

    def work() -> None:
        try:
            backend.train_from_iterator(source(), trainer)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work, name="tokenizer-training", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.1)
            if exhausted:
                tell("merging")
    finally:
        stopped.set()
    if failures:
        raise failures[0]
    return read


def _trainer(kind: Any, config: VocabularyConfig, more: Iterable[str] = (), **options: Any) -> Any:
    """``more``: tokens after the control tokens. Unigram counts no pairs."""
    if kind is not trainers.UnigramTrainer:
        options["min_frequency"] = config.min_frequency
    return kind(
        vocab_size=config.vocab_size,
        special_tokens=[*config.control, *more],
        show_progress=False,
        **options,
    )


def _byte_level(config: VocabularyConfig) -> tuple[Any, Any]:
    backend = tokenizers.Tokenizer(models.BPE())
    pattern = PATTERNS[config.pattern]
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not pattern)
    if pattern:
        split = pre_tokenizers.Split(tokenizers.Regex(library_pattern(pattern)), "isolated")
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    else:
        backend.pre_tokenizer = level
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return backend, _trainer(trainers.BpeTrainer, config, initial_alphabet=alphabet)


def _wordpiece(config: VocabularyConfig) -> tuple[Any, Any]:
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=config.lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return backend, _trainer(trainers.WordPieceTrainer, config)


def _unigram(config: VocabularyConfig) -> tuple[Any, Any]:
    backend = tokenizers.Tokenizer(models.Unigram())
    lower = [normalizers.Lowercase()] if config.lowercase else []
    backend.normalizer = normalizers.Sequence(
        [
            *(normalizers.Nmt(), normalizers.NFKC(), *lower),
            normalizers.Replace(tokenizers.Regex(" {2,}"), " "),
        ]
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return backend, _trainer(trainers.UnigramTrainer, config, **_LETTERS)


def _sentencepiece_bpe(config: VocabularyConfig) -> tuple[Any, Any]:
    backend = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    letters = max(1, (config.vocab_size - len(config.control) - 256) // 2)
    trainer = _trainer(trainers.BpeTrainer, config, _BYTES, limit_alphabet=letters)
    return _in_words(backend), trainer


def _sentencepiece_unigram(config: VocabularyConfig) -> tuple[Any, Any]:
    backend = _in_words(tokenizers.Tokenizer(models.Unigram()))
    return backend, _trainer(trainers.UnigramTrainer, config, _BYTES, **_LETTERS)


def _in_words(backend: Any) -> Any:
    """Spaces are marks at the beginnings of words, line ends and digits stand alone, and nothing
    is normalized or put in front, so that every text comes back."""
    apart = pre_tokenizers.Split(tokenizers.Regex(r"\n+|\p{N}"), "isolated")
    words = pre_tokenizers.Metaspace(prepend_scheme="never")
    backend.pre_tokenizer = pre_tokenizers.Sequence([apart, words])
    backend.decoder = decoders.Sequence(
        [decoders.Replace(_MARK, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return backend


_BUILDERS: dict[Kind, Callable[[VocabularyConfig], tuple[Any, Any]]] = {
    "bpe": _byte_level,
    "wordpiece": _wordpiece,
    "unigram": _unigram,
    "sentencepiece-bpe": _sentencepiece_bpe,
    "sentencepiece-unigram": _sentencepiece_unigram,
}


def _finished(spec: dict[str, Any], config: VocabularyConfig) -> dict[str, Any]:
    """What the trainer's result lacks: bytes as a fallback instead of control tokens, and what is
    added around texts."""
    ids = {token["content"]: token["id"] for token in spec["added_tokens"]}
    if config.kind.startswith("sentencepiece"):
        spec["model"]["byte_fallback"] = True
        control = set(config.control)
        spec["added_tokens"] = [t for t in spec["added_tokens"] if t["content"] in control]
    if config.kind.endswith("unigram"):
        # Text that only spells them is better written in any other way.
        rows = spec["model"]["vocab"]
        spec["model"]["vocab"] = [[p, _LAST_RESORT if p in ids else score] for p, score in rows]
    if config.kind == "wordpiece":
        after = ["[SEP]"]
        spec["post_processor"] = post_processor(
            ids, before=["[CLS]"], after=after, between=after, second_type=1
        )
    elif config.kind == "unigram":
        spec["post_processor"] = post_processor(ids, after=["</s>"])
    return spec
