"""Updates from answers: a step draws them, has them rewarded, and learns from them.

    prompts of k -> samples, by the weights of now -> rewards -> what is known of each token
      -> epochs x minibatches updates

Of several processes each draws answers to its share of the prompts, with an engine of its own, and
has them rewarded. Then all know all of them, and each learns from its share.

Seeds of samples follow from (seed, step, prompt, sample), so a step is a function of its number and
the weights, also one that is drawn ahead: with ``ahead`` the samples of step k + 1 are drawn while
step k is learned from, by the weights that k began with, and a checkpoint holds them.

Not covered: who draws and who rewards (`protocol`), and the losses (`objectives`).
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmstack.core import InputError
from lmstack.model import ForwardContext, Transformer
from lmstack.train.checkpoint import Checkpoints
from lmstack.train.data.examples import Batch
from lmstack.train.loader import Loader, steps_of
from lmstack.train.objectives.online import OnlineObjective
from lmstack.train.recipe import Recipe
from lmstack.train.rewards import scored
from lmstack.train.rollouts.experience import (
    Rollout,
    batch_of,
    is_worth_sharing,
    passes_of,
    sample_seed,
)
from lmstack.train.rollouts.protocol import (
    RolloutPrompt,
    RolloutSample,
    RolloutSampler,
    WeightedReward,
)
from lmstack.train.sums import timed
from lmstack.train.trained import TrainedModule

__all__ = ["RolloutSource"]

_DRAWN = "samples"  # of a checkpoint: those of the next step, drawn ahead
_HELD_OUT, _SHUFFLED = 1, 2  # what random numbers are for, beside the samples of a step
Groups = list[list[RolloutSample]]
Measured = Callable[[Transformer, Batch, ForwardContext], Mapping[str, Tensor]]


@dataclass
class RolloutSource:
    """``sampler``: closed by whoever opened it, after this. ``rewards``: at least one."""

    trained: TrainedModule
    objective: OnlineObjective
    train: Loader
    validation: Loader | None
    sampler: RolloutSampler
    rewards: Sequence[WeightedReward]

    def __post_init__(self) -> None:
        _check_dropout(self.trained.recipe)
        self.learned = self.objective.learned()
        self._steps = steps_of(self.trained.recipe, self.train)
        self._pool = ThreadPoolExecutor(1, "lmstack-rollouts")
        self._next: Future[Groups] | None = None
        self._clock: dict[str, float] = {}
        self._facts: dict[str, float] = {}
        # Of the model that the run begins with: a fresh adapter, which changes nothing, or all.
        self._first = self.trained.copies() if self.objective.needs_reference else {}

    def updates(self, step: int) -> Iterator[Sequence[Batch]]:
        objective = self.objective
        self._clock.clear()
        with timed(self._clock, "rollouts"):
            groups = self._samples(step)
        with timed(self._clock, "rewards"):
            rollouts = self._rewarded(self.train, step, groups)
        self._facts = {**facts_of(rollouts), **self.learned, "updates": 0.0}
        with timed(self._clock, "measure"):
            rollouts = self._measured(rollouts)
        judged = objective.judged(rollouts, self.learned)
        for epoch in range(objective.epochs):
            rng = np.random.default_rng([self.trained.recipe.seed, _SHUFFLED, step, epoch])
            order = rng.permutation(len(judged))
            for part in np.array_split(order, objective.minibatches):
                members = [judged[place] for place in sorted(part.tolist())]
                if any(map(objective.teaches, members)):
                    self._facts["updates"] += 1
                    yield self._batches(members)

    def finish(self, values: Mapping[str, float]) -> Mapping[str, float]:
        if self._facts["updates"]:
            samples = self.objective.samples * int(self._facts["prompts"])
            self.learned = self.objective.adapted(self.learned, values, samples)
        seconds = {f"seconds_{name}": spent for name, spent in self._clock.items()}
        return {**values, **self._facts, **seconds}

    # -- samples -------------------------------------------------------------------------------

    def _samples(self, step: int) -> Groups:
        """Those that ``step`` learns from; with ``ahead``, those of the next are begun."""
        if self._next is None:
            self._give_weights()
            drawn = self._draw(self.train, step)
        else:
            drawn, self._next = self._next.result(), None
        if self.objective.rollout_config.ahead and step + 1 < self._steps:
            self._give_weights()
            asked = self._asked(self.train, step + 1)
            self._next = self._pool.submit(self.sampler.sample, *asked)
        return drawn

    def _give_weights(self) -> None:
        module = self.trained.module
        with self.trained.parallel.summoned(module):
            self.sampler.update(module)

    def _draw(self, loader: Loader, step: int, *purpose: int) -> Groups:
        return self.sampler.sample(*self._asked(loader, step, *purpose))

    def _asked(
        self, loader: Loader, step: int, *purpose: int
    ) -> tuple[Sequence[RolloutPrompt], Any, Sequence[Sequence[int]]]:
        """What a sampler is asked for: prompts, how, and a seed a sample."""
        objective, seed = self.objective, self.trained.recipe.seed
        found = loader.examples(step)
        number = 1 if purpose else objective.samples
        seeds = [
            [sample_seed(seed, *purpose, step, place, n) for n in range(number)]
            for place, _ in found
        ]
        return [objective.prompt(example) for _, example in found], objective.drawing, seeds

    # -- what is known of them -----------------------------------------------------------------

    def _rewarded(self, loader: Loader, step: int, groups: Groups) -> list[Rollout]:
        """The samples of all processes; ``groups``: those of this one."""
        places = [place for place, _ in loader.examples(step)]
        drawn = [(s, place) for place, group in zip(places, groups, strict=True) for s in group]
        found = scored(self.rewards, [sample for sample, _ in drawn])
        own = [
            Rollout.of(sample, place, found.totals[n], {k: v[n] for k, v in found.parts.items()})
            for n, (sample, place) in enumerate(drawn)
        ]
        return sorted(self.trained.parallel.joined(own), key=lambda rollout: rollout.group)

    def _measured(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """With what the objective must know before the first update."""
        objective = self.objective
        found = list(rollouts)
        if objective.measures:
            found = self._known(found, objective.measured)
        if objective.needs_reference:
            with self.trained.having(self._first):
                found = self._known(found, self._referred)
        return found

    def _referred(
        self, model: Transformer, batch: Batch, context: ForwardContext
    ) -> Mapping[str, Tensor]:
        return {"reference": self.objective.log_probs(model, batch, context)}

    def _known(self, rollouts: Sequence[Rollout], measured: Measured) -> list[Rollout]:
        """``rollouts`` with what ``measured`` says of their tokens."""
        trained = self.trained
        trained.module.eval()
        context = ForwardContext(ops=trained.ops)
        share = self._shares(rollouts)
        passes = passes_of(rollouts, trained.recipe.micro_tokens, share=share)
        own = []
        for members, is_real in self._share(passes):
            batch = batch_of(members, 1.0, share=share).to(trained.module.device)
            with torch.no_grad():
                known = dict(measured(trained.model, batch, context))
            lengths = [member.length for member in members]
            parts = {name: values.cpu().split_with_sizes(lengths) for name, values in known.items()}
            if is_real:
                own.append([{n: parts[n][place] for n in parts} for place in range(len(members))])
        world, found = trained.parallel.world, {}
        order = [n for rank in range(world) for n in range(rank, len(passes), world)]
        for number, values in zip(order, trained.parallel.joined(own), strict=True):
            for member, tokens in zip(passes[number], values, strict=True):
                found[id(member)] = member.knowing(**tokens)
        return [found[id(rollout)] for rollout in rollouts]

    def _batches(self, rollouts: Sequence[Rollout]) -> list[Batch]:
        """Passes over ``rollouts``. Those that teach nothing are counted, and not read."""
        weight = self.objective.weight
        taught = [rollout for rollout in rollouts if self.objective.teaches(rollout)]
        unread = weight(rollouts) - weight(taught) if self.trained.parallel.rank == 0 else 0.0
        found, share = [], self._shares(taught)
        passes = passes_of(taught, self.trained.recipe.micro_tokens, share=share)
        for members, is_real in self._share(passes):
            batch = batch_of(members, weight(members) + unread if is_real else 0.0, share=share)
            unread = 0.0
            batch = batch if is_real else replace(batch, tokens=0)
            found.append(batch.to(self.trained.module.device))
        return found

    def _shares(self, rollouts: Sequence[Rollout]) -> bool:
        """Whether answers go on from one reading of their prompt, where the model allows it."""
        config = self.trained.module.config
        return config.causal and config.position_pad is None and is_worth_sharing(rollouts)

    def _share(self, passes: Sequence[list[Rollout]]) -> list[tuple[list[Rollout], bool]]:
        """This process's passes, as many as every other process has, because all of them meet in
        each; where there is none left, one of the others' that does not count."""
        rank, world = self.trained.parallel.rank, self.trained.parallel.world
        own = [(members, True) for members in passes[rank::world]]
        return own + [(passes[0], False)] * (-(-len(passes) // world) - len(own))

    # -- evaluation, checkpoints ---------------------------------------------------------------

    def evaluate(self) -> dict[str, float]:
        """Of one answer to each prompt that is held out, the same seeds each time."""
        if self.validation is None:
            return {}
        if self._next is not None:
            self._next.exception()  # the sampler is at work for the next step
        found: list[Rollout] = []
        with self.trained.having(self.trained.average):
            self._give_weights()
            for step in range(self.validation.steps(1)):
                drawn = self._draw(self.validation, step, _HELD_OUT)
                found += self._rewarded(self.validation, step, drawn)
        facts = facts_of(found)
        return {name: facts[name] for name in facts if name not in _OF_GROUPS}

    def parts(self, step: int) -> Iterator[tuple[str, Iterable[tuple[str, Tensor]]]]:
        if self._next is not None:
            places = [place for place, _ in self.train.examples(step)]
            own = list(zip(places, self._next.result(), strict=True))
            groups = sorted(self.trained.parallel.joined(own), key=lambda each: each[0])
            yield _DRAWN, [("json", _packed([group for _, group in groups]))]

    def resume(self, checkpoints: Checkpoints, step: int) -> None:
        # A run that had come to its end and is made longer has none: they are drawn now.
        if step < self._steps and checkpoints.has(step, _DRAWN):
            tensors = dict(checkpoints.tensors(step, _DRAWN))
            self._next = Future()
            prompts, _, _ = self._asked(self.train, step)
            groups = json.loads(tensors["json"].numpy().tobytes())
            own = [groups[place] for place, _ in self.train.examples(step)]
            self._next.set_result(_unpacked(own, prompts))

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)  # waits for what is being drawn


def _check_dropout(recipe: Recipe) -> None:
    """`InputError` where a pass would not be that of the policy which answers are drawn from."""
    for name, rate in (
        ("dropout", recipe.dropout),
        ("lora.dropout", (recipe.lora or {}).get("dropout")),
    ):
        if rate:
            raise InputError(
                f"{name} is {rate:g}, and answers are drawn without any",
                hint=f"{name}=0",
                param=name,
            )


_OF_GROUPS = ("prompts", "reward_spread", "flat_groups")


def facts_of(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """What the samples of a step are like. ``reward_spread``: the mean over prompts of the
    standard deviation of their rewards; ``flat_groups``: the share of prompts whose samples have
    one reward, ``cut`` that of answers which came to no end; ``answer_tokens``: of an answer."""
    groups: dict[int, list[float]] = {}
    for rollout in rollouts:
        groups.setdefault(rollout.group, []).append(rollout.reward)
    means = {
        f"reward_{name}": statistics.fmean(r.scores[name] for r in rollouts)
        for name in rollouts[0].scores
    }
    return {
        "reward": statistics.fmean(rollout.reward for rollout in rollouts),
        **means,
        "reward_spread": statistics.fmean(map(statistics.pstdev, groups.values())),
        "flat_groups": statistics.fmean(max(g) == min(g) for g in groups.values()),
        "answer_tokens": statistics.fmean(rollout.length for rollout in rollouts),
        "cut": statistics.fmean(rollout.sample.finish == "length" for rollout in rollouts),
        "prompts": float(len(groups)),
    }


def _packed(groups: Groups) -> Tensor:
    """Samples without their prompts, as JSON in a tensor: a checkpoint holds tensors. Numbers of
    float32 are the same when they are read again."""
    kept = ("ids", "logprobs", "text", "finish")
    values = [[{name: asdict(s)[name] for name in kept} for s in group] for group in groups]
    return torch.frombuffer(bytearray(json.dumps(values).encode()), dtype=torch.uint8)


def _unpacked(
    groups: Sequence[Sequence[Mapping[str, Any]]], prompts: Sequence[RolloutPrompt]
) -> Groups:
    return [
        [
            RolloutSample(
                prompt.messages,
                prompt.ids,
                tuple(values["ids"]),
                tuple(values["logprobs"]),
                values["text"],
                values["finish"],
                prompt.row,
            )
            for values in group
        ]
        for prompt, group in zip(prompts, groups, strict=True)
    ]
