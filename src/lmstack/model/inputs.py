"""What a batch may be, and where its tokens stand.

Legend: B batch, T tokens of a padded row, N tokens of a varlen batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lmstack.core import ContextLengthError, InputError, UnsupportedError, shown
from lmstack.model.config import TransformerConfig

__all__ = [
    "check_batch",
    "check_lengths",
    "check_tokens",
    "padded_positions",
    "places_of",
    "varlen_positions",
]


def padded_positions(config: TransformerConfig, ids: Tensor, mask: Tensor | None = None) -> Tensor:
    """Positions of a padded batch (B, T), counted from the first real token of each row: (T,)
    where all rows count alike."""
    if config.position_pad is not None:
        real = ids != config.position_pad
        if mask is not None:
            real &= mask.bool()
        counts = real.cumsum(-1)
        return torch.where(real, counts - 1, -1)
    places = torch.arange(ids.shape[1], device=ids.device)
    if mask is None or not mask.numel() or bool(mask[:, 0].all()):
        return places
    before = (mask.cumsum(-1) == 0).sum(-1, keepdim=True)
    return (places - before).clamp(min=0)


def varlen_positions(
    config: TransformerConfig, ids: Tensor, lengths: Sequence[int], continues: Sequence[int] = ()
) -> Tensor:
    """Positions (N,) of a varlen batch; ``continues`` as in `check_lengths`."""
    pad = config.position_pad
    if pad is not None and bool((ids == pad).any()):
        rows = ids.split_with_sizes(list(lengths))
        return torch.cat([padded_positions(config, row[None])[0] for row in rows])
    places = list(zip(places_of(lengths, continues), lengths, strict=True))
    counts = torch.arange(max(map(sum, places)), device=ids.device)
    return torch.cat([counts[start : start + n] for start, n in places])


def places_of(lengths: Sequence[int], continues: Sequence[int]) -> list[int]:
    """Where each sequence begins: 0, or the length of that which it goes on from."""
    return [0] * (len(lengths) - len(continues)) + [lengths[before] for before in continues]


def check_lengths(
    config: TransformerConfig, ids: Tensor, lengths: Sequence[int], continues: Sequence[int] = ()
) -> None:
    """`InputError` unless ``lengths`` cut ``ids`` (N,), and each of ``continues`` is one of the
    sequences before the last ``len(continues)``, which go on where it ends."""
    whole = len(lengths) - len(continues)
    if not all(0 <= before < whole for before in continues):
        raise InputError(
            f"continues names {shown(continues)}, and {max(whole, 0)} sequences come before",
            param="continues",
        )
    if continues and (not config.causal or config.position_pad is not None):
        raise UnsupportedError(
            "sequences that go on need a causal model whose positions are counted",
            hint="give each as a whole",
        )
    if config.encoder is not None:
        raise UnsupportedError(
            "an encoder-decoder reads no varlen batch", hint="give it a padded one"
        )
    if ids.dim() != 1 or sum(lengths) != len(ids):
        raise InputError(
            f"lengths add up to {sum(lengths)}, input_ids are of shape {tuple(ids.shape)}",
            param="lengths",
        )


def check_batch(
    config: TransformerConfig, ids: Tensor, mask: Tensor | None, types: Tensor | None
) -> None:
    """`InputError` unless ``ids`` are a padded batch (B, T) that a model with ``config`` can
    read; `ContextLengthError` where it is too long."""
    if ids.dim() != 2 or ids.is_floating_point():
        raise InputError(
            f"input_ids are {ids.dtype} of shape {tuple(ids.shape)}, not whole numbers (B, T)",
            param="input_ids",
        )
    for name, other in (("attention_mask", mask), ("token_type_ids", types)):
        if other is not None and other.shape != ids.shape:
            raise InputError(
                f"{name} has shape {tuple(other.shape)}, input_ids {tuple(ids.shape)}",
                param=name,
            )
    check_tokens(config, ids, types, ids.shape[1])


def check_tokens(
    config: TransformerConfig, ids: Tensor, types: Tensor | None, longest: int
) -> None:
    """`InputError` unless all ``ids`` and ``types`` are in the tables of ``config``;
    `ContextLengthError` where its table of positions is shorter than the ``longest`` sequence."""
    _check_ids("input_ids", ids, config.vocab_size)
    if types is not None and config.token_types:
        _check_ids("token_type_ids", types, config.token_types)
    if config.positions == "learned" and longest > config.max_positions:
        raise ContextLengthError(
            f"{longest} tokens, but the model has {config.max_positions} positions",
            hint="cut or split the text",
            param="input_ids",
        )


def _check_ids(name: str, ids: Tensor, count: int) -> None:
    if not ids.numel():
        return
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= count:
        raise InputError(
            f"{name} run from {low} to {high}, outside [0, {count})",
            hint="use the tokenizer that the model was trained with",
            param=name,
        )
