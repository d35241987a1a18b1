"""What answers the questions of `answers.py`: lmstack as it is, and simpler ways beside it.

`default` is what `lmstack ask` does, with the models that it uses. The others show something
whatever they find: the first passage of `lmstack search`; the first one by words alone (BM25); of
the ten best passages the one sentence that the reranker takes for the best. The confidence of a
passage or a sentence is the reranker's score for it; words alone have none. What models write is
in `answers_writers`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from answers_data import Collection, Item
from answers_judge import Shown, Span
from retrieval_systems import Remembered
from serving_environments import CACHE

from lmstack.app import wiring
from lmstack.app.wiring import documents, retrieval
from lmstack.core import ChatModel, Reranker, close_model
from lmstack.rag import Answer, AnswerConfig, Answerer, Hit, Index, IndexView, Retriever, preset
from lmstack.rag.filters import Condition
from lmstack.rag.retrieve.stages import reads
from lmstack.rag.sentences import sentence_spans

__all__ = [
    "Asked",
    "Found",
    "Models",
    "Prepared",
    "load_models",
    "prepared",
    "systems",
    "write_documents",
]

FOLDER = CACHE / "answers"
# Passages whose sentences the reranker reads.
PASSAGES = 10


@dataclass(frozen=True)
class Models:
    model: ChatModel
    reranker: Reranker


@contextmanager
def load_models() -> Iterator[Models]:
    """The defaults of `lmstack ask`."""
    reranker = retrieval.answer_reranker(_missing)
    assert reranker is not None
    model = wiring.lazy_generator(None)
    try:
        yield Models(model, reranker)
    finally:
        close_model(model)


def _missing(note: str) -> None:
    raise SystemExit(note)


@dataclass(frozen=True)
class Prepared:
    """A collection that is indexed. ``texts``: of its documents, as extracted, by file name."""

    folder: Path
    index: Index
    texts: Mapping[str, str]
    models: Models
    remembered: Remembered
    language: str

    def view(self, item: Item) -> IndexView:
        """What ``item`` is asked of."""
        if not item.scope:
            return self.index
        paths = tuple(str(self.folder / name) for name in item.scope)
        return self.index.matching(Condition("path", "in", paths))


@contextmanager
def prepared(collection: Collection, models: Models) -> Iterator[Prepared]:
    """The index is kept for the next run, and so are the reranker's scores, except where the time
    of an answer is taken."""
    place = FOLDER / collection.name
    folder = place / "files"
    write_documents(collection, folder)
    # As `lmstack ask` makes one: the documents' language chooses the embedder. Those of other
    # languages than English lie apart from where older runs kept them, made with that for English.
    made = place / ("index" if collection.language == "en" else "index-of-language")
    with documents.open_index(made, None, create=True, sources=[folder], note=print) as index:
        result = index.update([folder])
        for problem in result.problems:
            print(f"    not read: {problem}")
        texts = {Path(info.path).name: index.document(info.id).text for info in index.documents()}
        remembered = Remembered(models.reranker, place / "scores.json")
        yield Prepared(folder.resolve(), index, texts, models, remembered, collection.language)
        remembered.save()


def write_documents(collection: Collection, folder: Path) -> None:
    """The files of a collection, and no others, in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name not in collection.documents:
            path.unlink()
    for name, text in collection.documents.items():
        path = folder / name
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


class Asked:
    """`lmstack ask`; one answerer for all questions that are asked of everything."""

    def __init__(
        self, ready: Prepared, config: AnswerConfig | None = None, model: ChatModel | None = None
    ) -> None:
        self._ready, self._config = ready, config or AnswerConfig()
        self._model = model or ready.models.model
        self._open = self._answerer(ready.index)

    def _answerer(self, view: IndexView) -> Answerer:
        return Answerer(view, self._model, self._config, reranker=self._ready.models.reranker)

    def of(self, item: Item) -> Answerer:
        return self._answerer(self._ready.view(item)) if item.scope else self._open

    def __call__(self, item: Item) -> Shown:
        answerer = self.of(item)
        started = time.perf_counter()
        answer = asyncio.run(answerer.answer(item.question))
        seconds = time.perf_counter() - started
        spans = tuple(Span(Path(c.path).name, c.start, c.end) for c in answer.citations)
        quotes = not answer.sentences
        text = " ".join(c.quote for c in answer.citations) if quotes else answer.answer
        return Shown(
            text if spans else answer.answer,
            spans,
            float("-inf") if answer.confidence is None else answer.confidence,
            answer.outcome != "answer",
            seconds,
            _num_valid(answer, self._ready.texts),
            bool(answer.conflicts),
        )


def _num_valid(answer: Answer, texts: Mapping[str, str]) -> int:
    """Citations that quote their document, lie in a passage that was found, and are numbered in
    the answer."""
    found = [(hit.path, hit.start, hit.end) for hit in answer.hits]
    return sum(
        texts[Path(c.path).name][c.start : c.end] == c.quote
        and f"[{c.id}]" in answer.answer
        and any(p == c.path and start <= c.start and c.end <= end for p, start, end in found)
        for c in answer.citations
    )


class Found:
    """The passages of `lmstack search` for an item, and what is shown of them without more ado."""

    def __init__(self, ready: Prepared) -> None:
        self._ready = ready
        self._last: tuple[Item, list[Hit]] | None = None

    def hits(self, item: Item) -> list[Hit]:
        if self._last is None or self._last[0] != item:
            ready = self._ready
            search = Retriever(ready.view(item), preset("default"), reranker=ready.remembered)
            self._last = (item, search.search(item.question, PASSAGES).hits)
        return self._last[1]

    def first(self, item: Item) -> Shown:
        hits = self.hits(item)
        if not hits:
            return _NOTHING
        return _passage(hits, float(self._ready.remembered.score(item.question, [hits[0].text])[0]))

    def by_words(self, item: Item) -> Shown:
        hits = self._ready.view(item).search(item.question, 1, "lexical")
        return _passage(hits, 0.0) if hits else _NOTHING

    def sentence(self, item: Item) -> Shown:
        sentences = [
            Span(Path(hit.path).name, hit.start + start, hit.start + end)
            for hit in self.hits(item)
            for start, end in sentence_spans(hit.text)
        ]
        if not sentences:
            return _NOTHING
        texts = [self._ready.texts[each.path][each.start : each.end] for each in sentences]
        scores = self._ready.remembered.score(item.question, texts)
        best = int(scores.argmax())
        return Shown(texts[best], (sentences[best],), float(scores[best]), valid=1)


_NOTHING = Shown("", (), float("-inf"), refused=True)


def _passage(hits: Sequence[Hit], confidence: float) -> Shown:
    first = hits[0]
    span = Span(Path(first.path).name, first.start, first.end)
    return Shown(first.text, (span,), confidence, valid=1)


def systems(ready: Prepared) -> dict[str, Callable[[Item], Shown]]:
    """The best sentence only where the reranker reads the language."""
    found = Found(ready)
    ways = {
        "default": Asked(ready),
        "first passage": found.first,
        "BM25's first": found.by_words,
    }
    if reads(ready.models.reranker.info, ready.language):
        ways["best sentence"] = found.sentence
    return ways
