"""Prompts that are asked again and again: turns with variables, examples, a chain of thought.

    zero = PromptTemplate.of("Is this review good or bad?\\n\\n{{review}}", untrusted=["review"])
    few = zero.with_examples(FixedExamples([Example({"review": "Great."}, "good"), ...]))
    request = few.with_thinking().fill(review=text).request(SamplingParams(max_tokens=200))

Examples are turns of their own, before the last turn of the user and written like it; so what is
said once belongs into the system's turn. Does not cover files (`prompt_file`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from lmstack.core import InputError, Message, Prompt, Role, nearest, shown
from lmstack.prompting.chat_prompt import ChatPrompt, PromptTurn
from lmstack.prompting.examples import Examples, FixedExamples, PromptExample
from lmstack.prompting.thinking import ChainOfThought
from lmstack.prompting.variables import NAME, RESERVED, PromptSlots, Variable, check_values

__all__ = ["PromptTemplate", "TemplateTurn"]


@dataclass(frozen=True)
class TemplateTurn:
    role: Role
    text: str

    def __post_init__(self) -> None:
        Message(self.role, self.text)  # which checks both
        self.slots.names  # noqa: B018  says where the braces are wrong

    @cached_property
    def slots(self) -> PromptSlots:
        return PromptSlots.of(self.text)


@dataclass(frozen=True)
class PromptTemplate:
    """``variables``: all that the turns name, and no others. The last turn is the user's.
    ``name`` and ``version`` go into the audit record of what is asked with it."""

    turns: tuple[TemplateTurn, ...]
    variables: Mapping[str, Variable] = field(default_factory=dict, hash=False)
    examples: Examples | None = None
    thinking: ChainOfThought | None = None
    name: str = ""
    version: str = ""

    def __post_init__(self) -> None:
        if not self.turns or self.turns[-1].role != "user":
            last = f"its last is the {self.turns[-1].role}'s" if self.turns else "it has none"
            raise InputError(
                f"a prompt ends with a turn of the user, and {last}",
                hint="say last what the model is to answer",
                param="turns",
            )
        self._check_names()
        if self.examples is not None:
            object.__setattr__(self, "examples", self.examples.completed(self._complete))

    @classmethod
    def of(
        cls,
        user: str,
        *,
        system: str = "",
        untrusted: Sequence[str] = (),
        variables: Mapping[str, Variable] | None = None,
    ) -> PromptTemplate:
        """Of one turn of the user, after the ``system``'s where there is one. Its variables are
        text, those that are ``untrusted`` fenced, unless ``variables`` say otherwise."""
        turns = (TemplateTurn("system", system),) if system else ()
        turns = (*turns, TemplateTurn("user", user))
        names = dict.fromkeys(name for turn in turns for name in turn.slots.names)
        _check_known(untrusted, names, "untrusted")
        found = {name: Variable(untrusted=name in untrusted) for name in names}
        return cls(turns, {**found, **(variables or {})})

    def with_examples(self, examples: Examples) -> PromptTemplate:
        return replace(self, examples=examples)

    def with_thinking(self, thinking: ChainOfThought | None = None) -> PromptTemplate:
        return replace(self, thinking=thinking or ChainOfThought())

    def fill(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> ChatPrompt:
        """The prompt for ``values``."""
        found = check_values({**(values or {}), **more}, self.variables)
        examples = self.examples.choose(found) if self.examples is not None else ()
        return ChatPrompt(tuple(self._turns(found, examples)), self.name, self.version)

    def unfilled(self) -> ChatPrompt:
        """The prompt with the names of its variables in their places; without its examples where
        they depend on what is asked."""
        names = {name: f"{{{{{name}}}}}" for name in self.variables}
        examples = self.examples.examples if isinstance(self.examples, FixedExamples) else ()
        return ChatPrompt(tuple(self._turns(names, examples)), self.name, self.version)

    def _turns(
        self, values: Mapping[str, Any], examples: Sequence[PromptExample]
    ) -> Iterator[PromptTurn]:
        *first, last = self.turns
        for turn in first:
            yield PromptTurn(turn.role, self._text(turn, values))
        for number, example in enumerate(examples, 1):
            label = f"example {number}"
            yield PromptTurn("user", self._text(last, example.values), label)
            output = example.output
            if self.thinking is not None:
                output = self.thinking.written(example.reasoning, output)
            yield PromptTurn("assistant", Prompt.of(output), label)
        yield PromptTurn("user", self._text(last, values))

    def _text(self, turn: TemplateTurn, values: Mapping[str, Any]) -> Prompt:
        prompt = turn.slots.fill(values, self.variables)
        if turn is self.turns[-1] and self.thinking is not None:
            prompt = prompt + f"\n\n{self.thinking.stated}"
        return prompt

    def _complete(self, example: PromptExample) -> dict[str, Any]:
        what = f"the example {shown(example.output)}"
        return check_values(example.values, self.variables, what)

    def _check_names(self) -> None:
        used = dict.fromkeys(name for turn in self.turns for name in turn.slots.names)
        for name in self.variables:
            if not NAME.fullmatch(name) or name in RESERVED:
                raise InputError(
                    f"a variable has the name {shown(name)}",
                    hint=f"letters, digits and _, and none of {', '.join(RESERVED)}",
                    param="variables",
                )
        _check_known(used, self.variables, "variables")
        unused = [name for name in self.variables if name not in used]
        if unused:
            raise InputError(
                f"no turn of the prompt names its variable {shown(unused[0])}",
                hint=f"write {{{{{unused[0]}}}}} where it belongs, or leave it out",
                param="variables",
            )


def _check_known(
    names: Sequence[str] | Mapping[str, Any], known: Mapping[str, Any], param: str
) -> None:
    for name in names:
        if name not in known:
            guess = nearest(name, known)
            hint = f"did you mean {guess!r}?" if guess else f"its variables: {', '.join(known)}"
            raise InputError(f"the prompt has no variable {shown(name)}", hint=hint, param=param)
