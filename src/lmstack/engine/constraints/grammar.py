"""Masks that keep the output inside a grammar.

Cost is bounded: the source by size; what is compiled here by what it may hold (`simple`);
everything else by what a process of its own may use (`isolated`). Past the bounds a request
fails and nobody else notices.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence as Seq
from concurrent.futures import Future
from typing import Any

import numpy as np
import numpy.typing as npt
from llguidance.numpy import fill_next_token_bitmask

from lmstack.core import EngineError, Grammar, InputError
from lmstack.engine.constraints.automaton import AutomatonBuilder, param_of, reason_of
from lmstack.engine.constraints.isolated import IsolatedGrammars, IsolatedMatcher
from lmstack.engine.constraints.simple import is_simple
from lmstack.engine.constraints.vocabulary import GrammarVocabulary

__all__ = ["GrammarCompiler", "GrammarMatcher", "mask_words"]

CACHED_GRAMMARS = 64
Words = npt.NDArray[np.int32]


def mask_words(vocab_size: int) -> int:
    """32-bit words of a mask over ``vocab_size`` tokens."""
    return -(-vocab_size // 32)


class GrammarMatcher:
    """Where one sequence is in its grammar. Not thread-safe; belongs to the sequence, so that
    preemption does not touch it. ``matcher``: llguidance's, or one in a process of its own.
    ``coming``: the masks that are being worked out for several, and the row of this one."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher
        self._words: Words | None = None
        self.coming: tuple[Future[Words], int] | None = None

    def fork(self) -> GrammarMatcher:
        """A matcher of its own at the same place."""
        self.settle()
        return GrammarMatcher(self._matcher.deep_copy())

    @property
    def finished(self) -> bool:
        """The text is whole and nothing but an end token could follow."""
        self.settle()
        return bool(self._matcher.is_stopped()) and not self._matcher.is_error()

    def mask(self, num_tokens: int) -> Words:
        """The allowed next tokens as bits, lowest first, (`mask_words`,); not to be changed."""
        if self._words is None and self.coming is None:
            words = np.zeros((1, mask_words(num_tokens)), np.int32)
            self.compute(words, 0)
            self._words = words[0]
        elif self._words is None and self.coming is not None:
            done, place = self.coming
            self._words = done.result()[place]
        if self._matcher.is_error():
            raise self._too_complex()
        assert self._words is not None
        return self._words

    def settle(self) -> None:
        """Wait until nobody else works with it."""
        if self.coming is not None:
            self.coming[0].result()

    def compute(self, mask: Words, row: int) -> None:
        """Write `mask` into ``mask[row]``, errors left for whoever asks next."""
        if isinstance(self._matcher, IsolatedMatcher):
            self._matcher.fill(mask, row)
        else:
            fill_next_token_bitmask(self._matcher, mask, row)

    def admits(self, tokens: Seq[int]) -> int:
        """How many of ``tokens``, from the first on, could follow. Changes nothing."""
        self.settle()
        return int(self._matcher.validate_tokens(list(tokens)))

    def forced(self) -> tuple[int, ...]:
        """Tokens of the text that has to come next, as far as there is no choice. A model may cut
        the same text into others."""
        self.settle()
        return tuple(self._matcher.compute_ff_tokens())

    def accept(self, token: int) -> None:
        self.settle()
        self.coming = self._words = None
        if not self._matcher.consume_token(token):
            reason = reason_of(self._matcher.get_error())
            if "doesn't satisfy the grammar" not in reason:  # a limit was passed
                raise self._too_complex()
            raise EngineError(f"token {token} left the grammar: {reason}")

    def _too_complex(self) -> InputError:
        return InputError(
            f"the grammar became too complex: {reason_of(self._matcher.get_error())}",
            hint="simplify the grammar or the schema",
            param="response_format",
        )


class GrammarCompiler:
    """Compiles grammars for one vocabulary; recent ones are kept, each for the scope that sent it:
    how soon an answer begins would else tell others which were. Thread-safe."""

    def __init__(self, vocabulary: GrammarVocabulary, max_bytes: int) -> None:
        self._builder, self._max_bytes = AutomatonBuilder(vocabulary), max_bytes
        self._has_end = bool(vocabulary.eos_ids)
        self._isolated = IsolatedGrammars(vocabulary)
        self._lock = threading.Lock()
        self._compiled: OrderedDict[tuple[str, Grammar], Any] = OrderedDict()
        self._begun: dict[int, float] = {}  # when each that is being compiled was begun

    def compile(
        self, grammar: Grammar, scope: str = "", abandoned: threading.Event | None = None
    ) -> GrammarMatcher:
        """A fresh matcher, or `InputError` with llguidance's reason. `OverloadedError` where
        ``scope`` has too many in use; `EngineError` once ``abandoned``, which ends the work."""
        matcher = self._kept(grammar, scope)
        if matcher is None:
            self._check_size(grammar)
            self._begun[thread := threading.get_ident()] = time.monotonic()
            try:
                matcher = self._built(grammar, scope, abandoned)
            finally:
                del self._begun[thread]
            self._keep(grammar, scope, matcher)
        return GrammarMatcher(matcher.deep_copy())

    def compiling_s(self) -> float:
        """For how long the one that is being compiled longest has been; 0 for none."""
        return max((time.monotonic() - begun for begun in list(self._begun.values())), default=0.0)

    def takes_long(self, grammar: Grammar, scope: str = "") -> bool:
        """Whether `compile` would do more than some milliseconds of work: others should not have
        to wait for it."""
        return not self._is_built_here(grammar) and self._kept(grammar, scope) is None

    def close(self) -> None:
        """End what is compiled, and the processes that hold grammars."""
        self._isolated.close()

    def _built(self, grammar: Grammar, scope: str, abandoned: threading.Event | None) -> Any:
        if self._is_built_here(grammar):
            return self._builder.build(grammar)
        self._make_room(scope)
        return self._isolated.compile(grammar, scope, abandoned)

    def _is_built_here(self, grammar: Grammar) -> bool:
        return not self._has_end or is_simple(grammar)  # without an end it is refused at once

    def _kept(self, grammar: Grammar, scope: str) -> Any:
        with self._lock:
            matcher = self._compiled.get((scope, grammar))
            if isinstance(matcher, IsolatedMatcher) and matcher.has_ended():
                matcher = self._compiled.pop((scope, grammar), None) and None
            if matcher is not None:
                self._compiled.move_to_end((scope, grammar))
            return matcher

    def _keep(self, grammar: Grammar, scope: str, matcher: Any) -> None:
        with self._lock:
            self._compiled[scope, grammar] = matcher
            if len(self._compiled) > CACHED_GRAMMARS:
                self._compiled.popitem(last=False)

    def _make_room(self, scope: str) -> None:
        """Forget isolated grammars that no sequence uses, those of ``scope`` first, until another
        may be made."""
        with self._lock:
            kept = [k for k, m in self._compiled.items() if isinstance(m, IsolatedMatcher)]
            for key in sorted(kept, key=lambda k: k[0] != scope):
                if self._isolated.has_room(scope):
                    break
                if self._compiled[key].is_alone():
                    del self._compiled[key]

    def _check_size(self, grammar: Grammar) -> None:
        size = len(grammar.source.encode())
        if size > self._max_bytes:
            raise InputError(
                f"the grammar has {size} bytes, at most {self._max_bytes} are allowed",
                hint="shorten it",
                param=param_of(grammar),
            )
