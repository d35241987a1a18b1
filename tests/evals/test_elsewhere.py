"""Samples answered by other processes: the result, the store and the failures of a run here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from tests.evals.tasks import Costly, arithmetic, last_text, scripted, sums, task_of

from lmstack.core import AuthError, OverloadedError, RemoteError, Request, ScriptedModel
from lmstack.evals.evaluation_ray import Elsewhere, PlacedOutput, answered, run_elsewhere, unscored
from lmstack.evals.output_store import OutputStore
from lmstack.evals.run import EvaluationProgress, Patience, run_sync
from lmstack.evals.task import ModelOutput, Sample, Subject, Task

HASTY = Patience(retries=1, backoff_s=0.0)


@pytest.fixture
def store(tmp_path: Path) -> OutputStore:
    return OutputStore(tmp_path / "outputs.sqlite", fsync=False)


def subject() -> Subject:
    def reply(request: Request) -> str:
        if "What is 4 " in last_text(request):
            raise RemoteError("the provider has no answer to this")
        return arithmetic(request)

    return scripted(reply)[0]


def here(asked: list[int], *, dies_after: int | None = None) -> Elsewhere:
    """Other processes, played by this one: lots of two in reverse order."""

    def answers(task: Task, places: Sequence[int]) -> Iterator[PlacedOutput]:
        backwards = list(reversed(places))
        for start in range(0, len(backwards), 2):
            if dies_after is not None and start >= dies_after:
                raise RuntimeError("the cluster is gone")
            lot = backwards[start : start + 2]
            asked.extend(lot)
            yield from answered(unscored(task), subject(), lot, patience=HASTY)

    return answers


def test_the_result_is_that_of_a_run_here(store: OutputStore) -> None:
    task = task_of(sums(9))
    want = run_sync(task, subject(), patience=HASTY)
    named = Subject(subject().name, subject().digest)
    found = run_elsewhere(task, named, store, here([]), patience=HASTY)
    assert found.digest == want.digest
    assert [each.failed for each in found.failures] == ["the provider has no answer to this"]


def test_what_came_back_is_kept_and_failures_are_asked_for_again(store: OutputStore) -> None:
    task, named = task_of(sums(9)), Subject("scripted", subject().digest)
    want = run_sync(task, subject(), patience=HASTY)
    with pytest.raises(RuntimeError, match="gone"):
        run_elsewhere(task, named, store, here([], dies_after=4))
    asked: list[int] = []
    found = run_elsewhere(task, named, store, here(asked))
    assert sorted(asked) == [0, 1, 2, 3, 4]
    assert found.digest == want.digest
    asked.clear()
    # A run here goes on from the same store, and asks for what failed alone.
    again = run_sync(task, subject(), store, patience=HASTY)
    run_elsewhere(task, named, store, here(asked))
    assert asked == [4]
    assert again.digest == want.digest


def test_progress_counts_what_was_kept_before(store: OutputStore) -> None:
    task, named = task_of(sums(9)), Subject("scripted", subject().digest)
    run_elsewhere(task, named, store, here([]), limit=3)
    seen: list[EvaluationProgress] = []
    run_elsewhere(task, named, store, here([]), on_progress=seen.append)
    assert [each.done for each in seen] == [4, 5, 6, 7, 8, 9]
    assert (seen[-1].total, seen[-1].cached, seen[-1].failed) == (9, 3, 1)


def test_scorers_stay_where_the_store_is(store: OutputStore) -> None:
    scorer = Costly()
    task, named = task_of(sums(5), scorer=scorer), Subject("scripted", subject().digest)
    found = run_elsewhere(task, named, store, here([]), patience=HASTY)
    assert len(scorer.asked) == 4  # but for the one that failed
    assert found.figures()["accuracy"].value == 0.5


def test_what_stops_a_run_here_stops_it_elsewhere() -> None:
    def reply(_request: Request) -> str:
        raise AuthError("the key is not valid")

    with pytest.raises(AuthError, match="not valid"):
        answered(task_of(sums(2)), scripted(reply)[0], [0, 1])


def busy(fails: int) -> tuple[Subject, list[str]]:
    """A subject that is busy ``fails`` times before it answers."""
    asked: list[str] = []

    def reply(request: Request) -> str:
        asked.append(last_text(request))
        if len(asked) <= fails:
            raise OverloadedError("busy", retry_after_s=0.0)
        return arithmetic(request)

    return scripted(reply)[0], asked


@pytest.mark.parametrize(("retries", "outcome"), [(0, "busy"), (3, "")])
def test_answers_are_asked_for_as_patiently_as_told(retries: int, outcome: str) -> None:
    subject_, asked = busy(3)
    patience = Patience(retries=retries, backoff_s=0.0)
    (found,) = answered(task_of(sums(3)), subject_, [2], patience=patience)
    assert (found.place, found.failed, found.output is None) == (2, outcome, bool(outcome))
    assert asked == ["What is 2 + 1?"] * (retries + 1)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_are_asked_or_scored_at_once_than_told(
    store: OutputStore, concurrency: int
) -> None:
    most, scoring = [0], [0, 0]

    class Slow(Costly):
        async def __call__(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
            scoring[0] += 1
            scoring[1] = max(scoring)
            await asyncio.sleep(0.001)
            scoring[0] -= 1
            return await super().__call__(sample, output)

    def reply(request: Request) -> str:
        most[0] = max(most[0], model.open_streams + 1)
        return arithmetic(request)

    model = ScriptedModel([reply], delay_s=0.001)
    found = answered(
        task_of(sums(6)), Subject("s", "sha256:0", model), range(6), concurrency=concurrency
    )
    assert [each.failed for each in found] == [""] * 6
    assert most[0] == concurrency
    task = task_of(sums(6), scorer=Slow())
    run_elsewhere(task, subject(), store, lambda *_: found, concurrency=concurrency)
    assert scoring[1] == concurrency


@pytest.mark.parametrize(("retries", "failed"), [(0, 3), (1, 0)])
def test_scores_are_tried_as_patiently_as_told_and_of_the_limit_alone(
    store: OutputStore, retries: int, failed: int
) -> None:
    class Shaky(Costly):
        async def __call__(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
            if sample.id not in self.asked:
                self.asked.append(sample.id)
                raise OverloadedError("busy", retry_after_s=0.0)
            return await super().__call__(sample, output)

    task = task_of(sums(9), scorer=Shaky())
    named = Subject("scripted", subject().digest)
    patience = Patience(retries=retries, backoff_s=0.0)
    found = run_elsewhere(task, named, store, here([]), limit=3, patience=patience)
    assert [each.id for each in found.samples] == ["q0", "q1", "q2"]
    assert len(found.failures) == failed
    assert 0 < found.seconds < 60


def test_what_never_came_back_failed_and_time_goes_on(store: OutputStore) -> None:
    task, named = task_of(sums(4)), Subject("scripted", subject().digest)
    seen: list[EvaluationProgress] = []

    def lost(task: Task, places: Sequence[int]) -> Iterator[PlacedOutput]:
        yield from answered(task, subject(), places[:2], patience=HASTY)

    found = run_elsewhere(task, named, store, lost, patience=HASTY, on_progress=seen.append)
    assert [bool(each.failed) for each in found.samples] == [False, False, True, True]
    assert all("no answer" in each.failed for each in found.failures)
    assert 0 < seen[0].seconds <= seen[1].seconds < 60
    assert found.seconds >= seen[1].seconds
    assert [(each.total, each.cached, each.failed) for each in seen] == [(4, 0, 0)] * 2
