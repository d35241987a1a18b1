"""Answers of a given form from any chat model.

    person = await structured(model, request, Person)

A model that can be held to the form is, and answers in one pass. Of one that cannot
(`UnsupportedError`, or a provider that refuses the schema) the form is asked in words. What comes
is validated, whoever wrote it; what is wrong with it is told to the model, so many times and no
more. An answer that was cut inside of its value is an error and never the value. Does not cover
the forms themselves (`forms`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, overload

from lmstack.core import (
    ChatModel,
    Completion,
    ContextLengthError,
    Delta,
    FinishReason,
    InputError,
    LmstackError,
    Message,
    Prompt,
    Request,
    Span,
    UnsupportedError,
    Usage,
    check_whole,
    complete,
)
from lmstack.prompting.forms import AnswerForm, NotOfFormError, form_of
from lmstack.prompting.json_reader import JsonReader
from lmstack.prompting.usages import total_usage

__all__ = [
    "Partial",
    "Structured",
    "StructuredError",
    "stream_structured",
    "structured",
    "structured_answer",
    "with_words",
]

T = TypeVar("T")
_MOST_ATTEMPTS = 10
_AGAIN = "Reply again in the form that was asked for, and with nothing else."


class StructuredError(LmstackError):
    """A model's answer is not of the form that was asked for. ``text``: the last one; ``reason``:
    what is wrong with it; ``is_cut``: that it was cut; ``attempts``: how many there were, which
    used ``usage``."""

    http_status = 502
    code = "invalid_answer"

    def __init__(
        self,
        message: str,
        *,
        text: str,
        problem: NotOfFormError,
        attempts: int,
        usage: Usage,
        hint: str,
    ) -> None:
        super().__init__(message, hint=hint)
        self.text, self.reason, self.is_cut = text, problem.reason, problem.is_cut
        self.attempts, self.usage = attempts, usage


@dataclass(frozen=True)
class Structured(Generic[T]):
    """``held``: the model was held to the form, not asked in words. ``usage``: of all attempts."""

    value: T
    text: str
    held: bool
    attempts: int
    usage: Usage


@dataclass(frozen=True)
class Partial(Generic[T]):
    """Of an answer that arrives. ``value``: the JSON that there is so far (of other forms, the
    text). The last one ``is_whole`` and has the ``result``."""

    value: Any
    result: T | None = None
    is_whole: bool = False


@overload
async def structured(
    model: ChatModel, request: Request, form: type[T], *, attempts: int = 2, in_prompt: bool = False
) -> T: ...
@overload
async def structured(
    model: ChatModel, request: Request, form: Any, *, attempts: int = 2, in_prompt: bool = False
) -> Any: ...
async def structured(
    model: ChatModel, request: Request, form: Any, *, attempts: int = 2, in_prompt: bool = False
) -> Any:
    """The value that ``model`` answers ``request`` with, of the form ``form``: a type, a JSON
    Schema, choices, a pattern or a `Grammar` (`forms`).

    ``attempts``: how often the model is asked at most. ``in_prompt``: show the form to a model
    that is held to it, too. `StructuredError` holds the last answer where none is of the form.
    """
    answer = await structured_answer(model, request, form, attempts=attempts, in_prompt=in_prompt)
    return answer.value


async def structured_answer(
    model: ChatModel, request: Request, form: Any, *, attempts: int = 2, in_prompt: bool = False
) -> Structured[Any]:
    """As `structured`, with the text and what it took."""
    check_whole("attempts", attempts, 1, _MOST_ATTEMPTS)
    asking = _Asking(model, request, form_of(form), in_prompt=in_prompt)
    usage, text, reason = Usage(), "", ""
    attempt = 0
    while True:
        attempt += 1
        completion = await asking.answer(text, reason)
        usage = total_usage((usage, completion.usage))
        text, finish = completion.text, completion.choices[0].finish_reason
        try:
            value = asking.form.read(text, is_cut=finish == "length")
        except NotOfFormError as error:
            ended = finish not in ("stop", "length")
            if error.is_cut or ended or attempt == attempts or not request.messages:
                raise asking.error(text, error, finish, attempt, usage) from error
            reason = error.reason
        else:
            return Structured(value, text, asking.held, attempt, usage)


async def stream_structured(
    model: ChatModel, request: Request, form: Any, *, in_prompt: bool = False
) -> AsyncIterator[Partial[Any]]:
    """The value while it arrives, asked for once; the last one is validated. `StructuredError` in
    its place where the answer is not of the form: what was told of it until then is void."""
    asking = _Asking(model, request, form_of(form), in_prompt=in_prompt)
    so_far = _SoFar(asking.form)
    finish: FinishReason = "stop"
    usage = Usage()
    async with aclosing(asking.deltas()) as deltas:
        async for delta in deltas:
            finish, usage = delta.finish_reason or finish, delta.usage or usage
            if delta.text and so_far.grows(delta.text, held=asking.held):
                yield Partial(so_far.value)
    try:
        result = asking.form.read(so_far.text, is_cut=finish == "length")
    except NotOfFormError as error:
        raise asking.error(so_far.text, error, finish, 1, usage) from error
    yield Partial(so_far.value if so_far.is_whole else result, result, is_whole=True)


class _Asking:
    """How a model is asked for a form: ``held`` to it until it says that it cannot be."""

    def __init__(
        self, model: ChatModel, request: Request, form: AnswerForm[Any], *, in_prompt: bool
    ) -> None:
        for param, wrong in (
            ("n", request.sampling.n != 1),
            ("grammar", request.grammar is not None),
            ("tools", bool(request.called_tools)),
        ):
            if wrong:
                raise InputError(
                    "a structured answer is one choice, calls no tools, and its form is its"
                    " grammar",
                    hint=f"leave out {param}",
                    param=param,
                )
        self.form, self.held = form, True
        self._model, self._request, self._in_prompt = model, request, in_prompt

    async def answer(self, last: str, reason: str) -> Completion:
        """``last``: what the model said before, which is wrong by ``reason``, if it did."""
        while True:
            try:
                return await complete(self._model, self._made(last, reason))
            except InputError as error:
                self._ask_in_words(error)

    async def deltas(self) -> AsyncGenerator[Delta, None]:
        while True:
            has_begun, stream = False, self._model.stream(self._made("", ""))
            try:
                async for delta in stream:
                    has_begun = True
                    yield delta
                return
            except InputError as error:
                if has_begun:
                    raise
                self._ask_in_words(error)
            finally:
                close = getattr(stream, "aclose", None)
                if close is not None:
                    await close()

    def error(
        self,
        text: str,
        problem: NotOfFormError,
        finish: FinishReason,
        attempts: int,
        usage: Usage,
    ) -> StructuredError:
        name, limit = self._model.info.name, self._request.sampling.max_tokens
        if problem.is_cut:
            what = f"the answer of {name} was cut inside of its value"
            hint = "raise max_tokens" + (f", which is {limit}" if limit is not None else "")
        elif finish not in ("stop", "length"):
            what = f"{name} ended its answer with {finish}, not in the form that was asked for"
            hint = "ask for something else, or another model"
        else:
            times = f" in {attempts} attempts" if attempts > 1 else ""
            what = f"{name} gave no answer of the form that was asked for{times}: {problem.reason}"
            hint = "allow more attempts, or ask a model that can be held to the form"
        return StructuredError(
            what, text=text, problem=problem, attempts=attempts, usage=usage, hint=hint
        )

    def _made(self, last: str, reason: str) -> Request:
        messages, words = self._request.messages, self.form.words
        if messages and words is not None and (self._in_prompt or reason or not self.held):
            messages = with_words(messages, words)
        if reason:
            said = (Message("assistant", last),) if last.strip() else ()
            # What is wrong quotes what the model wrote, and that may quote anybody.
            wrong = Span(reason, untrusted=True, label="what is wrong")
            again = Prompt.of("Your reply cannot be used:\n", wrong, f"\n\n{_AGAIN}")
            messages = (*messages, *said, Message("user", again.render()))
        grammar = self.form.grammar if self.held else None
        return replace(self._request, messages=messages, grammar=grammar)

    def _ask_in_words(self, error: InputError) -> None:
        """From now on, if ``error`` says that this model cannot be held to the form. A provider's
        may say it in any way: should it mean something else, it comes again."""
        by_provider = self._model.info.digest is None and not isinstance(error, ContextLengthError)
        cannot = isinstance(error, UnsupportedError) and error.param == "response_format"
        can_ask = self.form.words is not None and self._request.messages
        if not (self.held and can_ask and (cannot or by_provider)):
            raise error
        self.held = False


class _SoFar:
    """The value of a text that grows. ``is_whole``: all of it is there."""

    def __init__(self, form: AnswerForm[Any]) -> None:
        self.text = ""
        self.value: Any = None
        self._begins = form.begins
        self._reader = JsonReader()
        self._is_read, self._has_begun = bool(form.begins), False

    @property
    def is_whole(self) -> bool:
        return not self._begins or self._reader.has_ended

    def grows(self, text: str, *, held: bool) -> bool:
        """Whether there is more of the value now. Without a grammar there may be text before it,
        which is passed over, and after it. What is no JSON is for the last reading to say."""
        self.text += text
        if not self._begins:
            self.value = self.text
            return True
        if not self._has_begun and not held:
            text = text[min((text + c).index(c) for c in self._begins) :]
        self._has_begun |= bool(text)
        if not self._is_read:
            return False
        had = self._reader.has_begun
        try:
            self._reader.feed(text)
        except ValueError:
            self._is_read = False
            if not self._reader.has_ended:
                return False
        before, self.value = self.value, self._reader.value
        return self._reader.has_begun and not (had and before == self.value)


def with_words(messages: tuple[Message, ...], words: str) -> tuple[Message, ...]:
    """``messages`` whose last turn of the user also asks for a form in ``words``."""
    last = messages[-1]
    if last.role != "user":
        return (*messages, Message("user", words))
    return (*messages[:-1], replace(last, content=f"{last.content}\n\n{words}"))
