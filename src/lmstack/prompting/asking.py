"""A prompt file asked of a model: filled, held to its form, voted over, as the file says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lmstack.core import (
    ChatModel,
    Embedder,
    FinishReason,
    Request,
    UnsupportedError,
    Usage,
    complete,
)
from lmstack.prompting.forms import AnswerForm, NotOfFormError
from lmstack.prompting.prompt_file import PromptFile
from lmstack.prompting.structuring import structured_answer, with_words
from lmstack.prompting.thinking import think
from lmstack.prompting.votes import Votes, self_consistency

__all__ = ["PromptAnswer", "PromptAsker"]


@dataclass(frozen=True)
class PromptAnswer:
    """``answer``: a value of the prompt's form, else text; None where the model thought and gave
    none, or where its votes are tied. ``text``: all that it wrote, of the first sample."""

    answer: Any
    text: str
    usage: Usage
    votes: Votes | None = None


class PromptAsker:
    """``prompt`` with the ``model`` that answers it. ``embedder``: where the prompt shows the
    nearest examples. ``attempts``: at an answer of the prompt's form (`structuring`)."""

    def __init__(
        self,
        model: ChatModel,
        prompt: PromptFile,
        *,
        embedder: Embedder | None = None,
        attempts: int = 2,
    ) -> None:
        self.model, self.prompt = model, prompt
        self.template = prompt.template(embedder)
        self._form, self._attempts = prompt.form, attempts

    async def request(self, values: Mapping[str, Any], **fields: Any) -> Request:
        """What is asked with ``values``. ``fields``: further ones of the `Request`."""
        # Choosing examples runs an embedder.
        chat = await asyncio.to_thread(self.template.fill, values)
        return chat.request(self.prompt.sampling_for(self.model.info), **fields)

    async def ask(self, values: Mapping[str, Any], **fields: Any) -> PromptAnswer:
        """The model's answer with ``values``. `StructuredError` where it is not of the form."""
        request, form, chain = (
            await self.request(values, **fields),
            self._form,
            self.template.thinking,
        )
        if self.prompt.samples > 1:
            return await self._voted(request)
        if chain is not None:
            thought = await think(self.model, request, chain, form=form)
            return PromptAnswer(thought.answer, thought.text, thought.usage)
        if form is not None:
            found = await structured_answer(self.model, request, form, attempts=self._attempts)
            return PromptAnswer(found.value, found.text, found.usage)
        completion = await complete(self.model, request)
        return PromptAnswer(completion.text, completion.text, completion.usage)

    async def _voted(self, request: Request) -> PromptAnswer:
        form, chain = self._form, self.template.thinking
        if form is not None and chain is None:
            request = replace(request, grammar=form.grammar)

        def extract(text: str, finish: FinishReason) -> str | None:
            found: str | None = text
            if chain is not None:
                found = chain.extract(text, finish)
            elif form is None and finish == "length":
                return None
            is_cut = chain is None and finish == "length"
            return found if found is None or _is_of(form, found, is_cut=is_cut) else None

        samples = self.prompt.samples
        try:
            votes = await self_consistency(self.model, request, samples, extract=extract)
        except UnsupportedError as error:
            words = form.words if form is not None and error.param == "response_format" else None
            if request.grammar is None or words is None:
                raise
            messages = with_words(request.messages, words)
            request = replace(request, messages=messages, grammar=None)
            votes = await self_consistency(self.model, request, samples, extract=extract)
        answer: Any = votes.answer
        if answer is not None and form is not None:
            answer = form.read(answer)
        return PromptAnswer(answer, votes.texts[0], votes.usage, votes)


def _is_of(form: AnswerForm[Any] | None, text: str, *, is_cut: bool) -> bool:
    try:
        if form is not None:
            form.read(text, is_cut=is_cut)
    except NotOfFormError:
        return False
    return True
