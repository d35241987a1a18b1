"""Two models opened, asked and scored: what `lmstack eval answers` and the end of a run do.

    draw answers of both -> rewards -> judge -> both modules over the same tokens -> `evals.compare`

A model and its adapter share one engine. For what needs tensors both are loaded once more, in
float32 unless the base is held in another form, and only where both are on this machine and have
the same tokens. Not covered: the figures (`lmstack.evals`) and the page (`app.comparison`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.core import ChatModel, InputError, Message, close_model
from lmstack.core.files import store_error
from lmstack.evals.answers import SIDES, DrawingConfig, ModelAnswer, Pairing, draw
from lmstack.evals.judging import PairJudge, Verdict
from lmstack.release.releases import is_remote

if TYPE_CHECKING:
    from lmstack.app.comparison.config import ReportConfig
    from lmstack.app.comparison.prompts import AskedPrompt
    from lmstack.app.comparison.report import Report
    from lmstack.evals.answers import AnswerScores, TextScores
    from lmstack.registry import LoadedModel
    from lmstack.train.rollouts.protocol import Reward, WeightedReward

__all__ = ["ComparisonSetup", "Opening", "Side", "compared", "planned"]

_JUDGED_AT_ONCE = _REWARDED_AT_ONCE = 16
Told = Callable[[str, int, int], None]
Rewarded = Callable[[Sequence[tuple[Pairing, ModelAnswer]]], list[float]]


@dataclass(frozen=True)
class Side:
    """``model``: a name in the store, a folder, or a remote one. ``adapter``: a folder of LoRA
    beside it. ``weights``: the form that the model is held in, None: the usual one."""

    model: str
    adapter: Path | None = None
    weights: str | None = None

    @property
    def name(self) -> str:
        return Path(self.adapter or self.model).name if self._is_path else self.model

    @property
    def _is_path(self) -> bool:
        return self.adapter is not None or "/" in self.model

    @property
    def is_remote(self) -> bool:
        return is_remote(self.model)


@dataclass(frozen=True)
class Opening:
    """``model``: by name and the form of its weights; ``reward``: by name and settings, as in a
    recipe."""

    model: Callable[[str, str | None], ChatModel]
    reward: Callable[[str, Mapping[str, Any]], Reward]


@dataclass(frozen=True)
class ComparisonSetup:
    """What is compared, and how. ``rewards``: whose weighted sum is the reward. ``preferences``:
    chosen and rejected answers that the tuned model learned from. ``settings``: what the report
    says beside it of how it was made."""

    opening: Opening
    base: Side
    tuned: Side
    prompts: Sequence[AskedPrompt]
    drawing: DrawingConfig
    rewards: Sequence[WeightedReward] = ()
    judge: str | None = None
    benign: Sequence[AskedPrompt] = ()
    text: str | None = None
    preferences: Sequence[tuple[ModelAnswer, ModelAnswer]] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


def planned(
    opening: Opening,
    base: Side,
    tuned: Side,
    config: ReportConfig,
    *,
    seed: int = 0,
    note: Callable[[str], None] = lambda _: None,
) -> ComparisonSetup:
    """``config`` with its files read and its rewards opened, before anything slow begins."""
    from lmstack.app.comparison.prompts import read_prompts

    prompts = read_prompts(config.prompts, config.most, seed=seed, note=note)
    benign = config.benign and read_prompts(
        config.benign, config.most, seed=seed, param="benign", note=note
    )
    drawing = DrawingConfig(config.samples, config.max_tokens, config.temperature, seed)
    return ComparisonSetup(
        opening,
        base,
        tuned,
        prompts,
        drawing,
        rewards=_rewards(config.rewards, opening),
        judge=config.judge,
        benign=benign or (),
        text=None if config.text is None else _text(Path(config.text)),
        settings={"prompts": ", ".join(config.prompts), "text": config.text},
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start})", param="text") from error
    except OSError as error:
        raise store_error(error, path, "reading") from error


def compared(plan: ComparisonSetup, told: Told = lambda _doing, _done, _total: None) -> Report:
    """The whole comparison. ``told``: what is being done, and how far it is."""
    from lmstack.app.comparison.report import Report
    from lmstack.evals.comparison import compare

    asked = [*plan.prompts, *plan.benign]
    with _opened(plan) as (base, tuned):
        digests = {"base": base.info.digest, "tuned": tuned.info.digest}
        before = _drawn(base, asked, plan, told, f"Answers of {plan.base.name}")
        after = _drawn(tuned, asked, plan, told, f"Answers of {plan.tuned.name}")
    pairings = [
        Pairing(prompt.messages, one, other, prompt.row)
        for prompt, one, other in zip(asked, before, after, strict=True)
    ]
    benign = pairings[len(plan.prompts) :]
    pairings = pairings[: len(plan.prompts)]
    unmeasured = {} if plan.judge else {"win rate by a judge": "no judge was given"}
    verdicts = _judged(plan.judge, plan.opening, pairings, told) if plan.judge else []
    scores, text = _scored(plan, pairings, told, unmeasured)
    rescore = None
    if plan.rewards:
        reward = _scoring(plan)
        pairings = _rewarded(pairings, reward, told)

        def rescore(texts: Sequence[tuple[Pairing, str]]) -> list[float]:
            return reward([(pairing, ModelAnswer(text, 0)) for pairing, text in texts])

    found = compare(
        pairings,
        scores=scores,
        text=text,
        benign=benign,
        verdicts=verdicts,
        rescore=rescore,
        preferences=plan.preferences,
        unmeasured=unmeasured,
    )
    return Report(plan.base.name, plan.tuned.name, found, digests, _settings(plan))


def _settings(plan: ComparisonSetup) -> dict[str, Any]:
    drawing = plan.drawing
    return {
        "samples": drawing.samples,
        "max_tokens": drawing.max_tokens,
        "temperature": drawing.temperature,
        "seed": drawing.seed,
        "rewards": {each.reward.name: each.weight for each in plan.rewards} or None,
        "judge": plan.judge,
        "benign_requests": len(plan.benign) or None,
        **plan.settings,
    }


@contextmanager
def _opened(plan: ComparisonSetup) -> Iterator[tuple[ChatModel, ChatModel]]:
    """Both models, an adapter of the base in the base's engine."""
    base = plan.opening.model(plan.base.model, plan.base.weights)
    other: ChatModel | None = None
    try:
        if plan.tuned.adapter is not None:
            yield base, _adapted(base, plan.tuned)
        else:
            other = plan.opening.model(plan.tuned.model, plan.tuned.weights)
            yield base, other
    finally:
        close_model(base)
        if other is not None:
            close_model(other)


def _adapted(base: ChatModel, side: Side) -> ChatModel:
    from lmstack.serve import LocalModel

    if not isinstance(base, LocalModel):
        raise InputError(
            f"{side.adapter} is an adapter, and {base.info.name} is not on this machine",
            hint="compare a model in the store with it",
            param="tuned",
        )
    assert side.adapter is not None
    return base.with_adapter(side.adapter)


def _drawn(
    model: ChatModel, asked: Sequence[AskedPrompt], plan: ComparisonSetup, told: Told, doing: str
) -> list[tuple[ModelAnswer, ...]]:
    prompts: list[Sequence[Message]] = [prompt.messages for prompt in asked]
    return asyncio.run(
        draw(model, prompts, plan.drawing, lambda done: told(doing, done, len(prompts)))
    )


def _judged(name: str, opening: Opening, pairings: Sequence[Pairing], told: Told) -> list[Verdict]:
    """Of the first answers, the tuned one named first."""
    model = opening.model(name, None)
    judge, limit, done = PairJudge(model), asyncio.Semaphore(_JUDGED_AT_ONCE), 0

    async def one(pairing: Pairing) -> Verdict:
        nonlocal done
        async with limit:
            found = await judge.compare(
                pairing.messages, pairing.tuned[0].text, pairing.base[0].text
            )
        done += 1
        told(f"Judging by {name}", done, len(pairings))
        return found

    async def all_of() -> list[Verdict]:
        return list(await asyncio.gather(*map(one, pairings)))

    try:
        return asyncio.run(all_of())
    finally:
        close_model(model)


def _scored(
    plan: ComparisonSetup, pairings: Sequence[Pairing], told: Told, unmeasured: dict[str, str]
) -> tuple[AnswerScores | None, TextScores | None]:
    """What needs both modules; the reason in ``unmeasured`` where that cannot be."""
    from lmstack.app.comparison.scoring import SideScorer, difference_of
    from lmstack.app.inspect import quality

    if plan.base.is_remote or plan.tuned.is_remote:
        problem: str | None = "a model is not on this machine"
        models = None
    else:
        models = _loaded(plan)
        problem = difference_of(*models)
    if models is None or problem is not None:
        figures = ("KL to the base", "entropy", "perplexity", "calibration")
        unmeasured.update(dict.fromkeys(figures, problem or ""))
        return None, None
    scorer = SideScorer(*models)
    text = scorer.text(
        plan.text or quality.text(), lambda done, total: told("Held-out text", done, total)
    )
    answers = scorer.answers(
        pairings, lambda done, total: told("Divergence from the base", done, total)
    )
    return answers, text


def _loaded(plan: ComparisonSetup) -> tuple[LoadedModel, LoadedModel]:
    from lmstack.model import load_adapter
    from lmstack.registry import load

    base = load(plan.base.model, weights=plan.base.weights)
    tuned = load(plan.tuned.model, weights=plan.tuned.weights)
    if plan.tuned.adapter is not None:
        load_adapter(tuned.module, plan.tuned.adapter)
    for model in (base, tuned):
        model.module.eval()
    return base, tuned


def _rewards(given: Any, opening: Opening) -> list[WeightedReward]:
    """As an objective's ``rewards``: names, or mappings with a ``name``, a ``weight`` and
    settings."""
    from lmstack.train.objectives.online import reward_setting
    from lmstack.train.rollouts.protocol import WeightedReward

    many = given if isinstance(given, list | tuple) else [given]
    return [
        WeightedReward(opening.reward(each.name, each.settings), each.weight)
        for each in map(reward_setting, many)
    ]


def _scoring(plan: ComparisonSetup) -> Rewarded:
    """The weighted sum of the rewards, of answers with or without ids."""
    from lmstack.registry import load_text
    from lmstack.train.rollouts.protocol import RolloutSample

    text = None if plan.tuned.is_remote else load_text(plan.tuned.model)

    def sample(pairing: Pairing, answer: ModelAnswer) -> RolloutSample:
        prompt: tuple[int, ...] = ()
        ids = answer.ids
        if text is not None and text.template is not None:
            prompt = tuple(text.template.encode(pairing.messages, text.tokenizer))
            ids = ids or tuple(
                text.tokenizer.encode(answer.text, special=False, add_special_tokens=False)
            )
        nought = (0.0,) * len(ids)
        return RolloutSample(
            pairing.messages, prompt, ids, nought, answer.text, answer.finish, pairing.row
        )

    def reward(asked: Sequence[tuple[Pairing, ModelAnswer]]) -> list[float]:
        samples = [sample(pairing, answer) for pairing, answer in asked]
        scores = [(each.weight, each.reward.score(samples)) for each in plan.rewards]
        return [sum(weight * values[n] for weight, values in scores) for n in range(len(samples))]

    return reward


def _rewarded(pairings: Sequence[Pairing], reward: Rewarded, told: Told) -> list[Pairing]:
    found: list[Pairing] = []
    for start in range(0, len(pairings), _REWARDED_AT_ONCE):
        group = pairings[start : start + _REWARDED_AT_ONCE]
        scores = iter(reward([(p, a) for p in group for side in SIDES for a in side(p)]))
        for each in group:
            base, tuned = (
                tuple(answer.rewarded(next(scores)) for answer in side(each)) for side in SIDES
            )
            found.append(replace(each, base=base, tuned=tuned))
        told("Rewards", len(found), len(pairings))
    return found
