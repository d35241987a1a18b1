"""Masks that keep the output inside a grammar, with llguidance.

Covers JSON objects, JSON Schema, regular expressions and Lark grammars. What llguidance cannot
enforce is an error and never a warning, so a grammar that is accepted is obeyed in full.

Cost is bounded: the source by size, compiling by what a process apart may use for it
(`grammar_trial`), the automaton by llguidance's limits on grammar size, lexer states and work a
step; past them a request fails and nobody else notices.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence as Seq
from concurrent.futures import Future
from typing import Any

import llguidance
import numpy as np
import numpy.typing as npt
from llguidance.numpy import fill_next_token_bitmask

from lmstack.core import EngineError, Grammar, InputError, UnsupportedError, shown
from lmstack.engine.constraints.expressions import check_expressions
from lmstack.engine.constraints.grammar_trial import try_grammar
from lmstack.engine.constraints.tool_grammar import lark_of
from lmstack.engine.constraints.vocabulary import Vocabulary

__all__ = ["GrammarCompiler", "GrammarMatcher", "mask_words"]

CACHED_GRAMMARS = 64
# A larger source is compiled in a process apart first (`grammar_trial`). Smaller ones take a few
# milliseconds and refer to themselves less deeply than any thread's stack can bear: a rule of a
# Lark grammar takes a few bytes, a definition of a schema some thirty.
TRIED_ABOVE_BYTES = (8192, 1024)

# Between two tokens of JSON: a space, or a line break with the indentation of pretty printing.
# Without a bound a model may write spaces until its budget is spent.
MAX_INDENT = 20
_WHITESPACE = rf"\x20|\r?\n(?:\x20{{0,{MAX_INDENT}}}|\t{{0,{MAX_INDENT}}})"


Words = npt.NDArray[np.int32]


def mask_words(vocab_size: int) -> int:
    """32-bit words of a mask over ``vocab_size`` tokens."""
    return -(-vocab_size // 32)


class GrammarMatcher:
    """Where one sequence is in its grammar. Not thread-safe; belongs to the sequence, so that
    preemption does not touch it. ``coming``: the masks that are being worked out for several, and
    the row of this one."""

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
        return bool(self._matcher.is_stopped())

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
            raise InputError(
                f"the grammar became too complex: {_reason(self._matcher.get_error())}",
                hint="simplify the grammar or the schema",
                param="response_format",
            )
        assert self._words is not None
        return self._words

    def settle(self) -> None:
        """Wait until nobody else works with it."""
        if self.coming is not None:
            self.coming[0].result()

    def compute(self, mask: Words, row: int) -> None:
        """Write `mask` into ``mask[row]``, errors left for whoever asks next."""
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
            reason = _reason(self._matcher.get_error())
            raise EngineError(f"token {token} left the grammar: {reason}")


class GrammarCompiler:
    """Compiles grammars for one vocabulary; recent ones are kept, each for the scope that sent it:
    how soon an answer begins would else tell others which were. Thread-safe."""

    def __init__(self, vocabulary: Vocabulary, max_bytes: int) -> None:
        self._vocabulary, self._max_bytes = vocabulary, max_bytes
        self._lock = threading.Lock()
        self._tokenizer: Any = None
        self._compiled: OrderedDict[tuple[str, Grammar], Any] = OrderedDict()

    def compile(self, grammar: Grammar, scope: str = "") -> GrammarMatcher:
        """A fresh matcher, or `InputError` with llguidance's reason."""
        matcher = self._kept(grammar, scope)
        if matcher is None:
            self._check_size(grammar)
            if self.takes_long(grammar, scope):
                try_grammar(grammar, self._vocabulary)
            matcher = self._compile(grammar)
            self._keep(grammar, scope, matcher)
        return GrammarMatcher(matcher.deep_copy())

    def takes_long(self, grammar: Grammar, scope: str = "") -> bool:
        """Whether `compile` would take as long as a process does to start, or longer: others
        should not have to wait for it."""
        small = len(grammar.source) <= TRIED_ABOVE_BYTES[grammar.kind == "lark"]
        return not small and self._kept(grammar, scope) is None

    def compile_here(self, grammar: Grammar) -> GrammarMatcher:
        """`compile` without trying it first, whatever it does to this process."""
        return GrammarMatcher(self._compile(grammar))

    def warm_up(self) -> None:
        """Do what is done once for all grammars."""
        self._ll_tokenizer()

    def _kept(self, grammar: Grammar, scope: str) -> Any:
        with self._lock:
            matcher = self._compiled.get((scope, grammar))
            if matcher is not None:
                self._compiled.move_to_end((scope, grammar))
            return matcher

    def _keep(self, grammar: Grammar, scope: str, matcher: Any) -> None:
        with self._lock:
            self._compiled[scope, grammar] = matcher
            if len(self._compiled) > CACHED_GRAMMARS:
                self._compiled.popitem(last=False)

    def _check_size(self, grammar: Grammar) -> None:
        size = len(grammar.source.encode())
        if size > self._max_bytes:
            raise InputError(
                f"the grammar has {size} bytes, at most {self._max_bytes} are allowed",
                hint="shorten it",
                param="response_format",
            )

    def _compile(self, grammar: Grammar) -> Any:
        if not self._vocabulary.eos_ids:
            raise UnsupportedError(
                "this model has no end-of-text token, which a grammar needs",
                hint="use a model that has one",
                param="response_format",
            )
        source = self._source(grammar)
        check_expressions(grammar)
        matcher = llguidance.LLMatcher(self._ll_tokenizer(), source, log_level=0)
        problems = [matcher.get_error()] if matcher.is_error() else matcher.get_grammar_warnings()
        if problems:
            raise InputError(
                f"the {grammar.kind} grammar cannot be enforced: {_reason(problems[0])}",
                hint="remove or replace what is named",
                param="tools" if grammar.kind == "tool_calls" else "response_format",
            )
        return matcher

    @staticmethod
    def _source(grammar: Grammar) -> str:
        build = llguidance.LLMatcher
        try:
            if grammar.kind == "json_object":
                return _json_source({"type": "object"})
            if grammar.kind == "json_schema":
                return _json_source(json.loads(grammar.source))
            if grammar.kind == "regex":
                return str(build.grammar_from_regex(grammar.source))
            if grammar.kind == "lark":
                return str(build.grammar_from_lark(grammar.source))
            if grammar.kind == "tool_calls":
                return str(build.grammar_from_lark(lark_of(grammar.source)))
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"the {grammar.kind} grammar {shown(grammar.source)} cannot be read: {error}",
                param="response_format",
            ) from error
        raise UnsupportedError(f"no grammar kind {shown(grammar.kind)}", param="response_format")

    def _ll_tokenizer(self) -> Any:
        if self._tokenizer is None:  # made twice if two threads meet here, which does no harm
            wrapper = llguidance.TokenizerWrapper(_Tokens(self._vocabulary))
            self._tokenizer = llguidance.LLTokenizer(
                wrapper,
                n_vocab=len(self._vocabulary),
                eos_token=sorted(self._vocabulary.eos_ids),
            )
        return self._tokenizer


class _Tokens:
    """A vocabulary as `llguidance.TokenizerWrapper` wants to see it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        special = vocabulary.special_ids | vocabulary.eos_ids
        self.eos_token_id = min(vocabulary.eos_ids)
        self.bos_token_id = None
        self.special_token_ids = sorted(special)
        # A name keeps control tokens apart; llguidance marks them, so no text can match it.
        self.tokens = [
            b"<|control %d|>" % i if i in special else data
            for i, data in enumerate(vocabulary.token_bytes)
        ]
        self._ids = {data: i for i, data in enumerate(self.tokens) if data and i not in special}
        self._longest = max(map(len, self._ids), default=1)

    def __call__(self, text: bytes) -> list[int]:
        """Greedy longest match. llguidance asks only to learn how the tokenizer behaves; masks
        come from ``tokens`` alone."""
        ids, start = [], 0
        while start < len(text):
            for end in range(min(len(text), start + self._longest), start, -1):
                if (token := self._ids.get(text[start:end])) is not None:
                    ids.append(token)
                    start = end
                    break
            else:
                start += 1
        return ids


def _json_source(schema: Any) -> str:
    """The grammar of a JSON Schema, with bounded whitespace. A schema whose ``x-guidance`` turns
    whitespace off, or states a pattern of its own, keeps that."""
    stated = schema.get("x-guidance") if isinstance(schema, dict) else None
    compact = isinstance(stated, dict) and stated.get("whitespace_flexible") is False
    defaults: Any = None if compact else {"whitespace_pattern": _WHITESPACE}
    # Written again, because llguidance pastes the text into its own.
    return str(llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema), defaults=defaults))


def _reason(message: str) -> str:
    """llguidance's reason without the dump of its state."""
    return " ".join(message.split("\n<state>")[0].split())[:300]
