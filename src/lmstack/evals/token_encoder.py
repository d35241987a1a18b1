"""An encoder of the store as what BERTScore compares texts by.

Not covered: the score (`lmstack.evals.metrics.bertscore`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lmstack.core import InputError, UnsupportedError
from lmstack.evals.metrics.bertscore import TokenVectors
from lmstack.serve.text_embedder import varlen_batches

if TYPE_CHECKING:
    from lmstack.registry.loading import LoadedModel

__all__ = ["LayerEncoder", "layer_encoder"]

USUAL = "all-minilm-l6-v2"


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
        rows = self._loaded.tokenizer.encode_ids(
            texts, max_length=self._module.config.max_positions
        )
        nothing = np.zeros((0, self._module.config.hidden_size), np.float32)
        vectors = [nothing] * len(rows)  # a tokenizer may add nothing to an empty text
        for places in varlen_batches([len(row) for row in rows]):
            for place, found in zip(places, self._states([rows[n] for n in places]), strict=True):
                vectors[place] = found
        return [
            TokenVectors(
                tuple(map(self._loaded.tokenizer.token, row)),
                found,
                tuple(index in self._special for index in row),
            )
            for row, found in zip(rows, vectors, strict=True)
        ]

    def _states(self, rows: Sequence[Sequence[int]]) -> list[npt.NDArray[np.float32]]:
        """(T, D) of each of ``rows``, none of which is empty."""
        import torch

        lengths = [len(row) for row in rows]
        flat = torch.tensor([index for row in rows for index in row])
        with torch.inference_mode():
            output = self._module(flat, lengths=lengths)
        states = output.hidden_states[self.layer].float()
        return [part.numpy() for part in torch.split(states, lengths)]


def layer_encoder(model: str | None, layer: int | None) -> LayerEncoder:
    """Of the model of that name, in float32, so that scores are those of any machine."""
    from lmstack.registry import load

    return LayerEncoder(load(model or USUAL, weights="float32"), layer)
