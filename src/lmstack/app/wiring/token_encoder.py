"""An encoder of the store as what BERTScore compares texts by.

Not covered: the score (`lmstack.evals.metrics.bertscore`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lmstack.core import InputError, UnsupportedError
from lmstack.evals.metrics.bertscore import TokenVectors

if TYPE_CHECKING:
    from lmstack.registry.loading import LoadedModel

__all__ = ["LayerEncoder", "layer_encoder"]

USUAL = "all-minilm-l6-v2"
_AT_ONCE = 32


class LayerEncoder:
    """``layer``: whose hidden states are the vectors, from 1; 0: the embeddings. None: the last.
    A text beyond the model's window is cut."""

    def __init__(self, loaded: LoadedModel, layer: int | None = None) -> None:
        config = loaded.module.config
        if loaded.module.encoder is not None:
            raise UnsupportedError(
                f"{loaded.name} is an encoder-decoder, and texts are compared by an encoder",
                hint=f"model: {USUAL}",
                param="model",
            )
        if layer is not None and not 0 <= layer <= config.num_layers:
            raise InputError(
                f"{loaded.name} has no layer {layer}",
                hint=f"layers are 1 to {config.num_layers}",
                param="layer",
            )
        self._loaded, self._module = loaded, loaded.module.eval()
        self.layer = config.num_layers if layer is None else layer
        self.digest = loaded.digest or f"name:{loaded.name}"
        self._special = frozenset(loaded.tokenizer.encode_ids([""])[0])

    def token_vectors(self, texts: Sequence[str]) -> list[TokenVectors]:
        found: list[TokenVectors] = []
        for start in range(0, len(texts), _AT_ONCE):
            found += self._encoded(texts[start : start + _AT_ONCE])
        return found

    def _encoded(self, texts: Sequence[str]) -> list[TokenVectors]:
        import torch

        tokenizer = self._loaded.tokenizer
        rows = tokenizer.encode_ids(texts, max_length=self._module.config.max_positions)
        lengths = [len(row) for row in rows]
        flat = torch.tensor([index for row in rows for index in row])
        states = torch.empty(0, self._module.config.hidden_size)
        if len(flat):  # a tokenizer may add nothing to an empty text
            with torch.inference_mode():
                output = self._module(flat, lengths=[length for length in lengths if length])
            states = output.hidden_states[self.layer].float()
        parts = torch.split(states, lengths)
        return [
            TokenVectors(
                tuple(map(tokenizer.token, row)),
                part.numpy(),
                tuple(index in self._special for index in row),
            )
            for row, part in zip(rows, parts, strict=True)
        ]


def layer_encoder(model: str | None, layer: int | None) -> LayerEncoder:
    """Of the model of that name, in float32, so that scores are those of any machine."""
    from lmstack.registry import load

    return LayerEncoder(load(model or USUAL, weights="float32"), layer)
