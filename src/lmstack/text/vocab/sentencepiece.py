"""SentencePiece models (``.model``, ``.spm``) to tokenizers with SentencePiece's own ids.

Covers BPE and Unigram, byte fallback, user-defined pieces and the compiled normalization rules,
read from the protobuf without its library. `SentencePiece` is the vocabulary whatever file it came
from (GGUF files hold the same); `sentencepiece_parts` makes of it the JSON of ``tokenizer.json``
and, where that format cannot say the same on every text, what is put in its place in memory.
Does not cover word and character models, nor spaces as suffixes, which are refused by name.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from struct import unpack_from
from typing import Any

import tokenizers

from lmstack.core import FormatError, UnsupportedError, shown
from lmstack.text.vocab.byte_level import added_token, bpe_model, ids_of
from lmstack.text.vocab.charsmap import CharsMap, Rules
from lmstack.text.vocab.exact import Exact
from lmstack.text.vocab.merges import merges_of
from lmstack.text.vocab.unigram import Unigram

__all__ = ["SentencePiece", "is_sentencepiece", "read_sentencepiece", "sentencepiece_parts"]

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
_KINDS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
_MARK = "▁"


@dataclass(frozen=True)
class SentencePiece:
    """A vocabulary: ``pieces``, ``scores`` and ``types`` by id. The flags are the file's."""

    kind: str
    pieces: tuple[str, ...]
    scores: tuple[float, ...]
    types: tuple[int, ...]
    unknown_id: int | None = None
    roles: Mapping[str, str] | None = None
    byte_fallback: bool = False
    charsmap: bytes = b""
    dummy_prefix: bool = True
    collapse_spaces: bool = True

    def of_type(self, *types: int) -> dict[str, int]:
        """Pieces of some types and their ids."""
        rows = zip(self.pieces, self.types, strict=True)
        return {piece: index for index, (piece, kind) in enumerate(rows) if kind in types}


def is_sentencepiece(data: bytes) -> bool:
    """Whether the file starts with a piece, as every SentencePiece model does."""
    try:
        number, value = next(_fields(data))
        return number == 1 and isinstance(value, bytes) and isinstance(_piece(value)[0], str)
    except (StopIteration, FormatError):
        return False


def read_sentencepiece(data: bytes) -> SentencePiece:
    """The vocabulary of a ``.model`` file."""
    pieces: list[tuple[str, float, int]] = []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    for number, value in _fields(data):
        if number == 1:
            pieces.append(_piece(value))
        elif number == 2:
            trainer = dict(_fields(_bytes(value)))
        elif number == 3:
            normalizer = dict(_fields(_bytes(value)))
    if not pieces:
        raise _damaged("it has no pieces")
    kind = _KINDS.get(trainer.get(3, 1), "unknown")
    if kind not in ("bpe", "unigram") or trainer.get(24) or not normalizer.get(5, 1):
        raise UnsupportedError(
            "the SentencePiece model is "
            + (f"of kind {kind}" if kind not in ("bpe", "unigram") else "one with unusual spaces"),
            hint="supported: bpe and unigram with spaces as ▁ before words",
        )
    names, scores, types = zip(*pieces, strict=True)
    defaults = {40: 0, 41: 1, 42: 2, 43: -1}
    ids = {key: _signed(trainer.get(key, default)) for key, default in defaults.items()}
    roles = {"unk_token": 40, "bos_token": 41, "eos_token": 42, "pad_token": 43}
    return SentencePiece(
        kind=kind,
        pieces=names,
        scores=scores,
        types=types,
        unknown_id=next((i for i, kind_ in enumerate(types) if kind_ == UNKNOWN), None),
        roles={role: names[ids[key]] for role, key in roles.items() if 0 <= ids[key] < len(names)},
        byte_fallback=bool(trainer.get(35, 0)),
        charsmap=_bytes(normalizer.get(2, b"")),
        dummy_prefix=bool(normalizer.get(3, 1)),
        collapse_spaces=bool(normalizer.get(4, 1)),
    )


def sentencepiece_parts(
    vocabulary: SentencePiece, *, parted: bool = False
) -> tuple[dict[str, Any], Exact | None]:
    """The value of tokenizer.json; None beside it where that is exact already.

    It is where pieces are merged (BPE), no normalization rules apply and no user-defined piece
    can begin a text that gets a space in front. ``parted``: user-defined pieces end a text and
    begin another, as in llama.cpp, and not as in SentencePiece.
    """
    if unused := vocabulary.of_type(UNUSED):
        raise UnsupportedError(
            f"the SentencePiece model marks {len(unused)} pieces as unused",
            hint="load the model's tokenizer.json instead",
        )
    spec = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(vocabulary),
        "normalizer": {"type": "Sequence", "normalizers": _normalizers(vocabulary)},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": _decoder(vocabulary),
        "model": _bpe(vocabulary) if vocabulary.kind == "bpe" else _unigram(vocabulary),
    }
    defined = frozenset(() if parted else vocabulary.of_type(USER_DEFINED))
    unigram = vocabulary.kind == "unigram"
    if not (unigram or vocabulary.charsmap or (defined and vocabulary.dummy_prefix)):
        return spec, None
    return spec, _exact(vocabulary, spec, defined, unigram)


def _added(vocabulary: SentencePiece) -> list[dict[str, Any]]:
    """User-defined pieces are found after spaces became marks; with a mark put in front of every
    text that cannot be asked of the library, which would put it in front of the piece too."""
    added = []
    for index, (piece, kind) in enumerate(zip(vocabulary.pieces, vocabulary.types, strict=True)):
        if kind in (UNKNOWN, CONTROL, USER_DEFINED) and piece:
            defined = kind == USER_DEFINED
            token = added_token(index, piece, special=not defined)
            added.append({**token, "normalized": defined and not vocabulary.dummy_prefix})
    return added


def _exact(
    vocabulary: SentencePiece, spec: Mapping[str, Any], defined: frozenset[str], unigram: bool
) -> Exact:
    """In memory the rules, the spaces and the cuts are ours; the library looks pieces up."""
    prefixed = vocabulary.dummy_prefix and not vocabulary.collapse_spaces
    chars = CharsMap(Rules(vocabulary.charsmap), defined, _MARK if prefixed else "")
    steps = [tokenizers.normalizers.Normalizer.custom(chars), *_space_steps(vocabulary)]
    scores = {p: vocabulary.scores[i] for p, i in vocabulary.of_type(NORMAL).items()}
    cutter: Any = Unigram(scores, defined) if unigram else _Isolated(defined)
    # User-defined pieces are found after the normalization, and looked up like any other.
    special = [token for token in spec["added_tokens"] if token["content"] not in defined]
    looked_up = {**_bpe(vocabulary, merge=not unigram), "ignore_merges": True}
    return Exact(
        spec={**spec, "normalizer": None, "added_tokens": special, "model": looked_up},
        normalizer=tokenizers.normalizers.Sequence(steps),
        pre_tokenizer=tokenizers.pre_tokenizers.PreTokenizer.custom(cutter),
    )


class _Isolated:
    """A pre-tokenizer that cuts out user-defined pieces, the longest first."""

    def __init__(self, pieces: frozenset[str]) -> None:
        self._pattern = "|".join(
            _matching(piece) for piece in sorted(pieces, key=len, reverse=True)
        )

    def pre_tokenize(self, pretokenized: Any) -> None:
        if self._pattern:
            pattern = tokenizers.Regex(self._pattern)
            pretokenized.split(lambda _, text: text.split(pattern, "isolated"))


def _matching(text: str) -> str:
    """A pattern of the library's regular expressions that matches ``text`` alone."""
    return "".join(c if c.isalnum() else f"\\x{{{ord(c):x}}}" for c in text)


def _space_steps(vocabulary: SentencePiece) -> list[Any]:
    kinds = tokenizers.normalizers
    steps: list[Any] = []
    for step in _spaces(vocabulary):
        if step["type"] == "Prepend":
            if vocabulary.collapse_spaces:  # without, `CharsMap` does it
                steps.append(kinds.Prepend(step["prepend"]))
        else:
            pattern = step["pattern"]
            source = tokenizers.Regex(pattern["Regex"]) if "Regex" in pattern else pattern["String"]
            steps.append(kinds.Replace(source, step["content"]))
    return steps


def _spaces(vocabulary: SentencePiece) -> list[dict[str, Any]]:
    """What SentencePiece does about spaces, in its order."""
    steps = []
    if vocabulary.collapse_spaces:
        steps += [_replace({"Regex": r"\A +"}, ""), _replace({"Regex": " {2,}"}, " ")]
    if vocabulary.dummy_prefix:
        steps.append({"type": "Prepend", "prepend": _MARK})
    steps.append(_replace({"String": " "}, _MARK))
    if vocabulary.collapse_spaces:
        steps.append(_replace({"Regex": rf"{_MARK}+\z"}, ""))
    return steps


def _normalizers(vocabulary: SentencePiece) -> list[dict[str, Any]]:
    rules = base64.b64encode(vocabulary.charsmap).decode()
    first = [{"type": "Precompiled", "precompiled_charsmap": rules}] if rules else []
    return [*first, *_spaces(vocabulary)]


def _replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _decoder(vocabulary: SentencePiece) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [
        _replace({"String": _MARK}, " "),
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if vocabulary.dummy_prefix:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}


def _bpe(vocabulary: SentencePiece, *, merge: bool = True) -> dict[str, Any]:
    unknown = vocabulary.unknown_id
    return bpe_model(
        ids_of(vocabulary.pieces),
        _ranked(vocabulary) if merge else [],
        unknown=None if unknown is None else vocabulary.pieces[unknown],
        fuse_unknown=True,
        byte_fallback=vocabulary.byte_fallback,
    )


def _ranked(vocabulary: SentencePiece) -> list[tuple[str, str]]:
    """The piece with the best score is made first, so its place in that order is its rank."""
    ordinary = vocabulary.of_type(NORMAL, BYTE, USER_DEFINED, UNUSED)
    order = sorted(ordinary, key=lambda piece: -vocabulary.scores[ordinary[piece]])
    return merges_of({piece: rank for rank, piece in enumerate(order)})


def _unigram(vocabulary: SentencePiece) -> dict[str, Any]:
    return {
        "type": "Unigram",
        "unk_id": vocabulary.unknown_id,
        "byte_fallback": vocabulary.byte_fallback,
        "vocab": [list(row) for row in zip(vocabulary.pieces, vocabulary.scores, strict=True)],
    }


def _piece(message: Any) -> tuple[str, float, int]:
    text, score, kind = b"", 0.0, NORMAL
    for number, value in _fields(_bytes(message)):
        if number == 1:
            text = _bytes(value)
        elif number == 2 and isinstance(value, float):
            score = value
        elif number == 3 and isinstance(value, int):
            kind = value
    try:
        return text.decode(), score, kind
    except UnicodeDecodeError as error:
        raise _damaged(f"the piece {shown(text)} is no UTF-8") from error


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int | float]]:
    """Numbers and values of a protobuf message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            length, at = _varint(data, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise _damaged(f"a field has the wire type {wire}")
        if at + length > len(data):
            raise _damaged("it ends inside a field")
        field = data[at : at + length]
        at += length
        yield number, unpack_from("<f", field)[0] if wire == 5 else field


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise _damaged("it ends inside a number")


def _signed(value: Any) -> int:
    """An int32 of protobuf: negative numbers are written as 64 bits."""
    number = int(value) if isinstance(value, int) else -1
    return number - (1 << 64) if number >= 1 << 63 else number


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise _damaged("a field holds a number instead of a text or message")
    return value


def _damaged(why: str) -> FormatError:
    return FormatError(
        f"the SentencePiece model cannot be read: {why}", hint="download the file again"
    )
