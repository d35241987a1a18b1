"""Answers for online training, drawn by the engine that serves.

The engine has a copy of the policy, in any form, whose weights it replaces between steps. It is
driven by the thread that asks, on a clock that stands still, so what shares a step with what
follows from the requests alone: the same weights, prompts and seeds give the same answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from lmstack.core import SamplingParams
from lmstack.engine import Engine, EngineConfig, EngineRequest, GrammarVocabulary, TokenEvent
from lmstack.model import Transformer, TransformerConfig, build_module
from lmstack.model.forms import DTYPES, Weight, as_form, int8_weights, is_quantized
from lmstack.model.quant.smoothquant import (
    Smoothing,
    calibration_text,
    may_smooth,
    smoothing_of,
)
from lmstack.registry import LoadedModel
from lmstack.serve.tokens import ChoiceText, bad_words, with_defaults
from lmstack.train.rollouts.policy import policy_weights
from lmstack.train.rollouts.protocol import Drawing, RolloutPrompt, RolloutSample

__all__ = ["EngineSampler"]

# Samples wait for each other and nobody else: only memory and the width of a step bound them.
_CONFIG = EngineConfig(
    max_sequences=256,
    max_batch_tokens=2048,
    max_waiting=2**31,
    target_step_s=3600.0,
    speculation="off",
)


class EngineSampler:
    """Draws answers of ``base`` with weights held as ``weights``; see `Sampler`."""

    def __init__(self, base: LoadedModel, weights: str, config: EngineConfig = _CONFIG) -> None:
        self._base, self._form, self._config = base, as_form(weights), config
        # Of the base, also when a run goes on: outliers stay where they are in training.
        self._smoothing = _smoothing(base) if is_quantized(self._form) else None
        tokenizer = base.tokenizer
        self._vocabulary = GrammarVocabulary(
            [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)],
            base.generation.eos_ids,
            tokenizer.special_ids,
        )
        self._engine: Engine | None = None

    def replace(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Draw with other ``weights``, some or all of the policy's, from now on."""
        assert self._engine is not None, "update() gives all of them first"
        self._engine.update_weights(self._held(self._base.module.config, weights))

    def update(self, module: Transformer) -> None:
        if self._engine is not None:
            self.replace(policy_weights(module, trained=True))
            return
        floats = policy_weights(module)
        held = self._held(module.config, floats)
        own = {key: _copied(weight) for key, weight in held.items()}  # the module's change
        self._engine = Engine(
            build_module(module.config, own), self._vocabulary, self._config, clock=lambda: 0.0
        )

    def _held(
        self, config: TransformerConfig, weights: Mapping[str, torch.Tensor]
    ) -> dict[str, Weight]:
        """``weights`` in the form of the engine."""
        if self._smoothing is not None:
            return int8_weights(config, weights, self._smoothing)
        return {key: weight.to(DTYPES[self._form]) for key, weight in weights.items()}

    def sample(
        self, prompts: Sequence[RolloutPrompt], drawing: Drawing, seeds: Sequence[Sequence[int]]
    ) -> list[list[RolloutSample]]:
        engine = self._engine
        assert engine is not None, "update() gives the weights before the first sample"
        drawn = [
            [
                self._asked(prompt, drawing, seed, f"{number}-{place}")
                for place, seed in enumerate(own)
            ]
            for number, (prompt, own) in enumerate(zip(prompts, seeds, strict=True))
        ]
        engine.submit(*(answer.request for group in drawn for answer in group))
        while engine.step():
            pass
        return [[answer.sample() for answer in group] for group in drawn]

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()

    def _asked(self, prompt: RolloutPrompt, drawing: Drawing, seed: int, name: str) -> _Answer:
        tokenizer, defaults = self._base.tokenizer, self._base.generation
        sampling = SamplingParams(
            max_tokens=drawing.max_tokens,
            temperature=drawing.temperature,
            stop=drawing.stop,
            seed=seed,
            logprobs=0,
        )
        answer = _Answer(prompt, self._base, drawing)
        answer.request = EngineRequest(
            id=name,
            prompt_ids=prompt.ids,
            on_event=answer.take,
            sampling=with_defaults(sampling, defaults),
            grammar=prompt.grammar,
            stop_ids=answer.stop_ids,
            bad_words=bad_words(sampling, tokenizer, defaults),
            scored_at=drawing.temperature,
        )
        return answer


def _smoothing(base: LoadedModel) -> Smoothing:
    config = base.module.config
    if not may_smooth(config):
        return Smoothing()
    module = build_module(config, policy_weights(base.module))
    return smoothing_of(module, base.tokenizer.encode(calibration_text()))


def _copied(weight: Weight) -> Weight:
    if isinstance(weight, torch.Tensor):
        return weight.clone()
    parts: dict[str, Any] = {name: part.clone() for name, part in weight.buffers().items()}
    return replace(weight, **parts)


class _Answer:
    """One that is being drawn."""

    request: EngineRequest

    def __init__(self, prompt: RolloutPrompt, base: LoadedModel, drawing: Drawing) -> None:
        special = base.tokenizer.special_tokens
        # A control token has no bytes to find a stop string in; its id does as well.
        self.stop_ids = frozenset(special[s] for s in drawing.stop if s in special)
        self._prompt, self._text = prompt, ""
        self._choice = ChoiceText(0, base.tokenizer, base.generation.eos_ids | self.stop_ids)
        self._ids: list[int] = []
        self._logprobs: list[float] = []
        self._last: TokenEvent | None = None

    def take(self, event: TokenEvent) -> None:
        self._last = event
        if event.token is None:
            return
        delta = self._choice.push(event)
        assert event.score is not None
        assert event.score.logprob is not None
        self._ids.append(event.token)
        self._logprobs.append(event.score.logprob)
        self._text += "" if delta is None else delta.text

    def sample(self) -> RolloutSample:
        """Once it is whole; raises what it failed of."""
        assert self._last is not None
        if self._last.error is not None:
            raise self._last.error
        prompt = self._prompt
        return RolloutSample(
            prompt=prompt.messages,
            prompt_ids=prompt.ids,
            ids=tuple(self._ids),
            logprobs=tuple(self._logprobs),
            text=self._text,
            finish="length" if self._last.finish_reason == "length" else "stop",
            row=prompt.row,
        )
