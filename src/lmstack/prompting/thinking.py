"""Chain of thought: a model reasons first and then says its answer, in a line that can be found.

How the answer is marked is stated in the prompt (Wei et al. 2022, arXiv:2201.11903). Where a model
reasons and marks none, or is cut while it reasons, it is asked once more, for the answer alone and
in a few tokens; a form holds it to that answer (`forms`). What is extracted is what the model wrote
after the mark, not a guess at which of its numbers it meant. Does not cover votes over several
chains (`votes`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from lmstack.core import (
    ChatModel,
    Config,
    FinishReason,
    InputError,
    Message,
    Request,
    Usage,
    allowed,
    check_text,
    complete,
    shown,
)
from lmstack.prompting.forms import NotOfFormError, form_of
from lmstack.prompting.structuring import StructuredError, structured_answer
from lmstack.prompting.usages import total_usage

__all__ = ["ChainOfThought", "Thought", "think"]

# What Markdown puts before a line, and around a word.
_BEFORE, _AROUND = " \t*_#>`-+", " \t*_`"


@dataclass(frozen=True)
class ChainOfThought(Config):
    """``marker``: what the line with the answer begins with. ``instruction``: what the prompt says
    of it, made from the marker unless given. ``follow_up``: what is asked where there was no
    answer; empty asks nothing. ``follow_up_tokens``: of the reply to that."""

    marker: str = "Answer:"
    instruction: str = ""
    follow_up: str = "So what is the answer? Reply with the answer alone."
    follow_up_tokens: int = allowed(32, int, 1, 4096)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("marker", "instruction", "follow_up"):
            check_text(name, getattr(self, name))
        if not self.marker.strip(_AROUND) or "\n" in self.marker:
            raise InputError(
                f"the marker is {shown(self.marker)}", hint='"Answer:"', param="marker"
            )
        if self.instruction and self.marker not in self.instruction:
            raise InputError(
                f"the instruction does not name the marker {shown(self.marker)}",
                hint="a model can mark its answer only if it is told how",
                param="instruction",
            )

    @property
    def stated(self) -> str:
        """What the prompt says."""
        return self.instruction or (
            "Think step by step. Then write the answer, and nothing else, in a last line that"
            f' begins with "{self.marker}".'
        )

    def written(self, reasoning: str, answer: str) -> str:
        """A chain as an example shows it."""
        return f"{reasoning}\n{self.marker} {answer}" if reasoning else f"{self.marker} {answer}"

    def extract(self, text: str, finish: FinishReason = "stop") -> str | None:
        """What stands after the last marker; in the next line where nothing stands beside it.
        None where there is none, or where the text was cut there."""
        lines, place = self._marked(text)
        if place is None:
            return None
        line = lines[place].lstrip(_BEFORE)
        beside = [line[len(self.marker.strip()) :], *lines[place + 1 :]]
        found = next((n for n, each in enumerate(beside) if each.strip(_AROUND)), None)
        if found is None or (finish == "length" and place + found == len(lines) - 1):
            return None
        return beside[found].strip(_AROUND)

    def reasoning(self, text: str) -> str:
        """What stands before the last marker; all of it where there is none."""
        lines, place = self._marked(text)
        return "\n".join(lines[:place]).rstrip()

    def _marked(self, text: str) -> tuple[list[str], int | None]:
        """The lines of ``text``, and which of them is the last with the marker."""
        lines, marker = text.rstrip().split("\n"), self.marker.strip().casefold()
        marked = [
            n for n, each in enumerate(lines) if each.lstrip(_BEFORE).casefold().startswith(marker)
        ]
        return lines, marked[-1] if marked else None


@dataclass(frozen=True)
class Thought:
    """``answer``: the value; text unless a form was given, and None where the model gave none.
    ``asked_again``: it came with the second question. ``is_cut``: the chain was cut."""

    answer: Any
    reasoning: str
    text: str
    asked_again: bool
    is_cut: bool
    usage: Usage


async def think(
    model: ChatModel, request: Request, chain: ChainOfThought, *, form: Any = None
) -> Thought:
    """Ask ``model`` the ``request``, whose prompt states ``chain``, and find its answer. ``form``:
    of the answer alone, by which it is read and to which a second reply is held."""
    if not request.messages or request.sampling.n != 1:
        raise InputError(
            "a chain of thought is one choice of a conversation",
            hint="send messages, and n=1; for several: self_consistency",
            param="messages" if not request.messages else "n",
        )
    read = None if form is None else form_of(form)
    completion = await complete(model, request)
    text, finish = completion.text, completion.choices[0].finish_reason
    found: Any = chain.extract(text, finish)
    if found is not None and read is not None:
        try:
            found = read.read(found)
        except NotOfFormError:
            found = None
    usage, asks = completion.usage, found is None and bool(chain.follow_up)
    if asks:
        found, more = await _asked_again(model, request, chain, text, read)
        usage = total_usage((usage, more))
    return Thought(found, chain.reasoning(text), text, asks, finish == "length", usage)


async def _asked_again(
    model: ChatModel, request: Request, chain: ChainOfThought, text: str, form: Any
) -> tuple[Any, Usage]:
    said = (Message("assistant", text),) if text.strip() else ()
    messages = (*request.messages, *said, Message("user", chain.follow_up))
    sampling = request.sampling.replace(
        temperature=0.0, top_p=1.0, min_p=0.0, typical_p=1.0, max_tokens=chain.follow_up_tokens
    )
    asked = replace(request, messages=messages, sampling=sampling)
    if form is not None:
        try:
            answer = await structured_answer(model, asked, form, attempts=1)
        except StructuredError as error:
            return None, error.usage
        return answer.value, answer.usage
    completion = await complete(model, asked)
    # It may mark its answer all the same.
    finish = completion.choices[0].finish_reason
    found = chain.extract(completion.text, finish)
    if found is None and finish == "stop":
        found = completion.text.strip(_AROUND + "\n") or None
    return found, completion.usage
