"""Extractive question answering: the span of a document that answers a question.

Long documents are seen through windows that overlap, and a model trained with unanswerable
questions (SQuAD 2) may say that there is no answer. The definition is that of transformers 4's
``question-answering`` pipeline, which version 5 dropped: probabilities are normed within each
window, and equal answers of several windows add up. Does not cover generated answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lmstack.core import Config, InputError, allowed
from lmstack.registry import LoadedModel
from lmstack.serve.activations import probabilities
from lmstack.serve.tasks.base import EncoderTask, text_of
from lmstack.serve.tasks.results import ExtractedAnswer, ExtractedAnswers
from lmstack.text import Window

__all__ = ["AnswerOptions", "QuestionAnswering"]

Question = tuple[str, str]
Floats = npt.NDArray[np.float32]
Span = tuple[int, int, float]

MASKED = -10000.0


@dataclass(frozen=True)
class AnswerOptions(Config):
    """``question``: of texts that come without one. ``top_k``: answers of each. ``no_answer``:
    the document may hold none. ``max_answer_tokens``: of an answer. ``max_length``: tokens of a
    window with the question (None: 384, or the model's limit), ``stride``: by which windows
    overlap (None: half a window, at most 128). ``align_to_words``: never cut a word in two."""

    question: str = ""
    top_k: int = allowed(1, int, 1, 10_000)
    no_answer: bool = False
    max_answer_tokens: int = allowed(15, int, 1, 1 << 31)
    max_length: int | None = allowed(None, int, 1, 1 << 31)
    stride: int | None = allowed(None, int, 0, 1 << 31)
    align_to_words: bool = True


class QuestionAnswering(EncoderTask[Question, AnswerOptions, ExtractedAnswers]):
    """Inputs: documents with the option ``question``, or mappings with ``question`` and
    ``context``."""

    name = "question-answering"
    options_type = AnswerOptions

    def __init__(self, loaded: LoadedModel, **options: Any) -> None:
        super().__init__(loaded, **options)
        name = loaded.tokenizer.name_of("cls_token")
        self._cls_id = loaded.tokenizer.id_of(name) if name else None

    def read(self, value: Any, name: str, options: AnswerOptions, /) -> Question:
        context = text_of(value, name, "context", "question")
        own = value.get("question") if isinstance(value, Mapping) else None
        question = text_of(own or options.question, f"the question of {name}")
        if not question.strip():
            hint = "set the option question"
            raise InputError(f"{name} comes without a question", hint=hint, param="question")
        if not context.strip():
            hint = "leave empty texts out"
            raise InputError(f"the context of {name} is empty", hint=hint, param="context")
        return question, context

    def run(self, items: Sequence[Question], options: AnswerOptions) -> list[ExtractedAnswers]:
        length = options.max_length or min(self.encoder.limit, 384)
        stride = min(length // 2, 128) if options.stride is None else options.stride
        windows = self.encoder.encode(
            [question for question, _ in items],
            [context for _, context in items],
            cut="second",
            stride=stride,
            max_length=length,
        )
        flat = [window for each in windows for window in each]
        logits = iter([scores.numpy() for scores in self.encoder.logits(flat)])
        return [
            self._answers(context, [(window, next(logits)) for window in each], options)
            for (_, context), each in zip(items, windows, strict=True)
        ]

    def _answers(
        self, context: str, windows: Sequence[tuple[Window, Floats]], options: AnswerOptions
    ) -> ExtractedAnswers:
        found: dict[str, ExtractedAnswer] = {}
        least_null = 1_000_000.0
        # Some are lost to words that hold the same answer.
        wanted = options.top_k * 2 + 10 if options.align_to_words else options.top_k
        for window, logits in windows:
            allowed = self._allowed(window)
            masked = np.where(allowed[:, None], logits[:, :2], MASKED)
            start, end = (probabilities(masked[:, i], "softmax") for i in (0, 1))
            if options.no_answer:
                least_null = min(least_null, float(start[0] * end[0]))
            start[0] = end[0] = 0.0  # the first token stands for "no answer"
            for first, last, score in best_spans(
                start, end, wanted, options.max_answer_tokens, allowed
            ):
                left, right = _characters(window, first, last, words=options.align_to_words)
                text = context[left:right]
                known = found.get(text.lower())
                if known is None:
                    found[text.lower()] = ExtractedAnswer(text, score, left, right)
                else:
                    total = known.score + score
                    found[text.lower()] = ExtractedAnswer(
                        known.answer, total, known.start, known.end
                    )
        answers = list(found.values())
        if options.no_answer:
            answers.append(ExtractedAnswer("", least_null, 0, 0))
        answers.sort(key=lambda answer: answer.score, reverse=True)
        return ExtractedAnswers(tuple(answers[: options.top_k]))

    def _allowed(self, window: Window) -> npt.NDArray[np.bool_]:
        """Tokens of the document, and the one that stands for "no answer"."""
        return np.array(
            [
                sequence == 1 or (self._cls_id is not None and index == self._cls_id)
                for sequence, index in zip(window.sequences, window.ids, strict=True)
            ]
        )


def best_spans(
    start: Floats, end: Floats, count: int, longest: int, allowed: npt.NDArray[np.bool_]
) -> Iterator[Span]:
    """(first, last, probability) of the likeliest spans of at most ``longest`` tokens, best
    first. ``start``, ``end``: (T,)."""
    scores = np.tril(np.triu(np.outer(start, end)), longest - 1).ravel()
    if count < len(scores):
        order = np.argpartition(-scores, count)[:count]
        order = order[np.argsort(-scores[order], kind="stable")]
    else:
        order = np.argsort(-scores, kind="stable")
    for place in order:
        first, last = divmod(int(place), len(start))
        if allowed[first] and allowed[last] and first <= last < first + longest:
            yield first, last, float(scores[place])


def _characters(window: Window, first: int, last: int, *, words: bool) -> tuple[int, int]:
    left = window.word_span(first) if words else None
    right = window.word_span(last) if words else None
    if left is None or right is None:  # tokenizers without words
        return window.offsets[first][0], window.offsets[last][1]
    return left[0], right[1]
