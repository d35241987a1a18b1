"""Automata of llguidance for one vocabulary.

Covers JSON objects, JSON Schema, regular expressions, Lark grammars and calls of tools. What
llguidance cannot enforce is an error and never a warning, so a grammar that is accepted is obeyed
in full. Not covered: what building one or a step of it may cost, for which its limits are no
bound where expressions are intersected (`isolated`).
"""

from __future__ import annotations

import json
from typing import Any

import llguidance

from lmstack.core import Grammar, InputError, UnsupportedError, shown
from lmstack.engine.constraints.patterns import check_expressions
from lmstack.engine.constraints.tool_grammar import lark_of
from lmstack.engine.constraints.vocabulary import GrammarVocabulary

__all__ = ["AutomatonBuilder", "param_of", "reason_of"]

# Between two tokens of JSON: a space, or a line break with the indentation of pretty printing.
# Without a bound a model may write spaces until its budget is spent.
MAX_INDENT = 20
_WHITESPACE = rf"\x20|\r?\n(?:\x20{{0,{MAX_INDENT}}}|\t{{0,{MAX_INDENT}}})"
# Each takes some kilobytes in every sequence. Schemas of real interfaces need some hundreds.
MAX_LEXER_STATES = 20_000


class AutomatonBuilder:
    """Builds `llguidance.LLMatcher` for ``vocabulary``. Thread-safe."""

    def __init__(self, vocabulary: GrammarVocabulary) -> None:
        self._vocabulary = vocabulary
        self._tokenizer: Any = None

    def build(self, grammar: Grammar) -> Any:
        """At its beginning, or `InputError` with llguidance's reason."""
        if not self._vocabulary.eos_ids:
            raise UnsupportedError(
                "this model has no end-of-text token, which a grammar needs",
                hint="use a model that has one",
                param="response_format",
            )
        source = _source(grammar)
        check_expressions(grammar)
        limits = llguidance.LLParserLimits(max_lexer_states=MAX_LEXER_STATES)
        matcher = llguidance.LLMatcher(self._ll_tokenizer(), source, log_level=0, limits=limits)
        problems = [matcher.get_error()] if matcher.is_error() else matcher.get_grammar_warnings()
        if problems:
            raise InputError(
                f"the {grammar.kind} grammar cannot be enforced: {reason_of(problems[0])}",
                hint="remove or replace what is named",
                param=param_of(grammar),
            )
        return matcher

    def warm_up(self) -> None:
        """Do what is done once for all grammars."""
        self._ll_tokenizer()

    def _ll_tokenizer(self) -> Any:
        if self._tokenizer is None:  # made twice if two threads meet here, which does no harm
            wrapper = llguidance.TokenizerWrapper(_Tokens(self._vocabulary))
            self._tokenizer = llguidance.LLTokenizer(
                wrapper,
                n_vocab=len(self._vocabulary),
                eos_token=sorted(self._vocabulary.eos_ids),
            )
        return self._tokenizer


def param_of(grammar: Grammar) -> str:
    """The field of a request that ``grammar`` was made from."""
    return "tools" if grammar.kind == "tool_calls" else "response_format"


def reason_of(message: str) -> str:
    """llguidance's reason without the dump of its state."""
    return " ".join(message.split("\n<state>")[0].split())[:300]


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


def _json_source(schema: Any) -> str:
    """The grammar of a JSON Schema, with bounded whitespace. A schema whose ``x-guidance`` turns
    whitespace off, or states a pattern of its own, keeps that."""
    stated = schema.get("x-guidance") if isinstance(schema, dict) else None
    compact = isinstance(stated, dict) and stated.get("whitespace_flexible") is False
    defaults: Any = None if compact else {"whitespace_pattern": _WHITESPACE}
    # Written again, because llguidance pastes the text into its own.
    return str(llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema), defaults=defaults))


class _Tokens:
    """A vocabulary as `llguidance.TokenizerWrapper` wants to see it."""

    def __init__(self, vocabulary: GrammarVocabulary) -> None:
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
