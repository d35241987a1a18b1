"""Text to token ids and back, from whichever vocabulary a model carries (``vocabulary.py``).

A thin, immutable layer over the ``tokenizers`` library that fixes what callers get wrong: no
padding or truncation hides in a loaded file, special-token strings in untrusted text stay text,
offsets are characters, bytes of tokens are exact. Does not cover training a vocabulary or
chat templates (``chat.py``).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import tokenizers

from lmstack.core import FormatError, InputError, check_text, shown
from lmstack.core.files import write_atomic
from lmstack.text.counting import PieceCounter, counts_by_piece, counts_by_word
from lmstack.text.detokenizer import Detokenizer, Surfaces, surfaces
from lmstack.text.files import json_object
from lmstack.text.vocab.exact import Exact
from lmstack.text.vocab.gguf import gguf_config, gguf_parts
from lmstack.text.vocab.tiktoken import TiktokenEncoding
from lmstack.text.vocab.vocabulary import EXACT_KEY, read_file, read_folder

__all__ = ["Encoding", "Tokenizer"]

_ROLES = ("bos_token", "eos_token", "pad_token", "unk_token", "cls_token", "sep_token")
_NAMED = (*_ROLES, "mask_token", "eot_token")
_MAX_VOCABULARY = 4_000_000
_EXTRA = ("additional_special_tokens", "extra_special_tokens")
_KEPT = (
    *("model_max_length", "clean_up_tokenization_spaces", "padding_side", "truncation_side"),
    "model_input_names",
)
_WITH_SEGMENTS = ["input_ids", "token_type_ids", "attention_mask"]


@dataclass(frozen=True, slots=True)
class Encoding:
    """``offsets[i]``: the characters ``[start, end)`` of the text that token ``i`` stands for;
    ``(0, 0)`` for tokens that the tokenizer added."""

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]


class Tokenizer:
    """Immutable and thread-safe. Build it with `from_folder`, `from_file`, `from_json` or
    `from_gguf`."""

    vocab_size: int
    bos_id: int | None
    eos_id: int | None
    pad_id: int | None
    unk_id: int | None
    special_ids: frozenset[int]
    unknown_ids: frozenset[int]
    adds_bos: bool

    def __init__(
        self, spec: Mapping[str, Any], config: Mapping[str, Any], exact: Exact | None = None
    ) -> None:
        """``spec``: the value of tokenizer.json; ``config``: of tokenizer_config.json.
        ``exact``: what encodes here in its place, where that format cannot say it all."""
        self._exact = exact
        self._saved = spec
        self._config = dict(config)
        names = {key: name for key in _NAMED if (name := _content(config.get(key))) is not None}
        self._control = [*names.values(), *_extra(config)]
        self._json = json.dumps(_prepared(exact.spec if exact else spec, self._control))
        self._fast = _backend(self._json, self._control, exact)
        vocabulary: dict[str, int] = self._fast.get_vocab(with_added_tokens=True)
        if not vocabulary:
            raise FormatError("the tokenizer has no tokens", hint="download the model again")
        self.vocab_size = max(vocabulary.values()) + 1
        if self.vocab_size > _MAX_VOCABULARY:
            raise FormatError(
                f"the tokenizer has a token with the id {self.vocab_size - 1}",
                hint="the file is damaged: download the model again",
            )
        self._tokens: list[str | None] = [None] * self.vocab_size
        for token, index in vocabulary.items():
            self._tokens[index] = token
        added = self._fast.get_added_tokens_decoder()
        self._added = {index: str(token.content) for index, token in added.items()}
        self.special_ids = frozenset(index for index, token in added.items() if token.special)
        self._special = {self._added[index]: index for index in self.special_ids}
        self._names = {key: name for key, name in names.items() if name in vocabulary}
        self.bos_id, self.eos_id, self.pad_id, self.unk_id = (
            vocabulary.get(names.get(key, "")) for key in _ROLES[:4]
        )
        model = spec.get("model")
        unknown = {self.unk_id, vocabulary.get(getattr(self._fast.model, "unk_token", "") or "")}
        if isinstance(model, Mapping) and isinstance(model.get("unk_id"), int):
            unknown.add(model["unk_id"])  # unigram models name it so
        self.unknown_ids = frozenset(index for index in unknown if index is not None)
        self._forbidden = self.special_ids - self.unknown_ids
        self.adds_bos = self.bos_id is not None and self._fast.encode("").ids[:1] == [self.bos_id]
        # As the library understood it: it accepts more spellings than the documented one.
        decoder = self._fast.decoder
        self._decoder = None if decoder is None else json.loads(decoder.__getstate__())
        self._lock = threading.Lock()

    @classmethod
    def from_folder(cls, path: str | Path) -> Self:
        """The vocabulary of a model folder, in whichever file it is, with its companions."""
        found = read_folder(Path(path))
        return cls(found.spec, found.config, found.exact)

    @classmethod
    def from_file(cls, path: str | Path, encoding: str | TiktokenEncoding | None = None) -> Self:
        """One vocabulary file: SentencePiece ``.model``, tiktoken, ``tekken.json``,
        ``vocab.json`` beside its ``merges.txt``, ``vocab.txt`` or ``tokenizer.json``.

        ``encoding``: the name of a tiktoken file's encoding, or its pattern and control tokens,
        where the file is none of those known by their content.
        """
        found = read_file(Path(path), encoding)
        return cls(found.spec, found.config, found.exact)

    @classmethod
    def from_json(cls, text: str, config: Mapping[str, Any] | None = None) -> Self:
        """From the text of ``tokenizer.json`` and the value of ``tokenizer_config.json``."""
        return cls(json_object(text, "tokenizer.json"), config or {})

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any]) -> Self:
        """From GGUF metadata (keys ``tokenizer.ggml.*``)."""
        try:
            spec, exact = gguf_parts(metadata)
            return cls(spec, gguf_config(metadata), exact)
        except (TypeError, ValueError, OverflowError) as error:
            raise FormatError(
                f"the vocabulary of the GGUF file cannot be read: {error}",
                hint="the file is damaged: download it again",
            ) from error

    def encode(
        self, text: str, *, special: bool = True, add_special_tokens: bool = True
    ) -> list[int]:
        """Token ids of ``text``.

        ``special=False`` is for text that others wrote: strings such as ``<|im_end|>`` in it are
        ordinary text, and no control token other than "unknown" comes out of it.
        ``add_special_tokens``: let the tokenizer add its own (BOS; ``[CLS]`` and ``[SEP]``).
        """
        check_text("the text", text)
        backend = self._fast if special else self._plain
        [encoding] = _run(backend, [text], special=special and add_special_tokens, fast=True)
        if special:
            return list(encoding.ids)
        if not self._forbidden.isdisjoint(encoding.ids):
            encoding = self._encode_plain(text)
        return list(self._fast.post_process(encoding, None, add_special_tokens).ids)

    def encode_batch(
        self,
        texts: Sequence[str],
        *,
        special: bool = True,
        add_special_tokens: bool = True,
        max_length: int | None = None,
        truncation: Literal["error", "right", "left"] = "error",
    ) -> list[Encoding]:
        """Ids and character offsets of each text.

        ``special`` as in `encode`. Nothing is cut unless asked: over ``max_length`` tokens (added
        ones count) is an `InputError`, or with ``truncation`` the end (``"right"``) or the start
        is dropped.
        """
        for index, text in enumerate(texts):
            check_text(f"texts[{index}]", text)
        room = self._room(max_length, add_special_tokens)
        encodings = self.unfinished(texts, special=special)
        result = []
        for index, encoding in enumerate(encodings):
            if room is not None and len(encoding.ids) > room:
                if truncation == "error":
                    raise InputError(
                        f"texts[{index}] has {len(encoding.ids)} tokens, more than {room}",
                        hint="split it, or pass truncation='right'",
                        param="max_length",
                    )
                encoding.truncate(room, direction=truncation)
            full = self._fast.post_process(encoding, None, add_special_tokens)
            result.append(Encoding(tuple(full.ids), tuple(full.offsets)))
        return result

    def encode_ids(self, texts: Sequence[str], *, max_length: int | None = None) -> list[list[int]]:
        """Ids alone, which is faster: those of `encode_batch` with ``truncation="right"``."""
        for index, text in enumerate(texts):
            check_text(f"texts[{index}]", text)
        room = self._room(max_length, True)
        # Without offsets, post-processing that adds nothing changes nothing.
        encodings = _run(self._fast, texts, fast=True)
        for encoding in encodings:
            if room is not None and len(encoding) > room:
                encoding.truncate(room)
        return [self._fast.post_process(encoding, None, True).ids for encoding in encodings]

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, added ones included: the lengths of `encode_ids`, sooner."""
        for index, text in enumerate(texts):
            check_text(f"texts[{index}]", text)
        added = self._fast.num_special_tokens_to_add(False)
        return [n + added for n in self._count(texts)]

    @cached_property
    def counts_by_word(self) -> bool:
        """Whether the words of a text (between spaces, tabs and line ends) have as many tokens
        as the text, whatever it is: BERT's tokenizers, which never look across a space."""
        return self._exact is None and counts_by_word(_prepared(self._saved, self._control))

    @cached_property
    def _count(self) -> Callable[[Sequence[str]], list[int]]:
        def encoded(texts: Sequence[str]) -> list[int]:
            return [len(encoding) for encoding in _run(self._fast, texts, fast=True)]

        if self._exact is None and counts_by_piece(_prepared(self._saved, self._control)):
            return PieceCounter(encoded, list(self._added.values())).count
        return encoded

    def _room(self, max_length: int | None, add_special_tokens: bool) -> int | None:
        """Tokens of a text itself that ``max_length`` leaves."""
        if max_length is None:
            return None
        extra = self._fast.num_special_tokens_to_add(False) if add_special_tokens else 0
        if max_length < extra:
            raise InputError(
                f"max_length is {max_length}, less than the {extra} tokens that are added",
                hint="give a larger max_length, or add_special_tokens=False",
                param="max_length",
            )
        return max_length - extra

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = False) -> str:
        """Text of ``ids``; bytes that are no UTF-8 become U+FFFD."""
        stream = self.detokenizer(skip_special_tokens=skip_special_tokens)
        return "".join([stream.push(index) for index in ids]) + stream.flush()

    def detokenizer(self, skip_special_tokens: bool = True) -> Detokenizer:
        """A fresh incremental decoder for one stream."""
        table, skipped = self._surfaces, self.special_ids if skip_special_tokens else frozenset()

        def piece(index: int, at_start: bool) -> bytes | None:
            self._check_id(index)
            if index in skipped:
                return None
            return table.first.get(index, table.rest[index]) if at_start else table.rest[index]

        return Detokenizer(piece, table.strip)

    def token_bytes(self, index: int) -> bytes:
        """The exact bytes that the token adds to a running text; ``b""`` for control tokens."""
        self._check_id(index)
        return b"" if index in self.special_ids else self._surfaces.rest[index]

    def id_of(self, token: str) -> int | None:
        """Id of a token as the vocabulary spells it, None if there is none."""
        index: int | None = self._fast.token_to_id(token)
        return index

    def token(self, index: int) -> str:
        """A token as the vocabulary spells it (``Ġhello``)."""
        self._check_id(index)
        return self._tokens[index] or ""

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Text of every control token, and its id."""
        return self._special

    @property
    def backend(self) -> Any:
        """The ``tokenizers`` library's object, for the rest of this module. Not to be changed."""
        return self._fast

    @property
    def config(self) -> Mapping[str, Any]:
        """What ``tokenizer_config.json`` said."""
        return self._config

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that its ids follow from."""
        parts = [self._json, json.dumps(self._config, sort_keys=True, default=str)]
        whole = hashlib.sha256("\0".join(parts).encode())
        for name, data in sorted(self._exact.files.items() if self._exact else ()):
            whole.update(name.encode() + b"\0" + data)
        return whole.hexdigest()

    def name_of(self, role: str) -> str:
        """Text of the token with a role such as ``bos_token``; empty if there is none."""
        return self._names.get(role, "")

    def save(self, folder: str | Path) -> None:
        """Write the files that ``transformers.AutoTokenizer`` loads with the same ids, but for
        the texts on which their format itself differs from the original library (`Exact`)."""
        target = Path(folder)
        config = {key: self._config[key] for key in _KEPT if key in self._config}
        if any(self._fast.encode("", "").type_ids):
            # The generic class leaves segment ids out unless told.
            config.setdefault("model_input_names", _WITH_SEGMENTS)
        # The generic class: it takes tokenizer.json as it is instead of rebuilding it.
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        backend = self._fast
        if self._exact is not None:
            backend = _backend(json.dumps(_prepared(self._saved, self._control)), self._control)
            config[EXACT_KEY] = next(iter(self._exact.files), None)
        files = {
            "tokenizer.json": backend.to_str(pretty=False),
            "tokenizer_config.json": json.dumps({**config, **self._names}, indent=2),
            "special_tokens_map.json": json.dumps(self._names, indent=2),
        }
        whole = {name: text.encode() for name, text in files.items()}
        for name, data in (whole | dict(self._exact.files if self._exact else {})).items():
            write_atomic(target / name, data)

    def _check_id(self, index: int) -> None:
        if not 0 <= index < self.vocab_size:
            raise InputError(
                f"token id {shown(index)} is outside the vocabulary",
                hint=f"ids go from 0 to {self.vocab_size - 1}",
            )

    @cached_property
    def _surfaces(self) -> Surfaces:
        return surfaces(self._tokens, self._added, self._decoder)

    def unfinished(self, texts: Sequence[str], *, special: bool = True) -> list[Any]:
        """The library's encodings before post-processing, for the rest of this module."""
        encodings = _run(self._bare if special else self._plain, texts)
        if special:
            return encodings
        pairs = zip(texts, encodings, strict=True)
        return [self._without_control(text, encoding) for text, encoding in pairs]

    @cached_property
    def _bare(self) -> Any:
        """A second backend that stops before post-processing, which would trim the spaces in
        offsets once more each time it runs."""
        with self._lock:
            backend = _backend(self._json, self._control, self._exact)
            backend.post_processor = None
            return backend

    @cached_property
    def _plain(self) -> Any:
        """A third one that also does not look for control tokens in text."""
        with self._lock:
            backend = _backend(self._json, self._control, self._exact)
            backend.post_processor = None
            backend.encode_special_tokens = True
            return backend

    def _encode_plain(self, text: str) -> Any:
        [encoding] = _run(self._plain, [text])
        return self._without_control(text, encoding)

    def _without_control(self, text: str, encoding: Any) -> Any:
        if self._forbidden.isdisjoint(encoding.ids):
            return encoding
        # A vocabulary may reach a control token by plain merging (a word of it, say). Cutting
        # the text inside that token leaves pieces that cannot.
        where = next(n for n, index in enumerate(encoding.ids) if index in self._forbidden)
        start, end = encoding.offsets[where]
        if end - start < 2:
            raise InputError(
                f"the text holds {shown(text[start:end])}, which this vocabulary can only write "
                "as a control token",
                hint="remove that character",
            )
        halves = [self._encode_plain(text[: start + 1]), self._encode_plain(text[start + 1 :])]
        return tokenizers.Encoding.merge(halves, growing_offsets=True)


def _run(
    backend: Any, texts: Sequence[str], *, special: bool = False, fast: bool = False
) -> list[Any]:
    """The library's own encodings of ``texts``, its errors as ours. ``special``: with the special
    tokens around texts. ``fast``: without offsets, which take as long as the rest."""
    encode = backend.encode_batch_fast if fast else backend.encode_batch
    try:
        encodings: list[Any] = encode(list(texts), add_special_tokens=special)
    except Exception as error:  # the library has no type of its own
        raise InputError(
            f"this vocabulary cannot write the text: {shown(str(error), 200)}",
            hint="it has no token for what it does not know: leave such characters out",
        ) from error
    return encodings


def _backend(text: str, control: Sequence[str], exact: Exact | None = None) -> Any:
    try:
        backend = tokenizers.Tokenizer.from_str(text)
        _try_frames(backend)
    except BaseException as error:
        # A Rust panic reaches Python outside the Exception tree.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise FormatError(
            f"tokenizer.json cannot be used: {shown(str(error), 200)}",
            hint="get the model again, complete; or, if the file is newer than the installed"
            " library: pip install -U tokenizers",
        ) from error
    if exact is not None:
        exact.install(backend)
    backend.no_padding()
    backend.no_truncation()
    # Named in the configuration and known to the vocabulary, yet not listed as added. Those that
    # are listed keep their own way with the spaces around them.
    listed = {token.content for token in backend.get_added_tokens_decoder().values()}
    known = [n for n in control if n not in listed and backend.token_to_id(n) is not None]
    backend.add_special_tokens([tokenizers.AddedToken(name, normalized=False) for name in known])
    return backend


def _try_frames(backend: Any) -> None:
    """What is put around a text and around two may name a token that the file does not define:
    a panic at the first text, which nothing between here and the user would catch."""
    # That a vocabulary cannot write a text is told of that text.
    with contextlib.suppress(Exception):
        backend.encode("")
    with contextlib.suppress(Exception):
        backend.encode("", "")


def _content(value: object) -> str | None:
    """A token in tokenizer_config.json is a string or an object with its ``content``."""
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) and value else None


def _extra(config: Mapping[str, Any]) -> list[str]:
    found = []
    for key in _EXTRA:
        values = config.get(key)
        values = list(values.values()) if isinstance(values, Mapping) else values
        for value in values if isinstance(values, list | tuple) else ():
            content = _content(value)
            if content is not None:
                found.append(content)
    return found


def _prepared(spec: Mapping[str, Any], control: Sequence[str]) -> dict[str, Any]:
    """``spec`` in which every token named in the configuration is marked special."""
    added = spec.get("added_tokens") or []
    if not isinstance(added, list) or not all(isinstance(token, dict) for token in added):
        raise FormatError(
            f"added_tokens of tokenizer.json is {shown(added)}", hint="download the model again"
        )
    marked = [
        {**token, "special": True} if token.get("content") in control else token for token in added
    ]
    return {**spec, "added_tokens": marked, "truncation": None, "padding": None}
