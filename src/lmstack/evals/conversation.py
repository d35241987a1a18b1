"""A prompt of text as a conversation, as lm-evaluation-harness has it with its chat template.

    header, examples, question  ->  the system's turn, and one turn of the user with all the rest;
                                    or with ``fewshot_as_multiturn`` a turn for each question and
                                    each answer

Where a template refuses the system's turn, that is left out, as there. Not covered: which text is
an example and which a question (`solvers`, `benchmarks`), and the template itself, which is the
model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lmstack.core import (
    ChatModel,
    ChatRenderer,
    Completion,
    InputError,
    LikelihoodModel,
    Message,
    Request,
    UnsupportedError,
    complete,
)
from lmstack.evals.dataset import Sample

__all__ = ["completed", "conversation", "raw_text", "rendered"]


def raw_text(sample: Sample) -> str:
    """The input; `InputError` where it is a conversation already."""
    if isinstance(sample.input, str):
        return sample.input
    raise InputError(
        f"the sample {sample.id} is a conversation, and the solver sends raw text",
        hint="generate without raw, or give the input as text",
        param="input",
    )


def conversation(
    header: str, text: str, shots: Sequence[tuple[str, str]] = (), question: str | None = None
) -> tuple[Message, ...]:
    """``text``: examples and question in one. ``question``: None asks by ``text`` in one turn;
    otherwise ``shots``, each a question with its answer, and the question are turns."""
    turns = [Message("system", header)] if header else []
    if question is None:
        return (*turns, Message("user", text))
    for asked, answer in shots:
        turns += [Message("user", asked), Message("assistant", answer)]
    return (*turns, Message("user", question))


def rendered(model: LikelihoodModel, messages: tuple[Message, ...]) -> str:
    """By the template of ``model``; `UnsupportedError` where it has none."""
    if not isinstance(model, ChatRenderer):
        raise UnsupportedError(
            f"{model.info.name} has no chat template that can be seen",
            hint="evaluate a chat model that lmstack runs itself, or leave chat out",
            param="model",
        )
    try:
        return model.render_chat(messages)
    except InputError as error:
        if not _refuses_system(error, messages):
            raise
        return model.render_chat(messages[1:])


async def completed(model: ChatModel, request: Request) -> Completion:
    """The answer to ``request``."""
    try:
        return await complete(model, request)
    except InputError as error:
        if not _refuses_system(error, request.messages):
            raise
        return await complete(model, replace(request, messages=request.messages[1:]))


def _refuses_system(error: InputError, messages: Sequence[Message]) -> bool:
    is_template = error.param == "messages" and "template" in error.message
    return is_template and len(messages) > 1 and messages[0].role == "system"
