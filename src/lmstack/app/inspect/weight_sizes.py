"""How many bytes a model's weights take in each form, and how many of them a step reads.

Counted on the module itself, built without memory, or on the tensors of a GGUF file as they are
stored. What a step reads is less than what is held: of an embedding table only a row a token,
of experts those that the tokens choose, of an encoder nothing once it has run.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch

from lmstack.app.inspect.rates import MatrixType
from lmstack.model import GGUFFile, Transformer, TransformerConfig
from lmstack.model.formats.assembly import matrices_of
from lmstack.model.quant.quantize import form_bytes
from lmstack.model.quant.recipes import RECIPES, Form

__all__ = ["Weights", "rescaled_weights", "stored_weights", "weights_in"]

# Bytes a weight in `file8`: 4-bit codes with two bytes a half of a group of 64, or bytes, and a
# float16 scale for each group.
_ON_LINES = 0.5 + 4 / 64 + 2 / 64
_BYTES = 1 + 2 / 64
_LINES = ("Q4_0", "Q4_1", "Q4_K")
Role = Literal["dense", "experts", "looked up", "once"]
# Integers are multiplied as integers, floats in the type that they are held in.
_MATRIX: dict[str, MatrixType] = {
    **{"float32": "float32", "F32": "float32"},
    **dict.fromkeys(("bfloat16", "float16", "BF16", "F16"), "bfloat16"),
}
MENTIONED = 0.1  # share of a file's bytes from which a type of blocks is named
_TABLES = ("embed_positions", "embed_types")
_GGUF_TABLES = ("position_embd", "token_types")


@dataclass(frozen=True)
class Weights:
    """Bytes: ``total`` in memory; ``dense`` read by every decode step; ``experts``, of which a
    token chooses some; the rest is looked up by the row, or read once for each request.
    ``form``: how they are held. ``matrix``: the type in which they are multiplied. ``beside``:
    codes of 8 bits that many rows are multiplied by and few are not, held where memory allows;
    not among the others."""

    form: str
    matrix: MatrixType
    total: int
    dense: int
    experts: int
    beside: int = 0

    def read_by(self, num_tokens: int, config: TransformerConfig) -> float:
        """Bytes that a step of ``num_tokens`` reads: with experts, those expected to be chosen
        by at least one token where every choice is as likely."""
        if not self.experts:
            return self.dense
        share = config.experts_per_token / config.num_experts
        return self.dense + self.experts * (1 - (1 - share) ** num_tokens)


def weights_in(config: TransformerConfig, form: Form) -> Weights:
    """The weights in ``form``, any but those of a file's blocks: matrices as
    `lmstack.model.quant.quantize` makes them, with all else in float32."""
    with torch.device("meta"):
        module = Transformer(config)
    matrices = matrices_of(module) if form in RECIPES else {}
    rest = 2 if form in ("bfloat16", "float16") else 4

    def sizes() -> Iterator[tuple[Role, int]]:
        for role, shape, name in parameters(config):
            if name in matrices:
                yield role, form_bytes(form, config, name, *shape, paired=matrices[name])
            else:
                yield role, rest * math.prod(shape)

    return _summed(form, _MATRIX.get(form, "int8"), sizes())


def stored_weights(file: GGUFFile) -> Weights:
    """The weights as a GGUF file has them: its blocks are served as they are."""
    untied = any(name == "output.weight" for name in file.names())
    sizes = ((_gguf_role(name, untied), tensor.size) for name, tensor in file.tensors.items())
    kinds: Counter[str] = Counter()
    for tensor in file.tensors.values():
        kinds[tensor.kind.name] += tensor.size
    names = [name for name, size in kinds.most_common() if size >= MENTIONED * kinds.total()]
    return _summed(", ".join(names), _MATRIX.get(names[0], "int8"), sizes)


def rescaled_weights(file: GGUFFile) -> Weights:
    """The weights of a GGUF file in `file8`."""
    untied = any(name == "output.weight" for name in file.names())
    sizes: list[tuple[Role, int]] = []
    beside = 0
    for name, tensor in file.tensors.items():
        role, count = _gguf_role(name, untied), math.prod(tensor.shape)
        if role == "experts" or len(tensor.shape) < 2:
            sizes.append((role, 4 * count))
        elif tensor.kind.name in _LINES:
            sizes.append((role, round(_ON_LINES * count)))
            beside += count if role == "dense" else 0
        else:
            sizes.append((role, round(_BYTES * count)))
    return dataclasses.replace(_summed("file8", "int8", iter(sizes)), beside=beside)


def _summed(form: str, matrix: MatrixType, sizes: Iterator[tuple[Role, int]]) -> Weights:
    sums: dict[Role, int] = {"dense": 0, "experts": 0, "looked up": 0, "once": 0}
    for role, size in sizes:
        sums[role] += size
    return Weights(form, matrix, sum(sums.values()), sums["dense"], sums["experts"])


def parameters(config: TransformerConfig) -> Iterator[tuple[Role, tuple[int, ...], str]]:
    """Role, shape and name of every parameter."""
    with torch.device("meta"):
        module = Transformer(config)
    tied = config.head == "lm" and config.tie_embeddings
    for name, parameter in module.named_parameters():
        yield _role(name, parameter.dim(), tied), tuple(parameter.shape), name


def _role(name: str, dims: int, tied: bool) -> Role:
    first = name.partition(".")[0]
    if first == "encoder" or ".cross.kv." in name:
        return "once"
    if first in _TABLES or (first == "embed" and not tied):
        return "looked up"
    return "experts" if dims == 3 else "dense"


def _gguf_role(name: str, untied: bool) -> Role:
    first = name.partition(".")[0]
    if first == "enc" or ".cross_attn_k." in name or ".cross_attn_v." in name:
        return "once"
    if first in _GGUF_TABLES or (first == "token_embd" and untied):
        return "looked up"
    return "experts" if "_exps." in name else "dense"
