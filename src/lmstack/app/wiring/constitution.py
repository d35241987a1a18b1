"""Who writes and judges in a constitutional run: local models through the engine, remote ones
through their API."""

from __future__ import annotations

from lmstack.app import wiring
from lmstack.core import ChatModel
from lmstack.evals.judging import PairJudge

__all__ = ["WritingModels"]


class WritingModels:
    """`Models` of `lmstack.pipelines.constitution.stages`. A model is loaded when it is first asked
    and serves every stage that names it, until `release`. ``weights``: the form of local ones."""

    def __init__(self, weights: str | None) -> None:
        self._weights = weights
        self._opened: dict[str, ChatModel] = {}

    def open(self, name: str) -> ChatModel:
        if name not in self._opened:
            form = None if wiring.is_remote(name) else self._weights
            self._opened[name] = wiring.lazy_generator(name, form)
        return self._opened[name]

    def judge(self, model: ChatModel) -> PairJudge:
        return PairJudge(model)

    def release(self) -> None:
        while self._opened:
            wiring.close(self._opened.popitem()[1])
