"""Fill-mask: which tokens fit where a text has a mask.

Equal to transformers' ``fill-mask`` pipeline. With several masks each is filled by itself: the
scores are not those of a joint filling. Does not cover targets of several tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers.models import BPE
from torch import Tensor

from lmstack.core import Config, InputError, UnsupportedError, allowed, check_text, shown
from lmstack.registry import LoadedModel
from lmstack.serve.tasks.base import EncoderTask, text_of
from lmstack.serve.tasks.results import Fill, Filled
from lmstack.text import Tokenizer, Window

__all__ = ["FillMask", "FillOptions", "decoded"]


_TIGHT = {f" {mark}": mark for mark in (".", "?", "!", ",")} | {" ' ": "'"}
_TIGHT |= {f" {end}": end for end in ("n't", "'m", "'s", "'ve", "'re")}


@dataclass(frozen=True)
class FillOptions(Config):
    """``top_k``: tokens for each mask. ``targets``: choose among these words only; each is one
    token (for many vocabularies with a space before it)."""

    top_k: int = allowed(5, int, 1, 1 << 31)
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        targets: Any = self.targets
        object.__setattr__(self, "targets", (targets,) if isinstance(targets, str) else (*targets,))
        for target in self.targets:
            check_text("a target", target)


class FillMask(EncoderTask[str, FillOptions, Filled]):
    """Inputs: texts that hold the model's mask token (`mask`)."""

    name = "fill-mask"
    options_type = FillOptions

    def __init__(self, loaded: LoadedModel, **options: Any) -> None:
        super().__init__(loaded, **options)
        self.mask = loaded.tokenizer.name_of("mask_token")
        mask_id = loaded.tokenizer.id_of(self.mask) if self.mask else None
        if mask_id is None:
            message = f"the tokenizer of {loaded.name} has no mask"
            hint = "use a masked language model, for example albert-smiles"
            raise UnsupportedError(message, hint=hint, param="model")
        self._mask_id: int = mask_id

    def read(self, value: Any, name: str, _: FillOptions, /) -> str:
        text = text_of(value, name, "text")
        if self.mask not in text:
            raise InputError(
                f"{name} holds no mask: {shown(text)}",
                hint=f"write {self.mask} where a word is missing",
                param="input",
            )
        return text

    def distrust(self) -> None:
        """Not here: the mask that a text is about is a control token."""

    def run(self, items: Sequence[str], options: FillOptions) -> list[Filled]:
        targets = [self._target(target) for target in options.targets]
        chosen = torch.tensor(sorted(set(targets))) if targets else None
        windows = self.encoder.encode_whole(items)

        def best(output: Any, row: int, window: Window) -> tuple[Tensor, Tensor]:
            scores = output.logits[row, self._places(window)].float().softmax(dim=-1)
            if chosen is not None:
                scores = scores[:, chosen]
            values, found = scores.topk(min(options.top_k, scores.shape[-1]))
            return values, found if chosen is None else chosen[found]

        found = self.encoder.run(windows, best)
        return [
            self._filled(window, values, ids)
            for window, (values, ids) in zip(windows, found, strict=True)
        ]

    def _places(self, window: Window) -> list[int]:
        return [i for i, token in enumerate(window.ids) if token == self._mask_id]

    def _filled(self, window: Window, values: Tensor, ids: Tensor) -> Filled:
        places = self._places(window)
        masks = []
        for place, scores, tokens in zip(places, values.tolist(), ids.tolist(), strict=True):
            masks.append(
                tuple(
                    self._fill(window, place, score, token, keep_special=len(places) > 1)
                    for score, token in zip(scores, tokens, strict=True)
                )
            )
        return Filled(tuple(masks))

    def _fill(
        self, window: Window, place: int, score: float, token: int, *, keep_special: bool
    ) -> Fill:
        """Among several masks the others stay visible, and with them all special tokens."""
        tokenizer = self.loaded.tokenizer
        ids = [*window.ids[:place], token, *window.ids[place + 1 :]]
        ids = [index for index in ids if index != tokenizer.pad_id]
        return Fill(
            token=decoded(tokenizer, [token]),
            score=score,
            id=token,
            sequence=decoded(tokenizer, ids, skip_special_tokens=not keep_special),
        )

    def _target(self, target: str) -> int:
        """As the vocabulary spells it, or a text that becomes one token."""
        tokenizer = self.loaded.tokenizer
        index = tokenizer.id_of(target)
        if index is not None:
            return index
        ids = tokenizer.encode(target, add_special_tokens=False)
        if len(ids) != 1:
            pieces = [tokenizer.token(i) for i in ids]
            raise InputError(
                f"the target {shown(target)} is {len(ids)} tokens: {shown(pieces)}",
                hint=f"one token fits a mask; perhaps {shown(' ' + target)}",
                param="targets",
            )
        return ids[0]


def decoded(tokenizer: Tokenizer, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
    """The text of ``ids`` as transformers writes it, which may drop spaces before punctuation."""
    backend = tokenizer.backend
    text = str(backend.decode(list(ids), skip_special_tokens=skip_special_tokens))
    if tokenizer.config.get("clean_up_tokenization_spaces") and type(backend.model) is not BPE:
        for spaced, tight in _TIGHT.items():
            text = text.replace(spaced, tight)
    return text
