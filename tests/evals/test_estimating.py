"""What a run will take, told before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.evals.tasks import scripted, sums, task_of

from lmstack.core import Price
from lmstack.evals.estimating import estimate_run
from lmstack.evals.output_store import OutputKeys, OutputStore
from lmstack.evals.run import run
from lmstack.evals.task import Output


@pytest.fixture
def store(tmp_path: Path) -> OutputStore:
    return OutputStore(tmp_path / "outputs.sqlite", fsync=False)


async def test_the_first_samples_tell_of_the_rest_and_are_not_asked_again(
    store: OutputStore,
) -> None:
    subject, model = scripted()
    found = await estimate_run(
        task_of(sums(40)), subject, store, first=4, price=Price(input=10.0, output=100.0)
    )
    assert (found.samples, found.cached, found.left, found.seen) == (40, 4, 36, 4)
    assert (found.prompt_tokens, found.completion_tokens) == (36 * 5, 36)
    assert found.cost == pytest.approx((36 * 5 * 10 + 36 * 100) / 1e6)
    await run(task_of(sums(40)), subject, store)
    assert len(model.requests) == 40


async def test_samples_are_asked_from_all_over_the_data(store: OutputStore) -> None:
    """Which may be sorted: the outputs of the first tell nothing of those of the last."""
    subject, model = scripted()
    task = task_of(sums(44))
    await estimate_run(task, subject, store, first=4)
    asked = {str(each.messages[-1].content) for each in model.requests}
    assert asked == {str(task.dataset.samples[place].input) for place in (0, 11, 22, 33)}


@pytest.mark.parametrize(("concurrency", "seconds"), [(1, 80.0), (4, 20.0), (100, 2.0)])
async def test_seconds_are_those_of_as_many_as_run_at_once(
    store: OutputStore, concurrency: int, seconds: float
) -> None:
    subject, _ = scripted()
    task = task_of(sums(44))
    keys = OutputKeys(task, subject)
    for sample in task.dataset.samples[:4]:
        store.keep_output(keys.output(sample), Output("1", seconds=2.0))
    found = await estimate_run(task, subject, store, concurrency=concurrency, first=0)
    assert found.seconds == pytest.approx(seconds)


async def test_as_many_are_asked_first_as_run_at_once(store: OutputStore) -> None:
    subject, model = scripted()
    found = await estimate_run(task_of(sums(44)), subject, store, concurrency=6)
    assert len(model.requests) == found.seen == 6


async def test_nothing_is_left_of_a_run_that_is_done(store: OutputStore) -> None:
    subject, _ = scripted()
    await run(task_of(), subject, store)
    found = await estimate_run(task_of(), subject, store, price=Price(1.0, 1.0))
    assert (found.left, found.seconds, found.cost, found.prompt_tokens) == (0, 0.0, 0.0, 0)


async def test_a_limit_counts(store: OutputStore) -> None:
    subject, _ = scripted()
    found = await estimate_run(task_of(), subject, store, first=2, limit=5)
    assert (found.samples, found.left, found.prompt_tokens) == (5, 3, 15)
