"""Samples answered by other processes: the result, the store and the failures of a run here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.evals.tasks import Costly, arithmetic, last_text, scripted, sums, task_of

from lmstack.core import AuthError, RemoteError, Request
from lmstack.evals.elsewhere import Answer, Elsewhere, answered, run_elsewhere, unscored
from lmstack.evals.output_store import OutputStore
from lmstack.evals.run import Patience, Progress, run_sync
from lmstack.evals.task import Subject, Task

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

    def answers(task: Task, places: Sequence[int]) -> Iterator[Answer]:
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
    seen: list[Progress] = []
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
