"""SentencePiece models (``.model``, ``.spm``) to tokenizers with SentencePiece's own ids.

Covers BPE and Unigram, byte fallback, user-defined pieces and the compiled normalization rules.
`SentencePiece` is the vocabulary whatever file it came
from (GGUF files hold the same); `sentencepiece_parts` makes of it the JSON of ``tokenizer.json``
and, where that format cannot say the same on every text, what is put in its place in memory.
Does not cover word and character models, nor spaces as suffixes, which are refused by name.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tokenizers

from lmstack.core import FormatError, UnsupportedError
from lmstack.text.vocab.exact import Exact, OriginalCuts, OriginalRules
from lmstack.text.vocab.merges import merges_of
from lmstack.text.vocab.protobuf import Schema, parse_message
from lmstack.text.vocab.tokenizer_json import (
    added_token,
    bpe_model,
    ids_of,
    replace_step,
    tokenizer_json,
)

__all__ = [
    "BYTE", "CONTROL", "NORMAL", "UNKNOWN", "UNUSED", "USER_DEFINED", "SentencePiece",
    "is_sentencepiece", "read_sentencepiece", "sentencepiece_parts",
]  # fmt: skip

# Types of pieces; llama.cpp numbers its types of tokens alike.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
_KINDS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
_MARK = "▁"
_ROLES = ("unk_token", "bos_token", "eos_token", "pad_token")
_SCHEMA: Schema = {
    "Model": {
        "pieces": (1, "Piece*"), "trainer": (2, "Trainer"), "normalizer": (3, "Normalizer"),
    },
    "Piece": {"piece": (1, "string"), "score": (2, "float"), "type": (3, "int32", "1")},
    "Trainer": {
        "model_type": (3, "int32", "1"), "treat_whitespace_as_suffix": (24, "bool"),
        "byte_fallback": (35, "bool"), "unk_id": (40, "int32", "0"), "bos_id": (41, "int32", "1"),
        "eos_id": (42, "int32", "2"), "pad_id": (43, "int32", "-1"),
    },
    "Normalizer": {
        "precompiled_charsmap": (2, "bytes"), "add_dummy_prefix": (3, "bool", "true"),
        "remove_extra_whitespaces": (4, "bool", "true"), "escape_whitespaces": (5, "bool", "true"),
    },
}  # fmt: skip


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
    """Whether the file starts with a piece that starts with its text, as every one does."""
    return data[:1] == data[2:3] == b"\n"


def read_sentencepiece(data: bytes) -> SentencePiece:
    """The vocabulary of a ``.model`` file."""
    try:
        model = parse_message(_SCHEMA, "Model", data)
    except ValueError as error:
        raise _damaged(str(error)) from error
    if not model.pieces:
        raise _damaged("it has no pieces")
    trainer, normalizer = model.trainer, model.normalizer
    kind = _KINDS.get(trainer.model_type, "unknown")
    usual = not trainer.treat_whitespace_as_suffix and normalizer.escape_whitespaces
    if kind not in ("bpe", "unigram") or not usual:
        raise UnsupportedError(
            "the SentencePiece model is "
            + (f"of kind {kind}" if kind not in ("bpe", "unigram") else "one with unusual spaces"),
            hint="supported: bpe and unigram with spaces as ▁ before words",
        )
    names, types = [p.piece for p in model.pieces], [p.type for p in model.pieces]
    ids = {role: getattr(trainer, f"{role[:3]}_id") for role in _ROLES}
    return SentencePiece(
        kind=kind,
        pieces=tuple(names),
        scores=tuple(p.score for p in model.pieces),
        types=tuple(types),
        unknown_id=next((i for i, type_ in enumerate(types) if type_ == UNKNOWN), None),
        roles={role: names[index] for role, index in ids.items() if 0 <= index < len(names)},
        byte_fallback=trainer.byte_fallback,
        charsmap=normalizer.precompiled_charsmap,
        dummy_prefix=normalizer.add_dummy_prefix,
        collapse_spaces=normalizer.remove_extra_whitespaces,
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
    spec = tokenizer_json(
        _bpe(vocabulary) if vocabulary.kind == "bpe" else _unigram(vocabulary),
        _added(vocabulary),
        normalizer={"type": "Sequence", "normalizers": _normalizers(vocabulary)},
        decoder=_decoder(vocabulary),
    )
    defined = vocabulary.of_type(USER_DEFINED) and vocabulary.dummy_prefix and not parted
    if vocabulary.kind == "unigram" or vocabulary.charsmap or defined:
        return spec, _exact(vocabulary, spec, parted)
    return spec, None


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


def _exact(vocabulary: SentencePiece, spec: Mapping[str, Any], parted: bool) -> Exact:
    """In memory the original library normalizes and cuts, and ``tokenizers`` looks pieces up."""
    defined = frozenset(() if parted else vocabulary.of_type(USER_DEFINED))
    # User-defined pieces are found after the normalization, and looked up like any other.
    special = [token for token in spec["added_tokens"] if token["content"] not in defined]
    looked_up = {**_bpe(vocabulary, merge=False), "ignore_merges": True}
    rules, cuts = (
        kind(_model(vocabulary, parted, cuts=kind is OriginalCuts))
        for kind in (OriginalRules, OriginalCuts)
    )
    return Exact(
        spec={**spec, "normalizer": None, "added_tokens": special, "model": looked_up},
        normalizer=tokenizers.normalizers.Normalizer.custom(rules),
        pre_tokenizer=tokenizers.pre_tokenizers.PreTokenizer.custom(cuts),
    )


def _model(vocabulary: SentencePiece, parted: bool, *, cuts: bool) -> bytes:
    """The vocabulary as a ``.model`` file whose pieces are never bytes or control tokens: those
    are looked up later. ``cuts``: for a text that is normalized already."""
    model = parse_message(_SCHEMA, "Model")
    kept = {NORMAL, UNKNOWN, *(() if parted else (USER_DEFINED,))}
    rows = list(zip(vocabulary.pieces, vocabulary.scores, vocabulary.types, strict=True))
    if vocabulary.unknown_id is None:
        rows.append(("", 0.0, UNKNOWN))
    unknown = len(rows) - 1 if vocabulary.unknown_id is None else vocabulary.unknown_id
    first = ids_of(vocabulary.pieces)
    for index, (piece, score, kind) in enumerate(rows):
        if not piece or first[piece] != index:  # the library takes each once, and none empty
            piece = f"\ufdd0{index}"
            kind = kind if kind == UNKNOWN else CONTROL
        if kind not in kept or (kind == UNKNOWN and index != unknown):
            kind = CONTROL
        model.pieces.add(piece=piece, score=score, type=kind)
    model.trainer.model_type = next(n for n, kind in _KINDS.items() if kind == vocabulary.kind)
    model.normalizer.precompiled_charsmap = b"" if cuts else vocabulary.charsmap
    model.normalizer.add_dummy_prefix = vocabulary.dummy_prefix and not cuts
    model.normalizer.remove_extra_whitespaces = vocabulary.collapse_spaces and not cuts
    model.normalizer.escape_whitespaces = not cuts
    data: bytes = model.SerializeToString()
    return data


def _spaces(vocabulary: SentencePiece) -> list[dict[str, Any]]:
    """What SentencePiece does about spaces, in its order."""
    steps = []
    if vocabulary.collapse_spaces:
        steps += [replace_step("", regex=r"\A +"), replace_step(" ", regex=" {2,}")]
    if vocabulary.dummy_prefix:
        steps.append({"type": "Prepend", "prepend": _MARK})
    steps.append(replace_step(_MARK, text=" "))
    if vocabulary.collapse_spaces:
        steps.append(replace_step("", regex=rf"{_MARK}+\z"))
    return steps


def _normalizers(vocabulary: SentencePiece) -> list[dict[str, Any]]:
    rules = base64.b64encode(vocabulary.charsmap).decode()
    first = [{"type": "Precompiled", "precompiled_charsmap": rules}] if rules else []
    return [*first, *_spaces(vocabulary)]


def _decoder(vocabulary: SentencePiece) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [
        replace_step(" ", text=_MARK),
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


def _damaged(why: str) -> FormatError:
    return FormatError(
        f"the SentencePiece model cannot be read: {why}", hint="download the file again"
    )
