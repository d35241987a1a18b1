"""Results as `lmstack eval run` writes them, of models whose ability is chosen.

A sample is the harder the further on it is, the same for every model; a model is right where its
ability and its luck are more than that. Scores, confidences and answers follow from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lmstack.evals.metrics.likelihood import Perplexity
from lmstack.evals.results import SampleResult, TaskResult
from lmstack.evals.task import Metric

__all__ = ["ACC", "digest", "made_result", "suite"]

ACC = Metric("acc", ("acc",))
_WORDS = "ridge runs east of river and field where early trains carry grain to a port".split()  # noqa: SIM905


def digest(name: str, form: str = "") -> str:
    return f"sha256:{name.encode().hex():0<64.64}" + (f"+{form}" if form else "")


def made_result(
    task: str,
    model: str,
    ability: float,
    *,
    samples: int = 100,
    of: int | None = None,
    kind: str = "choice",
    speed: float = 0.2,
    confident: float = 0.0,
    protocol: Mapping[str, Any] | None = None,
    answers: Mapping[str, str] | None = None,
    metrics: Sequence[Metric] = (ACC,),
    subject_digest: str = "",
    failed: Sequence[int] = (),
    clusters: int = 0,
) -> TaskResult:
    """``kind``: "choice", with a confidence ``confident`` too high and no text; "answer", with a
    text; "text", with a log-probability. ``answers``: by sample, in place of those made."""
    hard = np.random.default_rng(len(task)).normal(size=samples)
    seed = sum(map(ord, task + model))
    luck = np.random.default_rng(seed).normal(size=(samples, 3))
    rows = []
    for n in range(samples):
        name = f"{task}/{n}"
        if n in failed:
            rows.append(SampleResult(name, failed="no answer within 60 s"))
            continue
        margin = ability - hard[n] + 0.5 * luck[n, 0]
        scores = {"acc": float(margin > 0)}
        text = (answers or {}).get(name, "")
        if kind == "choice":
            sure = 1 / (1 + np.exp(-abs(1.7 * margin + 0.6 * luck[n, 1]))) + confident
            scores |= {"confidence": float(min(sure, 0.999)), "margin": float(margin)}
        elif kind == "text":
            scores = {"logprob": -600.0 + 90 * margin, "tokens": 200.0}
        elif not text:
            count = 6 + int(abs(luck[n, 2]) * 90)
            text = " ".join(_WORDS[(n * 7 + k * k) % len(_WORDS)] for k in range(count))
        tokens = len(text.split()) * 4 // 3
        seconds = float(speed * (0.6 + 0.2 * abs(luck[n, 1])) * (1 + tokens / 40))
        cluster = f"passage {n % clusters}" if clusters else ""
        rows.append(
            SampleResult(
                name, cluster, scores, answer=text, finish_reason="stop" if text else "",
                prompt_tokens=180 + n % 60, completion_tokens=tokens, seconds=seconds,
            )
        )  # fmt: skip
    solver = {"solver": "generate", "sampling": {"temperature": 0.0, "max_tokens": 256}, "seed": 0}
    if kind != "answer":
        solver = {"solver": "multiple_choice", "instruction": "", "shots": None}
    return TaskResult(
        task=task,
        version=1,
        protocol=protocol or {"task": task, "solver": solver, "scorer": {"scorer": "made"}},
        dataset=task,
        dataset_digest=digest(f"data of {task}"),
        source="made for a test",
        dataset_samples=of or samples,
        subject=model,
        subject_digest=subject_digest or digest(model),
        metrics=tuple(metrics),
        samples=tuple(rows),
        date="2026-11-29T21:14:03+00:00",
        versions={"lmstack": "0.1.0", "python": "3.12.3"},
        seconds=float(sum(row.seconds for row in rows) / 8),
    )


def suite(model: str, ability: float, *, speed: float = 0.2, **more: Any) -> list[TaskResult]:
    """Six tasks: four of choices, one of answers, one whose figure is of the corpus."""
    shifts = {"hellaswag": 0.1, "truthfulqa_mc1": -0.9, "boolq": 0.5, "mmlu": -0.6}
    found = [
        made_result(task, model, ability + shift, speed=speed, confident=0.06, **more)
        for task, shift in shifts.items()
    ]
    gsm8k = {"kind": "answer", "speed": 4 * speed, "samples": 95}
    found.append(made_result("gsm8k", model, ability - 1.0, **gsm8k, **more))
    text = {"kind": "text", "samples": 40, "metrics": Perplexity().metrics[:1]}
    found.append(made_result("wikitext", model, ability, **text, **more))
    return found
