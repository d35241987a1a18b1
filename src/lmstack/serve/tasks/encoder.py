"""Many texts through one module: encoded, bucketed by length, run, read in the order given.

Texts of about equal length share a batch, so that hardly anything is padding; a result does not
depend on what else was in its batch beyond the last bits. Does not cover what the scores mean.

Legend: B texts, T tokens of the longest, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lmstack.core import InputError
from lmstack.engine.cpu.executor import NativeEncoder
from lmstack.engine.executor import Encoder as VarlenEncoder
from lmstack.engine.executors import open_encoder
from lmstack.engine.torch.prepacked import inference_context
from lmstack.registry import LoadedModel
from lmstack.text import Window, encode_windows
from lmstack.text.windows import Cut, count_window_tokens, has_segments, model_limit

__all__ = ["TaskEncoder", "buckets"]

T = TypeVar("T")

# Enough that products run at full speed, few enough that activations stay near the cache.
BATCH_TOKENS = 2048
# Below this many tokens padding costs less than another pass through the layers.
CHEAP_TOKENS = 256
MAX_WASTE = 1 / 8
# Scores over a vocabulary that are held at once: 256 MB in float32.
BATCH_SCORES = 1 << 26


class TaskEncoder:
    """A loaded model as tasks use it. Thread-safe: it holds no state between calls.

    Quantized weights are run natively, without padding, but for windows with tokens that others
    may not attend to.

    ``special``: control tokens spelled in a text count as such, as in transformers. Texts that
    others send (a server's) are read with False: a document cannot end itself with ``[SEP]``.
    """

    def __init__(self, loaded: LoadedModel, *, special: bool = True) -> None:
        self.special = special
        self.loaded = loaded
        self.tokenizer = loaded.tokenizer
        self.module = loaded.module.eval()
        self._context = inference_context(self.module)
        self.limit = max_tokens(loaded)

    def encode(
        self,
        first: Sequence[str],
        second: Sequence[str] | None = None,
        *,
        max_length: int | None = None,
        **how: Any,
    ) -> list[list[Window]]:
        """As `encode_windows`, with the model's own limit unless ``max_length`` is less."""
        how |= {"max_length": min(max_length or self.limit, self.limit), "special": self.special}
        return encode_windows(self.tokenizer, first, second, **how)

    def encode_whole(
        self, first: Sequence[str], second: Sequence[str] | None = None, *, cut: Cut = "error"
    ) -> list[Window]:
        """One window a text: what is too long is cut, or an error."""
        return [window for [window] in self.encode(first, second, cut=cut)]

    def count_tokens(self, first: Sequence[str], second: Sequence[str] | None = None) -> list[int]:
        """Tokens of each text or pair, added ones included, before any cut."""
        return count_window_tokens(self.tokenizer, first, second, special=self.special)

    def shortened(self, texts: Sequence[str], max_tokens: int) -> list[str]:
        """Each text up to the end of its token ``max_tokens``."""
        encodings = self.tokenizer.encode_batch(texts, add_special_tokens=False)
        return [
            text[: encoding.offsets[max_tokens - 1][1]] if len(encoding.ids) > max_tokens else text
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    @torch.inference_mode()
    def run(
        self,
        windows: Sequence[Window],
        read: Callable[[Any, int, Window], T],
        visible: Sequence[int] | None = None,
    ) -> list[T]:
        """``read(output, row, window)`` for each window, in their order. ``output`` is the
        module's for a batch (B, T, ...), of which ``row`` is this window and then padding.
        ``visible``: tokens of each window that others may attend to, None for all."""
        lengths = [len(window) for window in windows]
        if 0 in lengths:
            raise InputError(f"text {lengths.index(0)} has no tokens", hint="leave empty texts out")
        results: dict[int, T] = {}
        for rows in buckets(lengths, self._batch_tokens()):
            seen = [lengths[row] if visible is None else visible[row] for row in rows]
            output = self._forward([windows[row] for row in rows], seen)
            for place, row in enumerate(rows):
                results[row] = read(output, place, windows[row])
        return [results[row] for row in range(len(windows))]

    def logits(self, windows: Sequence[Window]) -> list[Tensor]:
        """Scores in float32: (labels,) of a head over texts, (T, labels) of one over tokens."""

        def read(output: Any, row: int, window: Window) -> Tensor:
            scores: Tensor = output.logits[row].float()
            return scores if scores.dim() == 1 else scores[: len(window)]

        return self.run(windows, read)

    def hidden(
        self, windows: Sequence[Window], visible: Sequence[int] | None = None
    ) -> list[Tensor]:
        """The last hidden states in float32, (T, D)."""

        def read(output: Any, row: int, window: Window) -> Tensor:
            states: Tensor = output.last_hidden_state[row, : len(window)].float()
            return states

        return self.run(windows, read, visible)

    def _batch_tokens(self) -> int:
        config = self.module.config
        if config.head != "lm":
            return BATCH_TOKENS
        return max(1, min(BATCH_TOKENS, BATCH_SCORES // config.vocab_size))

    def _forward(self, windows: Sequence[Window], visible: Sequence[int]) -> Any:
        if self.native is not None and visible == [len(window) for window in windows]:
            return self._forward_varlen(self.native, windows)
        width = max(len(window) for window in windows)
        pad = self.tokenizer.pad_id or 0
        ids = torch.full((len(windows), width), pad)
        mask = torch.zeros_like(ids)
        types = torch.zeros_like(ids)
        for row, window in enumerate(windows):
            ids[row, : len(window)] = torch.tensor(window.ids)
            types[row, : len(window)] = torch.tensor(window.types)
            mask[row, : visible[row]] = 1
        return self.module(
            input_ids=ids,
            attention_mask=mask,
            token_type_ids=types if self._has_types() else None,
            context=self._context,
        )

    def _forward_varlen(self, encoder: VarlenEncoder, windows: Sequence[Window]) -> Any:
        lengths = [len(window) for window in windows]
        ids = [token for window in windows for token in window.ids]
        types = [kind for window in windows for kind in window.types]
        hidden = encoder.varlen_hidden(ids, lengths, types if self._has_types() else None)
        last = pad_sequence(list(hidden.split_with_sizes(lengths)), batch_first=True)
        mask = (torch.arange(last.shape[1]) < torch.tensor(lengths)[:, None]).long()
        logits, pooled = self.module.headed(last, mask, self._context)
        return SimpleNamespace(last_hidden_state=last, logits=logits, pooled=pooled)

    @cached_property
    def native(self) -> NativeEncoder | None:
        """What runs quantized layers; None where the module does so itself."""
        found = open_encoder(self.module)
        return found if isinstance(found, NativeEncoder) else None

    def _has_types(self) -> bool:
        return self.module.config.token_types > 1 and has_segments(self.tokenizer)


def max_tokens(loaded: LoadedModel) -> int:
    """Tokens of one text that the model can see, added ones included."""
    config = loaded.module.config
    return model_limit(loaded.tokenizer, (config.encoder or config).max_positions)


def buckets(lengths: Sequence[int], max_tokens: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Rows that run together, shortest first. A bucket, padded to its longest row, holds at
    most ``max_tokens`` (a longer row is alone) and is at most an eighth padding unless small."""
    bucket: list[int] = []
    filled = 0
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        size = (len(bucket) + 1) * lengths[row]
        waste = size - filled - lengths[row]
        if bucket and (size > max_tokens or (size > CHEAP_TOKENS and waste > size * MAX_WASTE)):
            yield bucket
            bucket, filled = [], 0
        bucket.append(row)
        filled += lengths[row]
    if bucket:
        yield bucket
