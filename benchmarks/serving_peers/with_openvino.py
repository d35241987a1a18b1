"""OpenVINO's side of `serving.py`: GenAI's pipelines and an encoder, weights of 8 bits.

`convert` runs optimum's exporter, as its users do. Generation reads token ids, so that the
tokenizer is not measured; the encoder is measured with it, as the others are.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from side import Ids, Job, decode_rate, main, rates, threads


def convert(job: Job) -> None:
    target = pathlib.Path(job["paths"]["openvino"])
    exporter = pathlib.Path(sys.executable).with_name("optimum-cli")
    for source, task in (
        ("smollm2", "text-generation-with-past"),
        ("minilm", "feature-extraction"),
    ):
        command = [exporter, "export", "openvino", "--model", job["paths"][source]]
        command += ["--task", task, "--weight-format", "int8", target / source]
        subprocess.run(command, check=True)


# --- generation --------------------------------------------------------------------------------


def asked(new: int) -> Any:
    import openvino_genai

    return openvino_genai.GenerationConfig(max_new_tokens=new, ignore_eos=True, do_sample=False)


def tensor(ids: Ids) -> Any:
    import openvino

    return openvino.Tensor(np.array([ids], dtype=np.int64))


class Moments:
    """The times at which tokens come; a streamer."""

    def __init__(self) -> None:
        import openvino_genai

        outer = self
        self.times: list[float] = []

        class Streamer(openvino_genai.StreamerBase):
            def write(self, token: int | Sequence[int]) -> Any:
                count = len(token) if isinstance(token, Sequence) else 1
                outer.times += [time.perf_counter()] * count
                return openvino_genai.StreamingStatus.RUNNING

            def end(self) -> None:
                pass

        self.streamer = Streamer()


def pipeline(job: Job) -> Any:
    import openvino_genai

    folder = pathlib.Path(job["paths"]["openvino"]) / "smollm2"
    return openvino_genai.LLMPipeline(folder, "CPU", INFERENCE_NUM_THREADS=threads())


def decode(job: Job) -> dict[str, Any]:
    pipe = pipeline(job)
    task, check = job["decode"], job["check"]
    tokens = [
        list(pipe.generate(tensor(p), asked(check["new"])).tokens[0]) for p in check["prompts"]
    ]
    figures = []
    for prompt in task["prompts"]:
        moments = Moments()
        pipe.generate(tensor(prompt), asked(task["new"]), moments.streamer)
        if len(moments.times) != task["new"]:
            raise RuntimeError(f"{len(moments.times)} tokens instead of {task['new']}")
        figures.append(decode_rate(moments.times))
    return {"figures": figures, "tokens": tokens}


def prefill(job: Job) -> dict[str, Any]:
    pipe = pipeline(job)
    task = job["prefill"]
    pipe.generate(tensor(task["warm"]), asked(1))
    figures = []
    for prompt in task["prompts"]:
        figures += rates(len(prompt), [lambda p=prompt: pipe.generate(tensor(p), asked(1))])
    return {"figures": figures}


def throughput64(job: Job) -> dict[str, Any]:
    import openvino_genai

    task = job["throughput64"]
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size = 2
    folder = pathlib.Path(job["paths"]["openvino"]) / "smollm2"
    pipe = openvino_genai.ContinuousBatchingPipeline(
        folder, scheduler, "CPU", {"INFERENCE_NUM_THREADS": threads()}
    )

    def run(prompts: Sequence[Ids], new: int) -> None:
        results = pipe.generate([tensor(p) for p in prompts], [asked(new)] * len(prompts))
        lengths = {len(result.m_generation_ids[0]) for result in results}
        if lengths != {new}:
            raise RuntimeError(f"{lengths} tokens instead of {new}")

    run(task["warm"], 8)
    work = len(task["prompts"]) * task["new"]
    return {
        "figures": rates(work, [lambda: run(task["prompts"], task["new"])]),
        "requests": len(task["prompts"]),
    }


# --- embeddings --------------------------------------------------------------------------------


def embed(name: str, job: Job) -> dict[str, Any]:
    import openvino
    import padded

    model = pathlib.Path(job["paths"]["openvino"]) / "minilm" / "openvino_model.xml"
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": threads()})
    names = [one.get_any_name() for one in compiled.inputs]
    return padded.measure(
        "openvino", name, job, lambda feed: compiled({key: feed[key] for key in names})[0]
    )


if __name__ == "__main__":
    main(
        {
            "decode": decode,
            "prefill": prefill,
            "throughput64": throughput64,
            "embed_short": lambda job: embed("embed_short", job),
            "embed_long": lambda job: embed("embed_long", job),
        },
        convert,
    )
