"""lm-evaluation-harness's side of `likelihoods.py`: one task of multiple choice, evaluated by its
own `simple_evaluate` with a model of its own kind ("hf" or "local-completions").

Reads a job as JSON from standard input and writes what it found to the file that the job names:
the pairs that were asked for in their order, their likelihoods, the accuracies, and the seconds
that the likelihoods took, without loading anything.
"""

from __future__ import annotations

import json
import pathlib
import sys
import time
from typing import Any

import lm_eval
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager

WARM = ("One two three", " four")


class Timed:
    """``loglikelihood`` of a model of lm-evaluation-harness, with what went in and came out."""

    def __init__(self, lm: Any) -> None:
        self.seconds = 0.0
        self.pairs: list[tuple[str, str]] = []
        self.found: list[tuple[float, bool]] = []
        self._compute = lm.loglikelihood
        lm.loglikelihood = self

    def __call__(self, requests: list[Instance], **options: Any) -> list[tuple[float, bool]]:
        start = time.perf_counter()
        found = list(self._compute(requests, **options))
        self.seconds += time.perf_counter() - start
        self.pairs += [request.args for request in requests]
        self.found += found
        return found


def main() -> None:
    job = json.load(sys.stdin)
    torch.set_num_threads(job["threads"])
    lm = get_model(job["model"]).create_from_arg_obj(
        job["model_args"], {"batch_size": job["batch_size"], "device": "cpu"}
    )
    warm = Instance("loglikelihood", {}, WARM, 0)
    lm.loglikelihood([warm], disable_tqdm=True)
    timed = Timed(lm)
    results = lm_eval.simple_evaluate(
        lm,
        tasks=[job["task"]],
        task_manager=TaskManager(include_path=job["folder"], include_defaults=False),
        limit=job["limit"],
        bootstrap_iters=0,
        log_samples=False,
    )
    scores = results["results"][job["task"]]
    answer = {
        "seconds": timed.seconds,
        "pairs": timed.pairs,
        "found": [(float(logprob), bool(greedy)) for logprob, greedy in timed.found],
        "acc": scores["acc,none"],
        "acc_norm": scores["acc_norm,none"],
    }
    pathlib.Path(job["output"]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
