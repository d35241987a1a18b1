"""Answers drawn in a process of its own, beside the one that trains.

    trainer -- trained weights, prompts, seeds --> worker: an `EngineSampler` of the same base
            <------------- samples --------------

With ``rollouts.ahead`` both work at once. The worker begins with the base, which it reads from a
folder that the trainer wrote, and is sent what training changes. Weights and samples travel through
a pipe on this machine, as bytes: a tensor would be moved to shared memory, of which a container has
64 MB unless it is given more.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch
from safetensors.torch import load as load_bytes
from safetensors.torch import save

from lmstack.core import EngineError, LmstackError
from lmstack.model import Transformer, build_module
from lmstack.pipelines.engine_sampler import EngineSampler
from lmstack.registry import LoadedModel, load
from lmstack.train.rollouts.policy import policy_weights
from lmstack.train.rollouts.protocol import Drawing, RolloutPrompt, RolloutSample

__all__ = ["ProcessSampler", "RolloutWorker", "drawn", "write_base"]


class ProcessSampler:
    """Draws answers of ``base`` with weights held as ``weights``, by ``threads`` of another
    process; see `Sampler`."""

    def __init__(self, base: LoadedModel, weights: str, threads: int) -> None:
        context = get_context("spawn")  # a fork would share torch's threads
        self._connection, theirs = context.Pipe()
        with tempfile.TemporaryDirectory(prefix="lmstack-rollouts-") as folder:
            write_base(base, folder)
            self._process = context.Process(
                target=_serve, args=(theirs, folder, weights, threads), daemon=True
            )
            self._process.start()
            theirs.close()
            self._asked("ready")

    def update(self, module: Transformer) -> None:
        changed = policy_weights(module, trained=True)
        self._asked("update", save({k: w.detach().cpu().contiguous() for k, w in changed.items()}))

    def sample(
        self, prompts: Sequence[RolloutPrompt], drawing: Drawing, seeds: Sequence[Sequence[int]]
    ) -> list[list[RolloutSample]]:
        found: list[list[RolloutSample]] = self._asked("sample", prompts, drawing, seeds)
        return found

    def close(self) -> None:
        self._connection.close()
        self._process.join()

    def _asked(self, *request: Any) -> Any:
        """What the worker answers to ``request``; its error is raised here."""
        try:
            self._connection.send(request)
            answer, problem = self._connection.recv()
        except (EOFError, OSError) as error:
            raise EngineError(
                "the process that draws answers has ended without a word",
                hint="its memory may not have sufficed; --resume goes on from the last checkpoint",
            ) from error
        return drawn(answer, problem)


def drawn(answer: Any, problem: tuple[str, str | None] | None) -> Any:
    """``answer`` of a `RolloutWorker`; `EngineError` for its ``problem``."""
    if problem is not None:
        raise EngineError(f"drawing answers failed: {problem[0]}", hint=problem[1])
    return answer


def write_base(base: LoadedModel, folder: str) -> None:
    """Write to ``folder`` what a `RolloutWorker` begins with: the policy, without an adapter."""
    module = build_module(base.module.config, policy_weights(base.module))
    replace(base, module=module).save(folder)


class RolloutWorker:
    """What draws answers in another process, from the base in ``folder``, held as ``weights``."""

    def __init__(self, folder: str, weights: str, threads: int) -> None:
        torch.set_num_threads(threads)
        base = load(folder)
        self._sampler = EngineSampler(base, weights)
        self._sampler.update(base.module)

    def answer(self, what: str, *given: Any) -> tuple[Any, tuple[str, str | None] | None]:
        """The result of ``what`` ("update", "sample", "ready"), and what went wrong."""
        try:
            if what == "update":
                (weights,) = given  # of a pipe they are bytes
                self._sampler.replace(
                    load_bytes(weights) if isinstance(weights, bytes) else weights
                )
            return (self._sampler.sample(*given) if what == "sample" else None), None
        except LmstackError as error:
            return None, (error.message, error.hint)

    def close(self) -> None:
        self._sampler.close()


def _serve(connection: Connection, folder: str, weights: str, threads: int) -> None:
    """Answer requests until the trainer is gone."""
    try:
        worker = RolloutWorker(folder, weights, threads)
    except LmstackError as error:
        connection.recv()
        connection.send((None, (error.message, error.hint)))
        return
    while True:
        try:
            request = connection.recv()
        except EOFError:
            break
        connection.send(worker.answer(*request))
    worker.close()
