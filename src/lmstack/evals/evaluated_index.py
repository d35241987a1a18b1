"""An index with a model as what is evaluated: it answers as `lmstack ask` does.

    index: {docs: handbook, answers: {strategy: write}}     in a task file

Not covered: opening the index, and what an answer is worth (`lmstack.evals.metrics.cited_answer`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import lmstack
from lmstack.core import (
    ChatModel,
    Config,
    InputError,
    Message,
    ModelInfo,
    Reranker,
    StoreError,
    check_text,
    shown,
)
from lmstack.evals.json_forms import digest_of
from lmstack.evals.task import ModelOutput, Subject
from lmstack.rag import Answer, AnswerConfig, AnswerDone, Answerer
from lmstack.rag.answer.answer import usual_answers
from lmstack.rag.documents import Document, page_of
from lmstack.rag.retrieve.rewriting import turns_of

if TYPE_CHECKING:
    from lmstack.rag import Index

__all__ = [
    "EvaluatedIndex",
    "IndexSettings",
    "changed",
    "deciding",
    "index_subject",
    "unchanged",
]


@dataclass(frozen=True)
class IndexSettings(Config):
    """``docs``: a folder, whose index is kept and brought up to date, or ``path``: an index as it
    is. ``reader``: see `lmstack ask --reader`. ``answers``: fields of `AnswerConfig` that differ
    from what `lmstack ask` does. ``instructions``: for a model that writes."""

    docs: str = ""
    path: str = ""
    reader: str | None = None
    instructions: str = ""
    answers: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("docs", "path", "instructions"):
            check_text(name, getattr(self, name))
        if self.docs and self.path:
            raise InputError(
                f"the index is of docs {shown(self.docs)} and has the path {shown(self.path)}",
                hint="leave one out",
                param="index",
            )
        if not isinstance(self.answers, Mapping):
            raise InputError(f"answers is {shown(self.answers)}, not a mapping", param="answers")

    def answering(self, model: ModelInfo) -> AnswerConfig:
        """How ``model`` answers."""
        usual = dataclasses.asdict(usual_answers(model))
        found = AnswerConfig.from_mapping({**usual, **self.answers})
        if self.instructions and found.strategy == "quote":
            raise InputError(
                "there are instructions, and answers are quoted, not written",
                hint="answers: {strategy: write}, or leave out the instructions",
                param="instructions",
            )
        return found


class EvaluatedIndex:
    """Answers from ``index``, as it is when this is made. Sources are named by their paths under
    its folder; where it has several, with the name of the folder before. ``how``: what `deciding`
    gave."""

    def __init__(self, index: Index, answerer: Answerer, how: Mapping[str, Any]) -> None:
        self.answerer, self.content = answerer, index.content_digest()
        self.how, self._index = how, index
        roots = [os.path.abspath(each) for each in index.status(check=False).sources]
        self._names = {
            info.id: _name(os.path.abspath(info.path), roots) for info in index.documents()
        }
        self._ids = {name: number for number, name in self._names.items()}
        self._document = lru_cache(256)(self._read)

    @property
    def sources(self) -> frozenset[str]:
        return frozenset(self._ids)

    async def answer(self, turns: Sequence[Message]) -> ModelOutput:
        pairs = turns_of(turns)
        if not pairs or pairs[-1][1]:
            raise InputError(
                "the last turn is no question", hint="end with a turn of the user", param="input"
            )
        began = time.monotonic()
        answer = await self._answer(pairs[-1][0], pairs[:-1])
        return ModelOutput(
            text=answer.answer,
            prompt_tokens=answer.usage.prompt_tokens,
            completion_tokens=answer.usage.completion_tokens,
            seconds=time.monotonic() - began,
            finish_reason="length" if answer.truncated else "stop",
            facts=await asyncio.to_thread(self._facts, answer),
        )

    async def spans(self, source: str, pattern: str) -> list[tuple[int, int]]:
        number = self._ids.get(source)
        if number is None:
            return []
        document = await asyncio.to_thread(self._document, number)
        return [match.span() for match in re.finditer(pattern, document.text)]

    async def _answer(self, question: str, history: Sequence[tuple[str, str]]) -> Answer:
        stream = self.answerer.stream(question, history, instructions=self.how["instructions"])
        async with aclosing(stream) as events:
            async for event in events:
                if isinstance(event, AnswerDone):
                    return event.answer
        raise AssertionError("an answer's stream ended without its last event")

    def _facts(self, answer: Answer) -> dict[str, Any]:
        return {
            "abstained": answer.outcome != "answer",
            "outcome": answer.outcome,
            "confidence": answer.confidence,
            "passages": [
                {**self._place(hit.document_id, hit.start, hit.end), "text": hit.text}
                for hit in answer.hits
            ],
            "read": self.answerer.config.passages,
            "citations": [
                {
                    **self._place(each.document_id, each.start, each.end),
                    **self._there(each.document_id, each.start, each.end),
                    "id": each.id,
                    "quote": each.quote,
                    "page": each.page,
                }
                for each in answer.citations
            ],
        }

    def _place(self, number: int, start: int, end: int) -> dict[str, Any]:
        if number not in self._names:
            raise changed(self._index)
        return {"source": self._names[number], "start": start, "end": end}

    def _there(self, number: int, start: int, end: int) -> dict[str, Any]:
        """What the document itself has in that place."""
        document = self._document(number)
        return {"text": document.text[start:end], "text_page": page_of(document.pages, start)}

    def _read(self, number: int) -> Document:
        return self._index.document(number)


def changed(index: Index) -> StoreError:
    """Answers from before and after are not of one index."""
    return StoreError(
        f"the index {shown(str(index.place))} changed while it was evaluated",
        hint="run it again, on an index that nobody updates meanwhile",
    )


def _name(path: str, roots: Sequence[str]) -> str:
    root = max((r for r in roots if Path(path).is_relative_to(r)), key=len, default="")
    if not root:
        return PurePath(path).as_posix()
    inner = PurePath(path).relative_to(root)
    if not inner.parts:  # a single file is a source of its own
        return PurePath(path).name
    name = inner if len(roots) == 1 else PurePath(root).name / inner
    return name.as_posix()


def index_subject(
    settings: IndexSettings,
    index: Index,
    model: Subject,
    reranker: Reranker | None,
) -> Subject:
    """``model`` answering from ``index``, with ``reranker`` to choose passages. The digest is of
    what the index holds, the models, the settings and this version of lmstack."""
    chat: ChatModel = model.needed_chat()
    config = settings.answering(chat.info)
    answerer = Answerer(index, chat, config, reranker=reranker)
    how = deciding(index, config, reranker, settings.instructions)
    found = EvaluatedIndex(index, answerer, how)
    decides = {
        **how,
        "index": found.content,
        "model": model.digest,
        "lmstack": lmstack.__version__,
    }
    name = f"{model.name} on {settings.docs or Path(index.place).name}"
    digest = digest_of(decides, "the index")
    return Subject(name, digest, chat, model.likelihood, index=found)


def deciding(
    index: Index, config: AnswerConfig, reranker: Reranker | None, instructions: str = ""
) -> dict[str, Any]:
    """What decides an answer beside what ``index`` holds and the model: its embedder, what ranks,
    and the settings. JSON."""
    ranks = None if reranker is None else reranker.info.digest or f"name:{reranker.info.name}"
    return {
        "embedder": index.status(check=False).embedder_digest,
        "reranker": ranks,
        "answers": dataclasses.asdict(config),
        "instructions": instructions,
    }


@contextmanager
def unchanged(index: Index, content: str) -> Iterator[None]:
    """`StoreError` at the end where the index no longer holds what it held."""
    yield
    if index.content_digest() != content:
        raise changed(index)
