"""May this request run at all? What cannot be honoured is refused before it takes a place.

Covers what is wrong with a request by itself. Not covered: whether there is room just now,
which is the queue's affair.
"""

from __future__ import annotations

from collections.abc import Iterable

from lmstack.core import ContextLengthError, InputError
from lmstack.engine.config import EngineConfig
from lmstack.engine.grammar import GrammarCompiler
from lmstack.engine.request import EngineRequest
from lmstack.engine.sequence import Sequence
from lmstack.engine.vocabulary import Vocabulary
from lmstack.model import TransformerConfig

__all__ = ["Admission"]


class Admission:
    """``context_length``: tokens that one sequence may have; below the model's window where the
    KV pool is smaller. Thread-safe."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        model: TransformerConfig,
        config: EngineConfig,
        context_length: int,
    ) -> None:
        self._vocabulary = vocabulary
        self._num_tokens = min(len(vocabulary), model.vocab_size)
        self._window, self._context_length = model.max_positions, context_length
        self._grammars = GrammarCompiler(vocabulary, config.max_grammar_bytes)

    def sequence(self, request: EngineRequest) -> Sequence:
        """The request as a sequence, or the error that says why not."""
        ids, sampling = request.prompt_ids, request.sampling
        if not ids:
            raise InputError("the prompt is empty", hint="give at least a token", param="prompt")
        self._check_tokens("the prompt", "prompt", ids)
        self._check_tokens("logit_bias", "logit_bias", sampling.logit_bias)
        self._check_length(len(ids), sampling.max_tokens)
        limit = self._context_length
        if sampling.max_tokens is not None:
            limit = len(ids) + sampling.max_tokens
        matcher = None if request.grammar is None else self._grammars.compile(request.grammar)
        return Sequence(request, self._vocabulary, limit, matcher)

    def _check_tokens(self, what: str, param: str, ids: Iterable[int]) -> None:
        for token in ids:
            if not 0 <= token < self._num_tokens:
                raise InputError(
                    f"{what} has token {token}, outside [0, {self._num_tokens})",
                    hint="take token ids from this model's tokenizer",
                    param=param,
                )

    def _check_length(self, num_prompt: int, max_tokens: int | None) -> None:
        total = num_prompt + (1 if max_tokens is None else max_tokens)
        if total <= self._context_length:
            return
        asked = "" if max_tokens is None else f" and max_tokens {max_tokens}"
        if self._context_length == self._window:
            place, hint = "the model's context window has", "shorten the prompt"
        else:
            place, hint = "the KV pool holds", "raise kv_memory_bytes or shorten the prompt"
        raise ContextLengthError(
            f"the prompt has {num_prompt} tokens{asked}, {place} {self._context_length}",
            hint=hint if max_tokens is None else f"{hint} or lower max_tokens",
            param="max_tokens" if num_prompt < self._context_length else "prompt",
        )
