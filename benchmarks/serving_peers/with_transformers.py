"""transformers' side of `serving.py`: `generate` in bfloat16, and the reference in float32 that
the greedy tokens of all sides are compared with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from side import Ids, Job, decode_rate, main, rates, threads
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM
from transformers.generation.streamers import BaseStreamer


class Moments(BaseStreamer):
    """The times at which tokens come. What comes first is the prompt."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: Any) -> None:  # noqa: ARG002
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass


class Generator:
    def __init__(self, folder: str, dtype: torch.dtype, kind: Any = AutoModelForCausalLM) -> None:
        torch.set_num_threads(threads())
        self.model = kind.from_pretrained(folder, dtype=dtype).eval()

    def __call__(self, prompt: Sequence[int], new: int, moments: Moments | None = None) -> Ids:
        ids = torch.tensor([list(prompt)])
        with torch.inference_mode():
            out = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=new,
                min_new_tokens=new,
                do_sample=False,
                num_beams=1,
                pad_token_id=0,
                streamer=moments,
            )
        return [int(i) for i in out[0][-new:]]


def decode(job: Job) -> dict[str, Any]:
    generate = Generator(job["paths"]["smollm2"], torch.bfloat16)
    task, check = job["decode"], job["check"]
    tokens = [generate(prompt, check["new"]) for prompt in check["prompts"]]
    figures = []
    for prompt in task["prompts"]:
        moments = Moments()
        generate(prompt, task["new"], moments)
        figures.append(decode_rate(moments.times[1:]))
    return {"figures": figures, "tokens": tokens}


def prefill(job: Job) -> dict[str, Any]:
    generate = Generator(job["paths"]["smollm2"], torch.bfloat16)
    task = job["prefill"]
    generate(task["warm"], 1)
    figures = []
    for prompt in task["prompts"]:
        figures += rates(len(prompt), [lambda p=prompt: generate(p, 1)])
    return {"figures": figures}


def throughput64(job: Job) -> dict[str, Any]:
    """The first requests of the 64, one by one: the rest would take as long each."""
    generate = Generator(job["paths"]["smollm2"], torch.bfloat16)
    task = job["throughput64"]
    some = task["prompts"][: task["one_by_one"]]
    generate(task["warm"][0], 8)
    run = lambda: [generate(prompt, task["new"]) for prompt in some]  # noqa: E731
    return {"figures": rates(len(some) * task["new"], [run]), "requests": len(some)}


def reference(job: Job) -> dict[str, Any]:
    """Not timed."""
    generate = Generator(job["paths"]["smollm2"], torch.float32)
    check = job["check"]
    tokens = {"decode": [generate(prompt, check["new"]) for prompt in check["prompts"]]}
    translate = Generator(job["paths"]["t5"], torch.float32, AutoModelForSeq2SeqLM)
    # The batch begins with the inputs that are translated one by one.
    task = job["translate_single"]
    tokens["translate_single"] = [translate(prompt, task["new"]) for prompt in task["prompts"]]
    tokens["translate_batch"] = tokens["translate_single"]
    return {"figures": [], "reference": tokens}


if __name__ == "__main__":
    main(
        {
            "decode": decode,
            "prefill": prefill,
            "throughput64": throughput64,
            "reference": reference,
        }
    )
