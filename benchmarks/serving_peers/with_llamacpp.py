"""llama.cpp's side of `serving.py`: llama-cpp-python, on the level of its C functions, so that no
Python of the binding is measured. The GGUF file is the one that lmstack serves."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import llama_cpp
from side import Ids, Job, decode_rate, main, threads


class Stream:
    """One sequence of a context, greedy."""

    def __init__(self, path: str, length: int) -> None:
        model_params = llama_cpp.llama_model_default_params()
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), model_params)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch = length, length
        params.n_threads = params.n_threads_batch = threads()
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if not self.context:
            raise RuntimeError(f"llama.cpp does not load {path}")
        self.sampler = llama_cpp.llama_sampler_init_greedy()

    def read(self, ids: Sequence[int]) -> int:
        """The token that follows."""
        array = (llama_cpp.llama_token * len(ids))(*ids)
        batch = llama_cpp.llama_batch_get_one(array, len(ids))
        if llama_cpp.llama_decode(self.context, batch):
            raise RuntimeError("llama_decode failed")
        return int(llama_cpp.llama_sampler_sample(self.sampler, self.context, -1))

    def generate(self, prompt: Sequence[int], new: int) -> tuple[Ids, list[float]]:
        """Tokens, and the moments at which they came."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        ids, times = [self.read(prompt)], [time.perf_counter()]
        while len(ids) < new:
            ids.append(self.read(ids[-1:]))
            times.append(time.perf_counter())
        return ids, times


@contextmanager
def stream(path: str, length: int = 2048) -> Iterator[Stream]:
    llama_cpp.llama_backend_init()
    opened = Stream(path, length)
    yield opened
    llama_cpp.llama_free(opened.context)
    llama_cpp.llama_model_free(opened.model)


def decode(job: Job) -> dict[str, Any]:
    task, check = job["decode"], job["check"]
    with stream(job["paths"]["gguf"]) as one:
        tokens = [one.generate(prompt, check["new"])[0] for prompt in check["prompts"]]
        runs = [one.generate(prompt, task["new"])[1] for prompt in task["prompts"]]
    return {"figures": [decode_rate(times) for times in runs], "tokens": tokens}


def prefill(job: Job) -> dict[str, Any]:
    task = job["prefill"]
    figures = []
    with stream(job["paths"]["gguf"]) as one:
        one.generate(task["warm"], 1)
        for prompt in task["prompts"]:
            start = time.perf_counter()
            _, times = one.generate(prompt, 1)
            figures.append(len(prompt) / (times[0] - start))
    return {"figures": figures}


def gemma_decode(job: Job) -> dict[str, Any]:
    task = job["gemma"]
    with stream(job["paths"]["gemma_gguf"]) as one:
        one.generate(task["warm"], 8)
        runs = [one.generate(prompt, task["new"])[1] for prompt in task["prompts"]]
    return {"figures": [decode_rate(times) for times in runs]}


if __name__ == "__main__":
    main({"decode": decode, "prefill": prefill, "gemma_decode": gemma_decode})
