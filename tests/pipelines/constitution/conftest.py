"""A tiny base with a chat template, prompts, and models that write by hash of the request."""

from __future__ import annotations

import asyncio
import json
import math
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train import runs

from lmstack.core import ChatModel, Delta, Message, ModelInfo, Request, Usage
from lmstack.pipelines.constitution.recipe import ConstitutionalRecipe
from lmstack.train import train

PROMPTS = 8


class Writer:
    """Text by hash of the request: the same whenever it is asked.
    Every second request takes longer, so that items are not done in the order of their prompts."""

    def __init__(self, name: str, asked: list[Any]) -> None:
        self.info = ModelInfo(name, "sha256:" + name)
        self._asked = asked

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        self._asked.append(request)
        for _ in range(len(self._asked) % 2 * 3):
            await asyncio.sleep(0)
        said = json.dumps([[m.role, m.content] for m in request.messages])
        number = zlib.crc32(f"{self.info.name} {request.sampling.seed} {said}".encode())
        for index in range(request.sampling.n):
            yield Delta(f"dog {(number + index) % 97}.", index)
            yield Delta("", index, finish_reason="stop")
        yield Delta(usage=Usage())


@dataclass
class Said:
    forward: float | None
    backward: float | None
    probability: float


class Judge:
    """Log-odds by hash of what is compared; each comparison is one of ``asked``."""

    def __init__(self, asked: list[Any]) -> None:
        self._asked = asked

    async def compare(
        self, prompt: Sequence[Message], first: str, second: str, criterion: str | None = None
    ) -> Said:
        self._asked.append((first, second, criterion))
        await asyncio.sleep(0)
        odds = [zlib.crc32(f"{n}{first}{second}{criterion}".encode()) % 99 / 30 - 1.6 for n in "fb"]
        return Said(*odds, 1 / (1 + math.exp(-sum(odds) / 2)))


class Writers:
    """The `Models` of a run, all of one count of requests."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.released = 0

    def open(self, name: str) -> Writer:
        # A tuned model is called after its run, and two runs are to be compared.
        name = "tuned" if name.endswith("-sft") else name
        return Writer(name, self.asked)

    def judge(self, model: ChatModel) -> Judge:
        return Judge(self.asked)

    def release(self) -> None:
        self.released += 1


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the model ``base`` in a store, and prompts.jsonl."""
    folder = tmp_path_factory.mktemp("constitution")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LMSTACK_HOME", str(folder / "home"))
        runs.prepare_folder(folder)
        settings = {"objective": "sft", "data": "chat.jsonl", "output": "base", "steps": 1}
        train(runs.recipe(folder, "made", validation=0.0, **settings))
        rows = [{"prompt": f"cat {n}?"} for n in range(PROMPTS)]
        (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
        yield folder


@pytest.fixture(scope="module")
def recipe(place: Path) -> Callable[..., ConstitutionalRecipe]:
    """``recipe("name", ...)``: of a run in a folder of its own."""

    def make(name: str, **changes: Any) -> ConstitutionalRecipe:
        training = {"steps": 3, "batch": 4, "max_length": 64, "validation": 0.0, "lr": 1e-2}
        settings = {
            "pipeline": "constitutional",
            "base": "base",
            "data": str(place / "prompts.jsonl"),
            "output": name,
            "run": str(place / "runs" / name),
            "labels": 2,
            "at_once": 3,
            "sft": {**training, "save_every": 1},
            "dpo": {**training, "save_every": 1},
        }
        return ConstitutionalRecipe.from_mapping({**settings, **changes})

    return make
