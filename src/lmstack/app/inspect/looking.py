"""Into a model while it reads one text: who attends to whom, and what it expects next.

Covers encoders, decoders and encoder-decoders, from the weights and logits of the one forward
pass. Does not cover drawing (``attention_picture``, ``token_picture``). An encoder-decoder reads
the text with its encoder; what its decoder reads is given, or what the model writes by itself.

Legend: L layers, H heads, T tokens that look, S tokens that are looked at, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lmstack.app.inspect.token_view import legible
from lmstack.core import InputError, UnsupportedError, shown

if TYPE_CHECKING:
    from torch import Tensor

    from lmstack.registry import LoadedModel
    from lmstack.text import Tokenizer

__all__ = [
    "MAX_TOKENS",
    "AttentionWeights",
    "Expectation",
    "TokenCandidate",
    "expectations",
    "label",
    "look",
]

MAX_TOKENS = 256  # more cannot be told apart in a picture
WRITTEN_TOKENS = 24  # that an encoder-decoder writes by itself
MASKED_ROWS = 16  # copies of the text in one batch, each with another token masked
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class AttentionWeights:
    """``weights`` (L, H, T, S): how much token t of ``queries`` takes from token s of ``keys``.
    ``part``: ``encoder``, ``decoder`` or ``cross`` (decoder tokens over encoder tokens)."""

    part: str
    weights: Array
    queries: tuple[str, ...]
    keys: tuple[str, ...]
    causal: bool

    def busiest_head(self, layer: int | None = None) -> tuple[int, int]:
        """The layer and head in which tokens look hardest at single ones: not at the same from
        everywhere, where heads rest, and in self-attention not at themselves or their
        neighbours, as many heads do. Of one ``layer`` if it is given."""
        weights = self.weights
        count, keys = weights.shape[2:]
        may_look = np.tri(count, keys, dtype=np.float32) if self.causal else np.ones((count, keys))
        habit = weights.sum(axis=2, keepdims=True) / may_look.sum(axis=0)
        excess = np.where(may_look > 0, weights - habit, 0)
        if self.part != "cross":
            near = np.abs(np.subtract.outer(np.arange(count), np.arange(keys))) <= 1
            excess = np.where(near, 0, excess)
        scores = excess.max(axis=-1).mean(axis=-1)
        if layer is not None:
            return layer, int(scores[layer].argmax())
        best = np.unravel_index(int(scores.argmax()), scores.shape)
        return int(best[0]), int(best[1])


@dataclass(frozen=True)
class TokenCandidate:
    """A token that the model considers; ``rank`` 1 is the likeliest."""

    id: int
    text: str
    probability: float
    rank: int


@dataclass(frozen=True)
class Expectation:
    """What the model expects after ``text`` (of an encoder: in its place). ``entropy`` of the
    whole distribution, in bits. ``actual``: the token that is there; None after the last."""

    position: int
    text: str
    entropy: float
    top: tuple[TokenCandidate, ...]
    actual: TokenCandidate | None

    @property
    def surprise(self) -> float | None:
        """Bits: 0 for a token that was certain."""
        if self.actual is None:
            return None
        return -math.log2(max(self.actual.probability, 1e-45))


@dataclass(frozen=True)
class _Glance:
    """The ids that a model reads: ``ids`` by its encoder or only stack, ``decoder_ids`` where
    there is a decoder besides."""

    ids: list[int]
    decoder_ids: list[int] | None


def look(model: LoadedModel, text: str, target: str | None = None) -> list[AttentionWeights]:
    """Every attention weight while ``model`` reads ``text``."""
    import torch

    glance = _read(model, text, target)
    module, tokenizer = model.module, model.tokenizer
    with torch.inference_mode():
        out = module(
            torch.tensor([glance.ids]),
            decoder_input_ids=_row(glance.decoder_ids),
            output_hidden_states=False,
            output_attentions=True,
        )
    labels = tuple(label(tokenizer, i) for i in glance.ids)
    if glance.decoder_ids is None:
        part = "decoder" if module.config.causal else "encoder"
        return [
            AttentionWeights(part, _array(out.attentions), labels, labels, module.config.causal)
        ]
    written = tuple(label(tokenizer, i) for i in glance.decoder_ids)
    return [
        AttentionWeights("encoder", _array(out.encoder_attentions), labels, labels, False),
        AttentionWeights("decoder", _array(out.attentions), written, written, True),
        AttentionWeights("cross", _array(out.cross_attentions), written, labels, False),
    ]


def expectations(
    model: LoadedModel, text: str, target: str | None = None, *, top: int = 5
) -> list[Expectation]:
    """The distribution of the next token after each token of ``text`` (of an encoder-decoder:
    of what its decoder reads); of a masked language model, of each token when it is masked."""
    if model.module.config.head != "lm":
        raise UnsupportedError(
            f"{model.name} predicts no tokens: it has the head {shown(model.module.config.head)}",
            hint="inspect tokens of a language model; inspect attention works for every model",
        )
    glance = _read(model, text, target)
    if model.module.config.causal:
        return _next_tokens(model, glance, top)
    return _masked_tokens(model, glance, top)


def label(tokenizer: Tokenizer, index: int) -> str:
    """A token as a person reads it: spaces visible, bytes of a part of a character in hex, and
    WordPiece as it spells its words (``token``, ``##s``). A row of the embedding table that is no
    token has only its number."""
    if index >= tokenizer.vocab_size:
        return f"#{index}"
    data, spelled = tokenizer.token_bytes(index), tokenizer.token(index)
    if not data or data in (f" {spelled}".encode(), spelled.removeprefix("##").encode()):
        return legible(spelled)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "".join(f"\\x{value:02x}" for value in data)
    return legible(text).replace(" ", "␣")


def _read(model: LoadedModel, text: str, target: str | None) -> _Glance:
    ids = model.tokenizer.encode(text)
    if not ids:
        raise InputError("the text has no tokens", hint="give some text", param="text")
    if model.module.encoder is None:
        if target is not None:
            raise InputError(
                f"{model.name} has no decoder of its own to read a target",
                hint="leave out --target",
                param="target",
            )
        return _Glance(_short_enough(ids), None)
    start = model.generation.decoder_start_id
    if start is None:
        start = model.tokenizer.pad_id if model.tokenizer.pad_id is not None else 0
    _short_enough(ids)
    if target is None:
        return _Glance(ids, _written(model, ids, start))
    wanted = [start, *model.tokenizer.encode(target)]
    return _Glance(ids, _short_enough(wanted))


def _short_enough(ids: list[int]) -> list[int]:
    if len(ids) > MAX_TOKENS:
        raise InputError(
            f"the text has {len(ids)} tokens, more than a picture can show ({MAX_TOKENS})",
            hint="give a shorter text",
            param="text",
        )
    return ids


def _written(model: LoadedModel, ids: list[int], start: int) -> list[int]:
    """What the decoder writes greedily, and its end."""
    import torch

    forced = model.generation.forced_bos_id
    written = [start] if forced is None else [start, forced]
    with torch.inference_mode():
        for _ in range(WRITTEN_TOKENS):
            out = model.module(
                torch.tensor([ids]),
                decoder_input_ids=_row(written),
                output_hidden_states=False,
            )
            written.append(int(out.logits[0, -1].argmax()))
            if written[-1] in model.generation.eos_ids:
                break
    return written


def _row(ids: Sequence[int] | None) -> Tensor | None:
    import torch

    return None if ids is None else torch.tensor([ids])


def _array(layers: Any) -> Array:
    """(1, H, T, S) of each layer to (L, H, T, S)."""
    stacked: Array = np.stack([layer[0].float().numpy() for layer in layers])
    return stacked


def _next_tokens(model: LoadedModel, glance: _Glance, top: int) -> list[Expectation]:
    import torch

    read = glance.ids if glance.decoder_ids is None else glance.decoder_ids
    with torch.inference_mode():
        out = model.module(
            torch.tensor([glance.ids]),
            decoder_input_ids=_row(glance.decoder_ids),
            output_hidden_states=False,
        )
    following = [*read[1:], None]
    return [
        _expected(model.tokenizer, position, index, row, actual, top)
        for position, (index, row, actual) in enumerate(
            zip(read, out.logits[0], following, strict=True)
        )
    ]


def _masked_tokens(model: LoadedModel, glance: _Glance, top: int) -> list[Expectation]:
    tokenizer = model.tokenizer
    mask = tokenizer.id_of(tokenizer.name_of("mask_token") or "[MASK]")
    if mask is None:
        raise UnsupportedError(
            f"{model.name} has no mask token in its vocabulary",
            hint="name it as mask_token in tokenizer_config.json",
        )
    places = [n for n, index in enumerate(glance.ids) if index not in tokenizer.special_ids]
    return [
        _expected(tokenizer, place, glance.ids[place], row, glance.ids[place], top)
        for place, row in _with_each_masked(model.module, glance.ids, places, mask)
    ]


def _with_each_masked(
    module: Any, ids: list[int], places: list[int], mask: int
) -> Iterator[tuple[int, Tensor]]:
    import torch

    for start in range(0, len(places), MASKED_ROWS):
        chosen = places[start : start + MASKED_ROWS]
        rows = torch.tensor([ids] * len(chosen))
        rows[torch.arange(len(chosen)), chosen] = mask
        with torch.inference_mode():
            logits = module(rows, output_hidden_states=False).logits
        yield from ((place, logits[n, place]) for n, place in enumerate(chosen))


def _expected(
    tokenizer: Tokenizer, position: int, index: int, logits: Tensor, actual: int | None, top: int
) -> Expectation:
    """``logits`` (V,). The rows beyond the vocabulary, which no token has, count like others:
    the model gives them weight too."""
    import torch

    logprobs = logits.double().log_softmax(-1)
    probabilities = logprobs.exp()
    entropy = float(torch.special.entr(probabilities).sum()) / math.log(2)
    best = torch.topk(probabilities, min(top, len(probabilities)))

    def candidate(token: int, rank: int) -> TokenCandidate:
        return TokenCandidate(token, label(tokenizer, token), float(probabilities[token]), rank)

    found = None
    if actual is not None:
        found = candidate(actual, int((probabilities > probabilities[actual]).sum()) + 1)
    return Expectation(
        position=position,
        text=label(tokenizer, index),
        entropy=entropy,
        top=tuple(candidate(int(token), n + 1) for n, token in enumerate(best.indices)),
        actual=found,
    )
