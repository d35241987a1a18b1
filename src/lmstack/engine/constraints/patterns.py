"""Stopping by regular expression, in time linear in the text whatever the expression.

The expressions are compiled by llguidance into an automaton over bytes, built as it is needed
and bounded in size, so no pattern can backtrack. Anchors, word boundaries, look-around and
back-references are outside of what such an automaton can say, and are refused.

A text ends with the first match: where any expression first matches, whatever comes after.

llguidance checks the syntax of expressions, but drops a backslash at the end of one: ``^a\\`` is
compiled as ``^a``. Such expressions are refused here, by themselves and in JSON Schemas; in Lark
grammars none can end so.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import llguidance

from lmstack.core import Grammar, InputError, shown

__all__ = ["PatternCompiler", "PatternMatcher", "check_expressions"]

# Their keys are names or expressions, and only their values are schemas.
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
# Their values are data, whatever it looks like.
_DATA = ("const", "enum", "default", "examples")


def check_expression(pattern: str, param: str) -> None:
    """`InputError` where ``pattern`` ends with a backslash that escapes nothing."""
    if (len(pattern) - len(pattern.rstrip("\\"))) % 2:
        raise InputError(
            f"the pattern {shown(pattern)} is not a regular expression: it ends with a backslash "
            "that escapes nothing",
            hint="write two backslashes for one, or remove it",
            param=param,
        )


def check_expressions(grammar: Grammar) -> None:
    """`check_expression` for each one in ``grammar``."""
    if grammar.kind == "regex":
        check_expression(grammar.source, "response_format")
    elif grammar.kind == "json_schema":
        for pattern in _patterns(json.loads(grammar.source)):
            check_expression(pattern, "response_format")


def _patterns(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for each in schema:
            yield from _patterns(each)
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key == "pattern" and isinstance(value, str):
            yield value
        elif key in _NAMED and isinstance(value, dict):
            yield from value if key == "patternProperties" else ()
            yield from _patterns(list(value.values()))
        elif key not in _DATA:
            yield from _patterns(value)


CACHED_PATTERNS = 64
MAX_BYTES = 1024
END = 256


class PatternMatcher:
    """Feed bytes to `push`; where in them the first match ends. Belongs to one sequence."""

    def __init__(self, fresh: Any, state: Any | None = None) -> None:
        self._fresh = fresh
        self._state = state

    def fork(self) -> PatternMatcher:
        """A matcher of its own at the same place."""
        state = None if self._state is None else self._state.deep_copy()
        return PatternMatcher(self._fresh, state)

    def push(self, data: bytes) -> int | None:
        """How many bytes of ``data`` belong to a text that now ends with a match; None: no match
        so far."""
        for place, byte in enumerate(data):
            if self._state is None:
                self._state = self._fresh.deep_copy()
            if not self._state.consume_token(byte):
                error = str(self._state.get_error())
                if "too many" in error or "fuel" in error or "limit" in error:
                    raise InputError(
                        "a stop_regex became too complex on this text",
                        hint="simplify it: long counted repetitions are the usual cause",
                        param="stop_regex",
                    )
                # Bytes that are not UTF-8 are in no text, so a match can only begin after them.
                self._state = None
            elif self._state.is_accepting():
                return place + 1
        return None


class PatternCompiler:
    """Compiles sets of expressions; recent ones are kept. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokenizer: Any = None
        self._compiled = functools.lru_cache(CACHED_PATTERNS)(self._compile)

    def compile(self, patterns: Sequence[str]) -> PatternMatcher:
        """A matcher for any of ``patterns``, or `InputError` that names the bad one."""
        with self._lock:
            return PatternMatcher(self._compiled(tuple(patterns)))

    def _compile(self, patterns: tuple[str, ...]) -> Any:
        for pattern in patterns:
            self._check(pattern)
        return self._matcher("|".join(f"(?:{p})" for p in patterns))

    def _check(self, pattern: str) -> None:
        size = len(pattern.encode())
        if size > MAX_BYTES:
            raise InputError(
                f"a stop_regex has {size} bytes, at most {MAX_BYTES} are allowed",
                hint="write a shorter expression, or several",
                param="stop_regex",
            )
        check_expression(pattern, "stop_regex")
        matcher = self._matcher(pattern)
        # By itself too: "x)(y" is none, though it becomes one between the parentheses added here.
        alone = llguidance.LLMatcher(
            self._tokenizer, llguidance.LLMatcher.grammar_from_regex(pattern), log_level=0
        )
        if alone.is_error() or matcher.is_error():
            matcher = alone if alone.is_error() else matcher
            reason = " ".join(str(matcher.get_error()).split("\n")[0].split())[:200]
            raise InputError(
                f"the stop_regex {shown(pattern)} cannot be used: {reason}",
                hint="no anchors, word boundaries, look-around or back-references",
                param="stop_regex",
            )
        if matcher.is_accepting():
            raise InputError(
                f"the stop_regex {shown(pattern)} matches nothing at all, so it would stop at once",
                hint="write + instead of *",
                param="stop_regex",
            )

    def _matcher(self, pattern: str) -> Any:
        build = llguidance.LLMatcher
        if self._tokenizer is None:
            self._tokenizer = llguidance.LLTokenizer(
                llguidance.TokenizerWrapper(_Bytes()), n_vocab=END + 1, eos_token=[END]
            )
        source = build.grammar_from_regex(f"(?s:.*)(?:{pattern})")
        return build(self._tokenizer, source, log_level=0)


class _Bytes:
    """One token a byte, as `llguidance.TokenizerWrapper` wants to see a vocabulary."""

    eos_token_id, bos_token_id = END, None
    special_token_ids = (END,)
    tokens = (*(bytes([i]) for i in range(END)), b"<|end|>")

    def __call__(self, text: bytes) -> list[int]:
        return list(text)
