"""lmstack's side of `serving.py`, through the public API. OPTIONS: how each measure is served.

`with_lmstack.py default ...` leaves the form of the weights to lmstack, as `lmstack up` does.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from side import Ids, Job, main, rates

from lmstack.core import Request, SamplingParams
from lmstack.engine import EngineConfig
from lmstack.serve import LocalEmbedder, LocalModel

LANGUAGE, GEMMA = "smollm2-135m-instruct", "gemma3-270m"
EMBEDDER, TRANSLATOR = "all-minilm-l6-v2", "flan-t5-small-titles"

# How lmstack serves each measure: arguments of `LocalModel.load` and `LocalEmbedder.load`.
OPTIONS: dict[str, dict[str, Any]] = {
    # The blocks of the file: fewest bytes a token. Without drafts: greedy text that repeats itself
    # is guessed so well that the figure would say nothing of the engine.
    "decode": {"weights": "file", "engine": EngineConfig(speculation="off")},
    "gemma_decode": {"weights": "file", "engine": EngineConfig(speculation="off")},
    # Small integers a byte each: fewest operations a token.
    "prefill": {"weights": "int8"},
    "throughput64": {"weights": "int8"},
    "prefix_on": {"weights": "int8", "engine": EngineConfig(prefix_cache=True)},
    "prefix_off": {"weights": "int8", "engine": EngineConfig(prefix_cache=False)},
    "translate": {
        "weights": "int8",
        "engine": EngineConfig(prefix_cache=False, speculation="off"),
    },
    "embed": {"weights": "int8"},
}


@contextmanager
def served(ref: str, measure: str) -> Iterator[LocalModel]:
    model = LocalModel.load(ref, **OPTIONS[measure])
    try:
        yield model
    finally:
        model.close()


def weight_bytes(model: LocalModel) -> int:
    """Bytes that one step reads: every weight once (a tied embedding is the last projection)."""
    held = [*model.module.parameters(), *model.module.buffers()]
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in held}.values())


class Answer:
    """What one request gave. ``first``: the moment of the first token."""

    def __init__(self) -> None:
        self.ids: Ids = []
        self.cached = 0
        self.first_s = self.total_s = 0.0


async def one(
    model: LocalModel, prompt: Sequence[int], new: int, ids: bool = False, ends: bool = False
) -> Answer:
    """``ids``: keep the tokens, which costs log-probabilities. ``ends``: the end of text is kept
    from coming, as encoder-decoders are compared, instead of passed over."""
    sampling = SamplingParams(
        max_tokens=new,
        min_tokens=new if ends else 0,
        temperature=0,
        ignore_eos=not ends,
        logprobs=0 if ids else None,
    )
    answer = Answer()
    async for delta in model.stream(Request(prompt=tuple(prompt), sampling=sampling)):
        answer.ids += [token.id for token in delta.logprobs or ()]
        if delta.timings is not None:
            answer.first_s, answer.total_s = delta.timings.first_token_s, delta.timings.total_s
        if delta.usage is not None:
            answer.cached = delta.usage.cached_tokens
            if delta.usage.completion_tokens != new:
                raise RuntimeError(f"{delta.usage.completion_tokens} tokens instead of {new}")
    return answer


async def many(
    model: LocalModel,
    batch: Sequence[Sequence[int]],
    new: int,
    ids: bool = False,
    ends: bool = False,
) -> list[Answer]:
    return list(await asyncio.gather(*(one(model, p, new, ids, ends) for p in batch)))


def checked(model: LocalModel, job: Job) -> list[Ids]:
    """The tokens that are compared with the reference; a warm-up besides."""
    check = job["check"]
    return [asyncio.run(one(model, p, check["new"], ids=True)).ids for p in check["prompts"]]


def decoding(model: LocalModel, task: Job) -> list[float]:
    answers = [asyncio.run(one(model, prompt, task["new"])) for prompt in task["prompts"]]
    return [(task["new"] - 1) / (answer.total_s - answer.first_s) for answer in answers]


def decode(job: Job) -> dict[str, Any]:
    with served(LANGUAGE, "decode") as model:
        tokens = checked(model, job)
        figures = decoding(model, job["decode"])
        return {"figures": figures, "tokens": tokens, "weight_bytes": weight_bytes(model)}


def prefill(job: Job) -> dict[str, Any]:
    task = job["prefill"]
    with served(LANGUAGE, "prefill") as model:
        asyncio.run(one(model, task["warm"], 1))
        answers = [asyncio.run(one(model, prompt, 1)) for prompt in task["prompts"]]
        if any(answer.cached for answer in answers):
            raise RuntimeError("a prompt that should be fresh was found in the prefix cache")
        lengths = [len(prompt) for prompt in task["prompts"]]
        return {"figures": [n / a.first_s for n, a in zip(lengths, answers, strict=True)]}


def throughput64(job: Job) -> dict[str, Any]:
    task = job["throughput64"]
    with served(LANGUAGE, "throughput64") as model:
        asyncio.run(many(model, task["warm"], 8))
        work = len(task["prompts"]) * task["new"]
        run = lambda: asyncio.run(many(model, task["prompts"], task["new"]))  # noqa: E731
        return {"figures": rates(work, [run]), "requests": len(task["prompts"])}


def prefix(name: str, job: Job) -> dict[str, Any]:
    """Requests per second."""
    task = job["prefix"]
    with served(LANGUAGE, name) as model:
        asyncio.run(many(model, job["throughput64"]["warm"], 8))
        start = time.perf_counter()
        answers = asyncio.run(many(model, task["prompts"], task["new"]))
        seconds = time.perf_counter() - start
        cached = sum(answer.cached for answer in answers)
        return {"figures": [len(answers) / seconds], "cached_tokens": cached}


def gemma_decode(job: Job) -> dict[str, Any]:
    with served(GEMMA, "gemma_decode") as model:
        asyncio.run(one(model, job["gemma"]["warm"], 8))
        return {
            "figures": decoding(model, job["gemma"]),
            "weight_bytes": weight_bytes(model),
        }


def translate(name: str, job: Job) -> dict[str, Any]:
    task = job[name]
    prompts, new = task["prompts"], task["new"]
    with served(TRANSLATOR, "translate") as model:

        def in_turn() -> None:
            for prompt in prompts:
                asyncio.run(one(model, prompt, new, ends=True))

        def at_once() -> None:
            asyncio.run(many(model, prompts, new, ends=True))

        answers = asyncio.run(many(model, prompts, new, ids=True, ends=True))
        run = in_turn if name == "translate_single" else at_once
        figures = rates(len(prompts) * new, [run] * task["repeats"])
        return {"figures": figures, "tokens": [answer.ids for answer in answers]}


def embed(name: str, job: Job) -> dict[str, Any]:
    task = job[name]
    embedder = LocalEmbedder.load(EMBEDDER, **OPTIONS["embed"])
    vectors = embedder.embed(task["texts"])
    np.save(task["vectors"]["lmstack"], vectors)
    run = lambda: embedder.embed(task["texts"])  # noqa: E731
    return {"figures": rates(len(task["texts"]), [run] * task["repeats"])}


def bandwidth(job: Job) -> dict[str, Any]:
    """As `lmstack doctor machine` measures it: what all cores read from memory together."""
    from lmstack.app.inspect.machine import measure

    machine = measure(seconds=job["bandwidth"]["seconds"])
    return {"figures": [machine.rates.read_all], "machine": machine.to_json()}


MEASURES = {
    "decode": decode,
    "prefill": prefill,
    "throughput64": throughput64,
    "prefix_on": lambda job: prefix("prefix_on", job),
    "prefix_off": lambda job: prefix("prefix_off", job),
    "gemma_decode": gemma_decode,
    "translate_single": lambda job: translate("translate_single", job),
    "translate_batch": lambda job: translate("translate_batch", job),
    "embed_short": lambda job: embed("embed_short", job),
    "embed_long": lambda job: embed("embed_long", job),
    "bandwidth": bandwidth,
}


def told(name: str, measure: Callable[[Job], dict[str, Any]]) -> Callable[[Job], dict[str, Any]]:
    """The measure, which also says how lmstack served it."""
    options = OPTIONS.get(name) or OPTIONS.get(name.partition("_")[0], {})
    return lambda job: measure(job) | {"served": {key: str(v) for key, v in options.items()}}


if __name__ == "__main__":
    if sys.argv[1] == "default":
        del sys.argv[1]
        OPTIONS = {name: each | {"weights": None} for name, each in OPTIONS.items()}
    main({name: told(name, measure) for name, measure in MEASURES.items()})
