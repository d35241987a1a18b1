"""What a run will take, told before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.errors import about
from tests.evals.tasks import arithmetic, scripted, sums, task_of

from lmstack.core import InputError, OverloadedError, Price, Request, ScriptedModel
from lmstack.evals.estimating import estimate_run
from lmstack.evals.output_store import OutputKeys, OutputStore
from lmstack.evals.run import Patience, run
from lmstack.evals.task import ModelOutput, Subject


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
        store.keep_output(keys.output(sample), ModelOutput("1", seconds=2.0))
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


async def test_patience_and_concurrency_are_the_runs(store: OutputStore) -> None:
    left, most = [3], [0]

    def reply(request: Request) -> str:
        most[0] = max(most[0], model.open_streams + 1)
        if left[0]:
            left[0] -= 1
            raise OverloadedError("busy", retry_after_s=0.0)
        return arithmetic(request)

    model = ScriptedModel([reply], delay_s=0.001)
    subject = Subject("s", "sha256:0", model)
    found = await estimate_run(
        task_of(sums(9)), subject, store, first=2, concurrency=1, patience=Patience(retries=0)
    )
    assert (found.cached, len(model.requests), most[0]) == (0, 2, 1)
    assert (found.prompt_tokens, found.seconds, found.cost) == (None, None, None)
    found = await estimate_run(
        task_of(sums(9)), subject, store, first=2, patience=Patience(retries=1, backoff_s=0.0)
    )
    assert (found.cached, len(model.requests), most[0]) == (2, 5, 2)


async def test_no_more_than_thirty_two_are_asked_first(store: OutputStore) -> None:
    subject, model = scripted()
    await estimate_run(task_of(sums(80)), subject, store, concurrency=64)
    assert len(model.requests) == 32
    other = OutputStore(store.path.with_name("other.sqlite"), fsync=False)
    subject, model = scripted()
    await estimate_run(task_of(sums(80)), subject, other)
    assert len(model.requests) == 16
    for first in (-1, 1.5):
        with pytest.raises(InputError, match="first", check=about("first")):
            await estimate_run(task_of(), subject, store, first=first)  # type: ignore[arg-type]


async def test_tokens_are_rounded_up_and_a_price_needs_both(store: OutputStore) -> None:
    subject, _ = scripted()
    task = task_of(sums(5))
    keys = OutputKeys(task, subject)
    for sample, tokens in zip(task.dataset.samples, (1, 2), strict=False):
        store.keep_output(keys.output(sample), ModelOutput("1", prompt_tokens=tokens, seconds=1.0))
    price = Price(input=1e6, output=1e6)
    found = await estimate_run(task, subject, store, first=0, price=price)
    assert (found.prompt_tokens, found.completion_tokens, found.cost) == (5, None, None)
    assert (found.seen, found.seconds) == (2, 1.0)
    nothing = await estimate_run(task_of(sums(2)), subject, store, first=0, price=price)
    assert (nothing.prompt_tokens, nothing.completion_tokens, nothing.cost) == (0, 0, 0.0)
