"""How long a run will take and what it will cost, before it starts.

Some samples, spread over the data, are asked as the run would ask them, and kept in the store, so
that the run need not ask again. What is left is taken to be like them: by Little's law
``concurrency`` samples at a time are done at ``concurrency`` over their mean time. Not covered:
progress of a run (`run`), prices of providers, and what a judge reads and writes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lmstack.core import Price, Usage, check_whole
from lmstack.evals.output_store import OutputKeys, OutputStore
from lmstack.evals.run import CONCURRENCY, Patience, run, samples_of
from lmstack.evals.task import Dataset, ModelOutput, Sample, Subject, Task

__all__ = ["RunEstimate", "estimate_run"]

_MOST_FIRST = 32


@dataclass(frozen=True)
class RunEstimate:
    """Of ``samples``, ``cached`` have an output already. The rest is of those that are left;
    ``seen``: how many outputs it rests on. None where nothing is known: no output was seen, no
    tokens were counted, as of likelihoods, or no price was given."""

    samples: int
    cached: int
    seen: int
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float | None = None
    cost: float | None = None

    @property
    def left(self) -> int:
        return self.samples - self.cached


async def estimate_run(
    task: Task,
    subject: Subject,
    store: OutputStore,
    *,
    concurrency: int = CONCURRENCY,
    limit: int | None = None,
    first: int | None = None,
    price: Price | None = None,
    patience: Patience | None = None,
) -> RunEstimate:
    """``first``: how many samples are asked now (None: as many as run at a time, at most 32; 0:
    none, so that only outputs of an earlier run tell)."""
    samples = samples_of(task, limit)
    keys = OutputKeys(task, subject)
    names = {keys.output(sample): sample for sample in samples}
    kept = store.outputs(names)
    if first is None:
        first = min(concurrency, _MOST_FIRST)
    check_whole("first", first, 0, 1 << 30)
    fresh = _spread([sample for key, sample in names.items() if key not in kept], first)
    if fresh:
        part = Dataset(task.dataset.name, tuple(fresh), task.dataset.source)
        await run(
            replace(task, dataset=part),
            subject,
            store,
            concurrency=concurrency,
            patience=patience,
        )
        kept = store.outputs(names)
    seen = list(kept.values())
    found = RunEstimate(len(samples), len(kept), len(seen))
    return _extrapolated(found, seen, concurrency, price)


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """So many of ``samples`` from all over them, since data is often sorted by subject."""
    count = min(count, len(samples))
    return [samples[place * len(samples) // count] for place in range(count)]


def _extrapolated(
    found: RunEstimate, seen: Sequence[ModelOutput], concurrency: int, price: Price | None
) -> RunEstimate:
    """``found`` with what follows from the outputs ``seen``."""
    left = found.left
    prompt = _scaled([output.prompt_tokens for output in seen], left)
    completion = _scaled([output.completion_tokens for output in seen], left)
    cost = None
    if price is not None and prompt is not None and completion is not None:
        cost = price.of(Usage(prompt, completion))
    seconds = None
    if seen:
        mean = sum(output.seconds for output in seen) / len(seen)
        seconds = mean * left / max(1, min(concurrency, left))
    return replace(
        found, prompt_tokens=prompt, completion_tokens=completion, seconds=seconds, cost=cost
    )


def _scaled(counts: Sequence[int], left: int) -> int | None:
    """Tokens of ``left`` samples like those with ``counts``; None where none were counted."""
    if not any(counts):
        return 0 if not left else None
    return math.ceil(left * sum(counts) / len(counts))
