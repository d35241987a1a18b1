"""Answers drawn by processes of a Ray cluster, each with an engine of its own.

    trainer -- trained weights, prompts, seeds --> 1 .. copies: a `RolloutWorker` each
            <------------- samples --------------

Prompts are dealt by their place, so a step is the same with the same number of copies; with another
one, to rounding. Files of the base travel to each machine once. Needs the extra ``ray``, which
moves data between machines with pickle: use a cluster that only you can reach.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmstack.core import EngineError, InputError
from lmstack.model import Transformer
from lmstack.pipelines.rollout_process import RolloutWorker, drawn, write_base
from lmstack.rag.ingest.bulk import joined_ray
from lmstack.registry import LoadedModel
from lmstack.train.rollouts.policy import policy_weights
from lmstack.train.rollouts.protocol import Drawing, RolloutPrompt, RolloutSample

__all__ = ["RaySampler"]


class RaySampler:
    """Draws answers of ``base`` with weights held as ``weights``, in ``copies`` processes of
    ``threads`` threads each; ``address``: of the cluster, or ``local``; see `Sampler`."""

    def __init__(
        self, base: LoadedModel, weights: str, address: str, copies: int, threads: int
    ) -> None:
        self._ray, self._started = joined_ray("" if address == "local" else address)
        self._actors: list[Any] = []
        self._check_room(copies, threads)
        with tempfile.TemporaryDirectory(prefix="lmstack-rollouts-") as folder:
            write_base(base, folder)
            files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
        made = self._ray.remote(num_cpus=threads)(_Actor)
        held = self._ray.put(files)
        self._actors = [made.remote(held, weights, threads) for _ in range(copies)]
        self._asked([("ready",)] * copies)

    def _check_room(self, copies: int, threads: int) -> None:
        """Ray would wait for processors that nobody has."""
        has = int(self._ray.cluster_resources().get("CPU", 0))
        if copies * threads > has:
            self.close()
            raise InputError(
                f"{copies} copies of {threads} threads need {copies * threads} processors, and the"
                f" Ray cluster has {has}",
                hint="lower objective.rollouts.copies or threads",
                param="copies",
            )

    def update(self, module: Transformer) -> None:
        changed = policy_weights(module, trained=True)
        held = self._ray.put({name: weight.cpu() for name, weight in changed.items()})
        self._asked([("update", held)] * len(self._actors))

    def sample(
        self, prompts: Sequence[RolloutPrompt], drawing: Drawing, seeds: Sequence[Sequence[int]]
    ) -> list[list[RolloutSample]]:
        copies = len(self._actors)
        parts = [(prompts[n::copies], drawing, seeds[n::copies]) for n in range(copies)]
        answers = self._asked([("sample", *part) for part in parts])
        return [answers[place % copies][place // copies] for place in range(len(prompts))]

    def close(self) -> None:
        for actor in self._actors:
            self._ray.kill(actor)
        if self._started:
            self._ray.shutdown()

    def _asked(self, requests: Sequence[tuple[Any, ...]]) -> list[Any]:
        """What the actors answer, one request each; their first error is raised here."""
        calls = [a.answer.remote(*r) for a, r in zip(self._actors, requests, strict=True)]
        try:
            found = self._ray.get(calls)
        except self._ray.exceptions.RayError as error:
            raise EngineError(
                f"a process that draws answers has ended: {str(error).splitlines()[0]}",
                hint="its memory may not have sufficed; --resume goes on from the last checkpoint",
            ) from error
        return [drawn(*each) for each in found]


class _Actor:
    """A `RolloutWorker` on another machine, made of the ``files`` of its base."""

    def __init__(self, files: Mapping[str, bytes], weights: str, threads: int) -> None:
        with tempfile.TemporaryDirectory(prefix="lmstack-rollouts-") as folder:
            for name, data in files.items():
                Path(folder, name).write_bytes(data)
            self._worker = RolloutWorker(folder, weights, threads)

    def answer(self, what: str, *given: Any) -> Any:
        return self._worker.answer(what, *given)
