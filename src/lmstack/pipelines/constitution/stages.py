"""The stages that models write: drafts, critiques, revisions, two answers, verdicts.

An item of which nothing could be made (a conversation too long for the model, an empty answer)
keeps the reason as its ``problem``, and the stages after it pass it over. Does not cover files
(`stage`) and training (`run`).
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Protocol

from lmstack.core import (
    ChatModel,
    Choice,
    Completion,
    ContextLengthError,
    Message,
    Request,
    SamplingParams,
    complete,
)
from lmstack.pipelines.constitution import requests
from lmstack.pipelines.constitution.labels import PairLabel, PrincipleVerdict
from lmstack.pipelines.constitution.principles import Constitution, Principle
from lmstack.pipelines.constitution.prompts import Conversation, ReadPrompts, as_json
from lmstack.pipelines.constitution.recipe import ConstitutionalRecipe
from lmstack.pipelines.constitution.stage import Items, digest_of, seed_of, write_stage

__all__ = ["Judge", "JudgedPair", "Models", "Stages", "labels_of", "pair_texts", "texts_of"]


class JudgedPair(Protocol):
    """What a judge says of two answers: `lmstack.evals.judging.Verdict`. ``forward`` and
    ``backward``: the log-odds that the first is better, shown first and second; None where the
    judge named neither. ``probability``: of both orders together."""

    @property
    def forward(self) -> float | None: ...
    @property
    def backward(self) -> float | None: ...
    @property
    def probability(self) -> float: ...


class Judge(Protocol):
    async def compare(
        self, prompt: Sequence[Message], first: str, second: str, criterion: str | None = None
    ) -> JudgedPair:
        """Which of two answers is better by ``criterion``, in both orders."""


class Models(Protocol):
    """Where models that write and judge come from."""

    def open(self, name: str) -> ChatModel:
        """The model that ``name`` means, local or remote. Its ``info`` costs nothing; it may load
        when it is first asked."""

    def judge(self, model: ChatModel) -> Judge:
        """Judges by asking ``model``."""

    def release(self) -> None:
        """Free what is loaded, before a training begins."""


class Stages:
    """Of one run. ``told``: of a stage, its items done and all of them."""

    def __init__(
        self,
        recipe: ConstitutionalRecipe,
        constitution: Constitution,
        prompts: ReadPrompts,
        models: Models,
        told: Callable[[str, int, int], None],
    ) -> None:
        self._recipe, self._constitution = recipe, constitution
        self._prompts, self._models, self._told = prompts, models, told

    def drafts(self) -> Items:
        """The base's own answers."""
        model = self._models.open(self._recipe.base)

        async def draft(key: str, prompt: Conversation) -> dict[str, Any]:
            made = await self._text(model, prompt, "drafts", key, self._recipe.answer_tokens)
            return {"prompt": as_json(prompt), **made}

        works = {key: partial(draft, key, p) for key, p in self._prompts.by_key.items()}
        made_by = {**self._written_by(model), "prompts": self._prompts.digest}
        made_by["max_tokens"] = self._recipe.answer_tokens
        return self._stage("drafts", made_by, works)

    def critiques(self, turn: int, answers: Mapping[str, str]) -> Items:
        """What the writer finds wrong with ``answers``, in round ``turn``, by a principle each."""
        model, stage = self._writer(), f"critiques-{turn}"

        async def criticize(key: str, answer: str) -> dict[str, Any]:
            principle = self._principle(key, turn)
            messages = requests.critique(self._prompts.by_key[key], answer, principle)
            made = await self._text(model, messages, stage, key, self._recipe.critique_tokens)
            return {"principle": principle.name, **made}

        works = {key: partial(criticize, key, answer) for key, answer in answers.items()}
        made_by = {**self._by_principles(model), "inputs": digest_of(answers)}
        made_by["max_tokens"] = self._recipe.critique_tokens
        return self._stage(stage, made_by, works)

    def revisions(self, turn: int, answers: Mapping[str, str], critiques: Items) -> Items:
        """What the writer answers instead."""
        model, stage, criticisms = self._writer(), f"revisions-{turn}", texts_of(critiques)

        async def revise(key: str, criticism: str) -> dict[str, Any]:
            principle, prompt = self._principle(key, turn), self._prompts.by_key[key]
            messages = requests.revision(prompt, answers[key], criticism, principle)
            made = await self._text(model, messages, stage, key, self._recipe.answer_tokens)
            return {"principle": principle.name, **made}

        works = {key: partial(revise, key, text) for key, text in criticisms.items()}
        made_by = {**self._by_principles(model), "inputs": digest_of([answers, criticisms])}
        made_by["max_tokens"] = self._recipe.answer_tokens
        return self._stage(stage, made_by, works)

    def answers(self) -> Items:
        """Two answers of the tuned model to each prompt."""
        model = self._models.open(self._recipe.tuned)

        async def answer_twice(key: str, prompt: Conversation) -> dict[str, Any]:
            longest = self._recipe.answer_tokens
            done = await self._asked(model, prompt, "answers", key, longest, n=2)
            if isinstance(done, str):
                return {"problem": done}
            return {
                "texts": [choice.text.strip() for choice in done.choices],
                "finishes": [choice.finish_reason for choice in done.choices],
            }

        works = {key: partial(answer_twice, key, p) for key, p in self._prompts.by_key.items()}
        made_by = {**self._written_by(model), "prompts": self._prompts.digest}
        made_by["max_tokens"] = self._recipe.answer_tokens
        return self._stage("answers", made_by, works)

    def verdicts(self, answers: Items) -> Items:
        """Which answer of each pair is better by each of a few principles, in both orders."""
        model = self._models.open(self._recipe.judge or self._recipe.base)
        judge, pairs = self._models.judge(model), pair_texts(answers)

        async def compare(key: str) -> dict[str, Any]:
            # One after the other: in each order the prompts differ in their last line alone.
            prompt, (one, other) = self._prompts.by_key[key], pairs[key]
            found = []
            try:
                for principle in self._compared_by(key):
                    said = await judge.compare(prompt, one, other, principle.preference)
                    found.append(asdict(_verdict(principle, said)))
            except ContextLengthError as error:
                return {"problem": error.message}
            return {"verdicts": found}

        works = {key: partial(compare, key) for key in pairs}
        made_by = {
            "model": _identity(model),
            "seed": self._recipe.seed,
            "principles": self._constitution.digest,
            "labels": self._recipe.labels,
            "inputs": digest_of(pairs),
        }
        return self._stage("labels", made_by, works)

    # -- inside --------------------------------------------------------------------------------

    def _stage(
        self,
        stage: str,
        made_by: Mapping[str, Any],
        works: Mapping[str, Callable[[], Awaitable[dict[str, Any]]]],
    ) -> Items:
        path = self._recipe.folder / f"{stage}.jsonl"
        settings = {"stage": stage, **made_by}
        return write_stage(path, settings, works, self._recipe.at_once, partial(self._told, stage))

    def _writer(self) -> ChatModel:
        return self._models.open(self._recipe.writer or self._recipe.base)

    def _written_by(self, model: ChatModel) -> dict[str, Any]:
        recipe = self._recipe
        settings = {"temperature": recipe.temperature, "seed": recipe.seed}
        return {"model": _identity(model), **settings}

    def _by_principles(self, model: ChatModel) -> dict[str, Any]:
        return {**self._written_by(model), "principles": self._constitution.digest}

    def _principle(self, key: str, turn: int) -> Principle:
        """Of round ``turn``: another each time, as long as there are some."""
        names = len(self._constitution.principles)
        order = self._constitution.drawn(names, self._recipe.seed, "critique", key)
        return order[(turn - 1) % names]

    def _compared_by(self, key: str) -> tuple[Principle, ...]:
        return self._constitution.drawn(self._recipe.labels, self._recipe.seed, "label", key)

    async def _text(
        self, model: ChatModel, messages: Conversation, stage: str, key: str, longest: int
    ) -> dict[str, Any]:
        done = await self._asked(model, messages, stage, key, longest)
        if isinstance(done, str):
            return {"problem": done}
        return _kept(done.choices[0])

    async def _asked(
        self,
        model: ChatModel,
        messages: Conversation,
        stage: str,
        key: str,
        longest: int,
        **sampling: Any,
    ) -> Completion | str:
        """What the model answers; or why it cannot."""
        # A seed makes an answer again where the weights are known; not every provider takes one.
        seed = seed_of(self._recipe.seed, stage, key) if model.info.digest is not None else None
        settings = {"temperature": self._recipe.temperature, "seed": seed, **sampling}
        params = SamplingParams(max_tokens=longest, **settings)
        try:
            return await complete(model, Request(messages=tuple(messages), sampling=params))
        except ContextLengthError as error:
            return error.message


def _identity(model: ChatModel) -> str:
    return model.info.digest or model.info.name


def _verdict(principle: Principle, said: JudgedPair) -> PrincipleVerdict:
    first, second = map(_sigmoid, (said.forward, said.backward))
    is_known = first is not None or second is not None
    return PrincipleVerdict(principle.name, first, second, said.probability if is_known else None)


def _sigmoid(odds: float | None) -> float | None:
    if odds is None:
        return None
    if odds < 0:
        return math.exp(odds) / (1 + math.exp(odds))
    return 1 / (1 + math.exp(-odds))


def _kept(choice: Choice) -> dict[str, Any]:
    text = choice.text.strip()
    made = {"text": text, "finish": choice.finish_reason}
    return made if text else {**made, "problem": "the answer is empty"}


def texts_of(items: Items) -> dict[str, str]:
    """The texts of a stage by key, without those that have a problem."""
    return {key: item["text"] for key, item in items.items() if "problem" not in item}


def pair_texts(answers: Items) -> dict[str, tuple[str, str]]:
    """The pairs that are worth comparing, by key: two different answers, each with its end."""
    found = {}
    for key, item in answers.items():
        if "problem" not in item and all(finish == "stop" for finish in item["finishes"]):
            one, other = item["texts"]
            if one and other and one != other:
                found[key] = (one, other)
    return found


def labels_of(items: Items) -> dict[str, PairLabel]:
    """The label of each pair that was compared, by its prompt's key."""
    compared = {key: item["verdicts"] for key, item in items.items() if "problem" not in item}
    return {
        key: PairLabel(tuple(PrincipleVerdict(**verdict) for verdict in verdicts))
        for key, verdicts in compared.items()
    }
