"""Models that write answers for `answers.py`, and the plain prompt that anybody would write.

`written` is `lmstack ask` with a model that writes, as it is set up for this one. `plain` is the
same model with the same passages in one message, told to cite them by number and to say so if they
do not answer; nothing is checked. It cites the passages whose numbers it writes, or all of them
where it writes none; "I do not know" anywhere is a refusal.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from answers_data import Item
from answers_judge import Shown, Span
from answers_systems import Asked, Prepared

from lmstack.app import wiring
from lmstack.core import ChatModel, Message, Request, SamplingParams, close_model
from lmstack.rag import AnswerWishes
from lmstack.rag.answer.answer import usual_answers
from lmstack.rag.chunk import embedded_text

__all__ = ["load_writers", "writing"]

Ask = Callable[[Item], Shown]

# As `lmstack ask --write`: a model that is too small to write by default does here.
WRITES = AnswerWishes(answers="write")
_PLAIN = (
    "Answer the question from the passages below, in one to three sentences, and cite the number "
    "of the passage after each sentence, like [1]. If the passages do not contain the answer, say "
    '"I do not know."'
)
_UNKNOWN = "i do not know"
_NUMBER = re.compile(r"\[(\d+)\]")


@contextmanager
def load_writers(names: Sequence[str]) -> Iterator[dict[str, ChatModel]]:
    models = {name: wiring.lazy_generator(name) for name in names}
    try:
        yield models
    finally:
        for model in models.values():
            close_model(model)


def writing(writers: Mapping[str, ChatModel], ready: Prepared) -> dict[str, Ask]:
    """Two systems of each model."""
    ways: dict[str, Ask] = {}
    for name, model in writers.items():
        written = Asked(ready, usual_answers(model.info).wished(WRITES), model)
        ways |= {f"written, {name}": written, f"plain, {name}": Plain(written, model)}
    return ways


class Plain:
    """The passages that ``written`` shows to ``model``, in a plain prompt."""

    def __init__(self, written: Asked, model: ChatModel) -> None:
        self._written, self._model = written, model

    def __call__(self, item: Item) -> Shown:
        answerer = self._written.of(item)
        found = answerer.find(item.question)
        hits = [passage.hit for passage in found.read[: answerer.config.shown]]
        if not hits:
            return Shown("", (), float("-inf"), refused=True)
        texts = [f"[{n}] {embedded_text(hit.prefix, hit.text)}" for n, hit in enumerate(hits, 1)]
        asked = "\n\n".join([_PLAIN, *texts, f"Question: {item.question}"])
        started = time.perf_counter()
        text = asyncio.run(self._said(asked))
        seconds = time.perf_counter() - started
        spans = [Span(Path(hit.path).name, hit.start, hit.end) for hit in hits]
        cited = sorted({int(n) for n in _NUMBER.findall(text)} & set(range(1, len(spans) + 1)))
        shown = tuple(spans[n - 1] for n in cited) or tuple(spans)
        refused = _UNKNOWN in " ".join(text.replace("don't", "do not").lower().split())
        confidence = float("-inf") if found.confidence is None else found.confidence
        return Shown(text, shown, confidence, refused, seconds, valid=len(shown))

    async def _said(self, asked: str) -> str:
        sampling = SamplingParams(temperature=0, max_tokens=200)
        request = Request((Message("user", asked),), sampling=sampling)
        return "".join([delta.text async for delta in self._model.stream(request)])
