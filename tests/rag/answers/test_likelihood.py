"""The model chooses by the likelihood of the question, and is not needed where it cannot."""

from __future__ import annotations

import asyncio
import re

import pytest

from lmstack.core import (
    ContextLengthError,
    Delta,
    ModelInfo,
    OverloadedError,
    SamplingParams,
    ScriptedModel,
    TokenLogprob,
    UnsupportedError,
    Usage,
)
from lmstack.rag import AnswerConfig, Answerer, Index

QUESTION = "How many requests may a client send a minute?"
CLOSE = AnswerConfig(
    passages=8, min_evidence=-1, candidate_margin=10, candidates=100, likelihood_weight=10
)


class Scorer:
    """Scores prompts: a word of the question costs 1, unless the passage holds ``liked``."""

    def __init__(self, liked: str = "", error: Exception | None = None) -> None:
        self.info = ModelInfo("scorer", None, 1000)
        self.liked, self.error = liked, error
        self.requests = []
        self.open_streams = self.most_at_once = 0

    async def stream(self, request):
        self.requests.append(request)
        self.open_streams += 1
        self.most_at_once = max(self.most_at_once, self.open_streams)
        try:
            await asyncio.sleep(0.001)
            if self.error:
                raise self.error
            words = re.findall(r"\s*\S+\s*?", request.prompt)
            score = -0.1 if self.liked in request.prompt.split("Question:")[0] else -1.0
            scores = [None, *[score] * (len(words) - 1)]
            tokens = [TokenLogprob(w, w.encode(), s) for w, s in zip(words, scores, strict=True)]
            yield Delta(request.prompt, logprobs=tuple(tokens))
            yield Delta(" A", logprobs=(TokenLogprob(" A", b" A", -9.0),))
            yield Delta(finish_reason="length")
            yield Delta(usage=Usage(len(words), 1))
        finally:
            self.open_streams -= 1


@pytest.fixture
def index(tmp_path, docs, embedder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Index.open(tmp_path / "index", embedder) as opened:
        opened.update(["docs"])
        yield opened


async def test_sentence_after_which_the_question_is_likeliest_is_quoted(index):
    for liked in ("penguin breeds", "status 429", "48 metres"):
        answer = await Answerer(index, Scorer(liked), CLOSE).answer(QUESTION)
        assert liked in answer.answer
        assert len(answer.citations) == 1


async def test_candidates_are_scored_side_by_side_under_their_headings(index):
    model = Scorer()
    answer = await Answerer(index, model, CLOSE.replace(candidates=3)).answer(QUESTION)
    assert model.most_at_once == 3
    assert all(r.prompt.endswith(f"\n\nQuestion: {QUESTION}") for r in model.requests)
    assert any(r.prompt.startswith("Serving > Limits\n") for r in model.requests)
    assert answer.usage.prompt_tokens > 30
    assert answer.usage.completion_tokens == 0


async def test_scoring_has_the_caller_and_the_priority_of_the_question(index):
    model = Scorer()
    sampling = SamplingParams(priority=-4)
    answerer = Answerer(index, model, CLOSE)
    assert [e async for e in answerer.stream(QUESTION, sampling=sampling, client="key:1")]
    assert {(r.client, r.sampling.priority) for r in model.requests} == {("key:1", -4)}


async def test_model_is_not_asked_where_one_sentence_stands_out(index):
    model = Scorer()
    answer = await Answerer(index, model, CLOSE.replace(candidate_margin=0)).answer(QUESTION)
    assert "sixty" in answer.answer
    assert not model.requests


@pytest.mark.parametrize("error", [UnsupportedError("no echo"), ContextLengthError("long")])
async def test_model_that_cannot_score_writes_instead(index, error):
    class Writer(ScriptedModel):
        async def stream(self, request):
            if request.echo:
                raise error
            async for delta in super().stream(request):
                yield delta

    model = Writer(["[1] The emperor penguin breeds in winter."])
    answer = await Answerer(index, model, CLOSE).answer("penguin breeds winter?")
    assert answer.answer == "The emperor penguin breeds in winter. [1]"
    assert len(model.requests) == 1


async def test_model_that_ignores_echo_writes_instead(index):
    class Deaf(ScriptedModel):
        async def stream(self, request):
            if request.echo:
                yield Delta("what?", logprobs=(TokenLogprob("what?", b"what?", -1.0),))
            async for delta in super().stream(request):
                yield delta

    answer = await Answerer(index, Deaf(["[1] nothing that is there"]), CLOSE).answer(QUESTION)
    assert not answer.abstained
    assert answer.citations


async def test_error_of_the_model_reaches_the_caller_and_closes_the_rest(index):
    model = Scorer(error=OverloadedError("queue full"))
    with pytest.raises(OverloadedError):
        await Answerer(index, model, CLOSE).answer(QUESTION)
    assert model.open_streams == 0


async def test_cancelled_scoring_lets_the_model_go(index):
    model = Scorer()
    task = asyncio.create_task(Answerer(index, model, CLOSE).answer(QUESTION))
    while not model.open_streams:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.open_streams == 0


async def test_control_tokens_that_a_document_spells_out_are_broken_up(index, docs):
    (docs / "serving.md").write_text("A client <|im_end|> may send sixty requests a minute.\n")
    index.update()
    model = Scorer()
    await Answerer(index, model, CLOSE).answer(QUESTION)
    assert any("< |im_end|>" in r.prompt for r in model.requests)
    assert not any("<|im_end|>" in r.prompt for r in model.requests)


async def test_follow_up_is_scored_with_the_question_before_it(index):
    model = Scorer()
    await Answerer(index, model, CLOSE).answer("How tall is it?", [("Where is the tower?", "…")])
    assert model.requests[0].prompt.endswith("Question: Where is the tower? How tall is it?")
