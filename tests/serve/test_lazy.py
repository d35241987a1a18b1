"""Models that a command loads late, or beside other work."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future

import numpy as np
import numpy.typing as npt
import pytest

from lmstack.core import Delta, ModelInfo, Request, Reranker, ScriptedModel, complete_sync
from lmstack.serve.lazy import LazyModel, RerankerAhead, loading

INFO = ModelInfo("tiny", "sha256:" + "0" * 64)
ASKED = Request(prompt="hello")


class Closed(ScriptedModel):
    closed = 0

    def close(self) -> None:
        self.closed += 1


def test_a_model_that_is_never_asked_is_never_loaded() -> None:
    model = LazyModel(INFO, lambda: pytest.fail("loaded"))
    assert model.info == INFO
    model.close()


def test_a_model_is_loaded_once_and_closed() -> None:
    made: list[Closed] = []

    def load() -> Closed:
        made.append(Closed(["one", "two"], name="tiny"))
        return made[-1]

    model = LazyModel(INFO, load)
    assert [complete_sync(model, ASKED).text for _ in range(2)] == ["one", "two"]
    model.close()
    assert [each.closed for each in made] == [1]


def test_what_cannot_be_loaded_is_an_error_where_it_is_asked() -> None:
    def load() -> ScriptedModel:
        raise ValueError("no weights")

    def stream() -> AsyncIterator[Delta]:
        return LazyModel(INFO, load).stream(ASKED)

    with pytest.raises(ValueError, match="no weights"):
        stream()


class Lengths:
    info = INFO

    def score(self, query: str, passages: list[str]) -> npt.NDArray[np.float32]:
        return np.array([len(passage) for passage in passages], np.float32)


def test_a_reranker_is_waited_for_when_it_is_used_and_not_before() -> None:
    may_end = threading.Event()

    def load() -> Reranker:
        may_end.wait(10)
        return Lengths()

    with loading(load) as future:
        reranker = RerankerAhead(future)
        assert not future.done()
        may_end.set()
        assert reranker.score("q", ["a", "bb"]).tolist() == [1, 2]
        assert reranker.info == INFO


def test_leaving_waits_for_what_is_loading() -> None:
    ended: list[bool] = []
    with loading(lambda: ended.append(True)) as future:
        assert isinstance(future, Future)
    assert ended == [True]
