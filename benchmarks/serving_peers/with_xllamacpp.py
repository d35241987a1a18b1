"""llama.cpp's side of `serving.py` where llama-cpp-python cannot be built: the prebuilt xllamacpp,
timed by the figures of its own server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import xllamacpp
from side import Ids, Job, main, threads


def server(path: str, length: int = 2048) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx, params.n_batch, params.n_parallel = length, 2048, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads()
    return xllamacpp.Server(params)


def ask(one: Any, prompt: Sequence[int], new: int) -> dict[str, Any]:
    answer: dict[str, Any] = one.handle_completions(
        {
            "prompt": list(prompt),
            "max_tokens": new,
            "n_predict": new,
            "temperature": 0.0,
            "top_k": 1,
            "ignore_eos": True,
            "cache_prompt": False,
            "return_tokens": True,
            "logprobs": 1,
        }
    )
    return answer


def ids(answer: dict[str, Any]) -> Ids:
    return [one["id"] for one in answer["choices"][0]["logprobs"]["content"]]


def decoded(one: Any, task: Job) -> list[float]:
    answers = [ask(one, prompt, task["new"]) for prompt in task["prompts"]]
    return [answer["timings"]["predicted_per_second"] for answer in answers]


def decode(job: Job) -> dict[str, Any]:
    one, check = server(job["paths"]["gguf"]), job["check"]
    tokens = [ids(ask(one, prompt, check["new"])) for prompt in check["prompts"]]
    return {"figures": decoded(one, job["decode"]), "tokens": tokens}


def prefill(job: Job) -> dict[str, Any]:
    one, task = server(job["paths"]["gguf"]), job["prefill"]
    ask(one, task["warm"], 1)
    answers = [ask(one, prompt, 1) for prompt in task["prompts"]]
    return {"figures": [answer["timings"]["prompt_per_second"] for answer in answers]}


def gemma_decode(job: Job) -> dict[str, Any]:
    one = server(job["paths"]["gemma_gguf"])
    ask(one, job["gemma"]["warm"], 8)
    return {"figures": decoded(one, job["gemma"])}


def answers(job: Job) -> dict[str, Any]:
    """Seconds to the first and to the last word of each answer, by the server's own clock."""
    one, task, figures = server(job["paths"]["gguf"], length=8192), job["answers"], []
    for prompt in [task["prompts"][0], *task["prompts"]]:  # The first is not counted.
        answer = one.handle_completions(
            {"prompt": prompt, "n_predict": task["new"], "temperature": 0.0, "cache_prompt": True}
        )
        timings = answer["timings"]
        first = timings["prompt_ms"] / 1e3
        last = first + timings["predicted_ms"] / 1e3
        figures.append({"first word": first, "last word": last, "tokens": timings["predicted_n"]})
    return {"figures": figures[1:]}


if __name__ == "__main__":
    main({"decode": decode, "prefill": prefill, "gemma_decode": gemma_decode, "answers": answers})
