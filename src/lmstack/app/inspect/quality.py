"""What a form of a model costs in quality, against the model in float32 on a fixed text.

Of a language model: perplexity, the Kullback-Leibler divergence of its next-token distributions
from the original's, and how often the most likely token is the same. Of an encoder: the cosines
between vectors of the same passages. The form is computed as it is served, on the engine's own
path; the original on the reference ops. Not covered: what people use a model for; a task's own
score can fall further than these.

The text, `text/quality.txt`, is the State of the Union address of 1941, a work of the United
States government and so in the public domain.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from lmstack.core import EngineError, UnsupportedError
from lmstack.model.quant.recipes import RECIPES

if TYPE_CHECKING:
    from torch import Tensor

    from lmstack.registry import LoadedModel

__all__ = [
    "LIMITS",
    "LOWEST_COSINE",
    "Closeness",
    "WeightsAgreement",
    "compare",
    "passages",
    "text",
    "unit_of",
]

LIMITS: dict[str, float] = {form: recipe.limit for form, recipe in RECIPES.items()}
# Below this an index made with the original no longer finds the same passages.
LOWEST_COSINE = 0.99

_WRITERS = ("generate", "seq2seq")
WINDOW = 512  # tokens that see each other
_SLICE = 128  # rows whose logits are compared at a time, fewer of a large vocabulary:
_SCORES = 1 << 24  # logits of a model that are held at once, 64 MB of them
_PASSAGE = 400  # characters
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class WeightsAgreement:
    """Of a language model. ``kl_divergence``: nats a token, of the form from the original.
    ``greedy_agreement``: share of tokens after which both would go on alike."""

    tokens: int
    original_perplexity: float
    perplexity: float
    kl_divergence: float
    greedy_agreement: float

    @property
    def change(self) -> float:
        """Of the perplexity: 0.01 is one per cent more."""
        return self.perplexity / self.original_perplexity - 1

    def within(self, form: str) -> bool:
        return self.change <= LIMITS[form]

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"perplexity_change": self.change}


@dataclass(frozen=True)
class Closeness:
    """Of an encoder: cosines between its vectors of passages and the original's."""

    passages: int
    mean_cosine: float
    lowest_cosine: float

    def within(self, form: str) -> bool:  # noqa: ARG002 - one limit for all
        return self.lowest_cosine >= LOWEST_COSINE

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def text() -> str:
    """The text that is measured on."""
    return (resources.files("lmstack.app.inspect") / "text" / "quality.txt").read_text(
        encoding="utf-8"
    )


def passages() -> list[str]:
    """The text in parts of whole sentences, of some hundred characters each."""
    parts, part = [], ""
    for sentence in text().replace(". ", ".\n").split("\n"):
        if part and len(part) + len(sentence) > _PASSAGE:
            parts.append(part)
            part = ""
        part = f"{part} {sentence}".strip()
    return [*parts, part]


def unit_of(kind: str) -> str:
    """What `compare` counts for a model of ``kind``."""
    return "tokens" if kind in _WRITERS else "passages"


def compare(
    original: LoadedModel, form: LoadedModel, progress: Progress
) -> WeightsAgreement | Closeness:
    """``form`` against ``original``, which has the same tokenizer."""
    if not original.has_tokenizer:
        raise UnsupportedError(
            f"{original.name} has no tokenizer, so no text can be given to it",
            hint="copy the model's tokenizer.json beside its weights",
        )
    if original.kind in _WRITERS:
        agreement = _agreement(original, form, progress)
        _check(agreement.original_perplexity, "perplexity", f"{original.name} itself")
        _check(agreement.perplexity, "perplexity", f"{original.name} as {form.form}")
        return agreement
    closeness = _closeness(original, form, progress)
    _check(closeness.mean_cosine, "mean cosine", f"{original.name} as {form.form}")
    return closeness


def _check(value: float, what: str, whose: str) -> None:
    """No form is kept of which nothing can be said, forced or not."""
    if not math.isfinite(value):
        raise EngineError(
            f"the {what} of {whose} is {value} on the text: the weights are damaged, or too large"
            " for this form",
            hint="get the original again, or try another form",
        )


def _agreement(original: LoadedModel, form: LoadedModel, progress: Progress) -> WeightsAgreement:
    import torch

    sides, windows = (_Side(original), _Side(form)), list(_windows(original))
    total = sum(len(window) - 1 for window in windows)
    if not total:
        raise UnsupportedError(
            f"{original.name} makes fewer than 2 tokens of the text, so none can be predicted",
            hint="check the model's tokenizer.json",
        )
    size = max(1, min(_SLICE, _SCORES // original.module.config.vocab_size))
    sums, done = torch.zeros(4, dtype=torch.float64), 0
    with torch.inference_mode():
        for window in windows:
            parts = [*(side.hidden(window)[:-1] for side in sides), torch.tensor(window[1:])]
            for *rows, targets in zip(*(torch.split(x, size) for x in parts), strict=True):
                one, other = (side.logits(x) for side, x in zip(sides, rows, strict=True))
                sums += _sums(one, other, targets)
                done += len(targets)
                progress(done, total)
    nll, form_nll, divergence, same = (sums / total).tolist()
    return WeightsAgreement(
        total, _perplexity(nll), _perplexity(form_nll), max(divergence, 0.0), same
    )


def _perplexity(nll: float) -> float:
    """Infinite where it is past the largest float."""
    return math.exp(nll) if not nll > math.log(sys.float_info.max) else math.inf


def _sums(one: Tensor, other: Tensor, targets: Tensor) -> Tensor:
    """Over rows: both negative log-likelihoods, the divergence, and equal first choices."""
    import torch

    first, second = (logits.float().log_softmax(-1) for logits in (one, other))
    nlls = [-x.gather(-1, targets[:, None]).double().sum() for x in (first, second)]
    divergence = (first.exp() * (first - second)).sum(-1).double().sum()
    same = (first.argmax(-1) == second.argmax(-1)).double().sum()
    return torch.stack([*nlls, divergence, same])


def _windows(model: LoadedModel) -> Iterator[list[int]]:
    """The text's tokens, in windows that the model can see at once. Each begins with the token
    that every prompt begins with: models that are trained with one write badly without."""
    ids = model.tokenizer.encode(text())
    start, rest = (ids[:1], ids[1:]) if model.tokenizer.adds_bos else ([], ids)
    encoder = model.module.config.encoder
    most = [model.module.config.max_positions] + ([encoder.max_positions] if encoder else [])
    size = min(WINDOW, *most) - len(start)
    for place in range(0, len(rest), size):
        window = [*start, *rest[place : place + size]]
        if len(window) > 1:
            yield window


class _Side:
    """A model on the path that an engine takes. An encoder-decoder reads the text and then
    repeats it."""

    def __init__(self, model: LoadedModel) -> None:
        from lmstack.engine import EngineConfig
        from lmstack.engine.executors import open_executor
        from lmstack.engine.scratch import Scratch

        size = -(-WINDOW // EngineConfig().block_size)
        self._table, self._cross = range(size), range(size, 2 * size)
        self._executor, _ = open_executor(model.module, EngineConfig(num_blocks=2 * size))
        self._scratch = Scratch()
        self._encodes = model.module.encoder is not None
        self._start = model.generation.decoder_start_id or 0

    def hidden(self, ids: Sequence[int]) -> Tensor:
        """(N, D), after each of ``ids``."""
        from lmstack.engine.executor import CrossSpan, SequenceSpan

        read = None
        if self._encodes:
            self._executor.encode([(ids, self._cross)])
            read = CrossSpan(self._cross, len(ids))
            ids = [self._start, *ids[1:]]
        span = SequenceSpan(self._table, 0, len(ids), read)
        return self._executor.hidden(ids, range(len(ids)), [span], None)

    def logits(self, hidden: Tensor) -> Tensor:
        """(S, D) to (S, V), in this side's scratch: valid until the next call."""
        return self._executor.logits(hidden, self._scratch)


def _closeness(original: LoadedModel, form: LoadedModel, progress: Progress) -> Closeness:
    import torch

    texts = passages()
    vectors: list[list[Tensor]] = [[], []]
    for done, passage in enumerate(texts, 1):
        for side, model in enumerate((original, form)):
            vectors[side].append(_vector(model, passage))
        progress(done, len(texts))
    one, other = (torch.stack(side).double() for side in vectors)
    cosines = torch.nn.functional.cosine_similarity(one, other)
    return Closeness(len(texts), float(cosines.mean()), float(cosines.min()))


def _vector(model: LoadedModel, passage: str) -> Tensor:
    """As an embedder gives it; of other encoders the mean of the last hidden states."""
    import torch

    if model.pooling is not None:
        from lmstack.serve import LocalEmbedder

        return torch.from_numpy(LocalEmbedder(model).embed([passage])[0])
    most = model.module.config.max_positions
    ids = model.tokenizer.encode(passage)[:most]
    with torch.inference_mode():
        return model.module.varlen_hidden(torch.tensor(ids), [len(ids)]).float().mean(0)
