"""Who attends to whom: the seam between a block and the keys and values that it attends to.

A block hands its queries, keys and values to an `Attend`. Here are the two for whole sequences:
`DenseAttention` for a padded batch, `VarlenAttention` for a varlen one: sequences end to end. An
engine brings its own that keeps keys and values between steps.

Legend: B batch, T tokens, S tokens of the encoder, N tokens of a varlen batch, Hq query heads,
Hkv key and value heads, hd channels of a head.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lmstack.core import InputError
from lmstack.model.biases import ScoreBias
from lmstack.model.config import LayerSpec, TransformerConfig
from lmstack.model.dot_product import scaled_dot_product_attention
from lmstack.model.ops import Ops, attention_options

__all__ = ["Attend", "CrossStates", "DenseAttention", "VarlenAttention"]

_WASTE = 1.5  # the longest of a batch of sequences that go on is at most so many times the shortest
# Keys and values of the encoder's output for each layer of the decoder, (..., Hkv, hd) each.
CrossStates = Sequence[tuple[Tensor, Tensor]]


class Attend(Protocol):
    def __call__(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, bias: ScoreBias | None = None
    ) -> Tensor:
        """q (..., Hq, hd), k and v (..., Hkv, hd), rotated already, to (..., Hq, hd).

        Called once for each layer, in order. What differs by layer (scale, causal, window) is in
        ``config.layer(layer)``; ``bias`` is added to the scores.
        """
        ...

    def cross(self, layer: int, q: Tensor) -> Tensor:
        """q (..., Hq, hd) over the encoder's `CrossStates`, to (..., Hq, hd)."""
        ...


class DenseAttention:
    """Attention within each row of a batch: q, k, v are (B, T, H, hd).

    ``mask``: (B, T), True where a token is real; nothing attends to padding, on either side.
    None: all tokens are real. ``cross``: of the encoder, (B, S, Hkv, hd), with the mask of its
    tokens (B, S). ``keep_weights``: collect (B, Hq, T, S) of each layer in ``weights`` and
    ``cross_weights``, at the cost of memory.
    """

    def __init__(
        self,
        config: TransformerConfig,
        ops: Ops,
        mask: Tensor | None = None,
        cross: CrossStates = (),
        cross_mask: Tensor | None = None,
        keep_weights: bool = False,
    ) -> None:
        self._layers = [config.layer(i) for i in range(config.num_layers)]
        self._ops = ops
        self._keys = _unless_full(mask)
        # Keys padded on the right lie after every real query of a causal model, unseen anyway.
        self._after = self._keys is not None and _ends_in_padding(self._keys)
        self._cross, self._cross_keys = cross, _unless_full(cross_mask)
        self.weights: list[Tensor] | None = [] if keep_weights else None
        self.cross_weights: list[Tensor] | None = [] if keep_weights else None

    def __call__(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, bias: ScoreBias | None = None
    ) -> Tensor:
        spec = self._layers[layer]
        mask = None if spec.causal and self._after and self.weights is None else self._keys
        return self._attend(spec, q, k, v, mask, bias, self.weights)

    def cross(self, layer: int, q: Tensor) -> Tensor:
        if not self._cross:
            raise InputError("cross-attention without the states of an encoder")
        k, v = self._cross[layer]
        spec = self._layers[layer].across
        return self._attend(spec, q, k, v, self._cross_keys, None, self.cross_weights)

    def _attend(
        self,
        spec: LayerSpec,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        bias: ScoreBias | None,
        kept: list[Tensor] | None,
    ) -> Tensor:
        if kept is None:
            return self._ops.attention(q, k, v, spec, mask, bias)
        turned = (x.transpose(-3, -2) for x in (q, k, v))
        options = attention_options(spec, mask, bias)
        out, weights = scaled_dot_product_attention(*turned, return_weights=True, **options)
        kept.append(weights)
        return out.transpose(-3, -2)


@dataclass(frozen=True)
class _Continued:
    """Neighbours that go on after as many tokens, as a batch: places of ``queries`` (B, T) and of
    ``keys`` (B, S) among the tokens, those of the beginning before their own. Shorter ones repeat
    their last token, which no query before it sees; ``real``: places of the others among B * T."""

    queries: Tensor
    keys: Tensor
    real: Tensor | None


def _continued(lengths: Sequence[int], continues: Sequence[int]) -> list[_Continued]:
    starts = [0, *itertools.accumulate(lengths)]
    first = len(lengths) - len(continues)
    found: list[_Continued] = []
    alike: list[tuple[int, int]] = []

    def ended() -> None:
        if alike:
            T = max(lengths[n] for _, n in alike)
            own = [[starts[n] + min(t, lengths[n] - 1) for t in range(T)] for _, n in alike]
            keys = [
                [*range(starts[before], starts[before + 1]), *rows]
                for (before, _), rows in zip(alike, own, strict=True)
            ]
            real = [B * T + t for B, (_, n) in enumerate(alike) for t in range(lengths[n])]
            places = None if len(real) == len(alike) * T else torch.tensor(real)
            found.append(_Continued(torch.tensor(own), torch.tensor(keys), places))
            alike.clear()

    for n, before in enumerate(continues, first):
        if not lengths[n]:
            continue
        sizes = [lengths[n], *(lengths[m] for _, m in alike)]
        far = max(sizes) > _WASTE * min(sizes)
        if far or (alike and lengths[alike[0][0]] != lengths[before]):
            ended()
        alike.append((before, n))
    ended()
    return found


def _parts(x: Tensor, places: Sequence[Tensor]) -> list[Tensor]:
    """`_rows` for each of ``places``, taken at once: backwards each of them by itself would make
    and add a gradient of all of x."""
    taken = _rows(x, torch.cat([each.flatten() for each in places]))
    parts = taken.split_with_sizes([each.numel() for each in places])
    return [part.view(*each.shape, *x.shape[1:]) for part, each in zip(parts, places, strict=True)]


def _rows(x: Tensor, places: Tensor) -> Tensor:
    """(n, H, hd) to (..., H, hd), as ``places`` (...) say."""
    taken = x.index_select(0, places.flatten().to(x.device))
    return taken.view(*places.shape, *x.shape[1:])


def _unless_full(mask: Tensor | None) -> Tensor | None:
    """(B, S) to (B, 1, 1, S); None where nothing is masked."""
    return None if mask is None or bool(mask.all()) else mask.bool()[:, None, None, :]


def _ends_in_padding(keys: Tensor) -> bool:
    """Whether each row is real tokens and then padding, with at least one real token."""
    real = keys[:, 0, 0]
    return bool(real[:, 0].all()) and not bool((~real[:, :-1] & real[:, 1:]).any())


class VarlenAttention:
    """Attention within each of many sequences that lie end to end: q, k, v are (N, H, hd).

    ``lengths``: tokens of each, in order, with sum N. Give them sorted: neighbours of equal length
    are computed as one batch. ``continues``: each of the last sequences goes on where that one of
    the others ends, and attends to it, too, so what several texts begin with is read once.
    """

    def __init__(
        self,
        config: TransformerConfig,
        ops: Ops,
        lengths: Sequence[int],
        continues: Sequence[int] = (),
    ) -> None:
        self._layers = [config.layer(i) for i in range(config.num_layers)]
        first = len(lengths) - len(continues)
        self._ops, self._lengths = ops, [T for T in lengths[:first] if T]
        self._end = sum(self._lengths)
        self._continued = _continued(lengths, continues)
        before = torch.arange(self._end)
        self._queries = [before, *(each.queries for each in self._continued)]
        self._keys = [before, *(each.keys for each in self._continued)]

    def __call__(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, bias: ScoreBias | None = None
    ) -> Tensor:
        spec = self._layers[layer]
        if not self._continued:
            return self._ops.varlen_attention(q, k, v, self._lengths, spec, bias)
        (qs, *queries), (ks, *keys), (vs, *values) = (
            _parts(q, self._queries),
            _parts(k, self._keys),
            _parts(v, self._keys),
        )
        parts = []
        if self._lengths:
            parts.append(self._ops.varlen_attention(qs, ks, vs, self._lengths, spec, bias))
        for each, qs, ks, vs in zip(self._continued, queries, keys, values, strict=True):
            out = self._ops.attention(qs, ks, vs, spec, None, bias).flatten(0, 1)
            parts.append(out if each.real is None else _rows(out, each.real))
        return torch.cat(parts)

    def cross(self, layer: int, q: Tensor) -> Tensor:  # noqa: ARG002 - the protocol's
        raise InputError("a varlen batch has no encoder to attend to")
