"""Running a task: killed and resumed, failing, stopped, told of, and what of it is kept."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.errors import about
from tests.evals.killed import INTERRUPTED
from tests.evals.tasks import (
    ACCURACY,
    Costly,
    Exact,
    arithmetic,
    last_text,
    scripted,
    sums,
    task_of,
)

from lmstack.core import (
    ContextLengthError,
    InputError,
    OverloadedError,
    RemoteError,
    Request,
    SamplingParams,
    ScriptedModel,
    UnsupportedError,
)
from lmstack.evals.output_store import MAX_OUTPUT_BYTES, OutputStore
from lmstack.evals.run import EvaluationProgress, Patience, run, run_sync
from lmstack.evals.solvers import Generate
from lmstack.evals.task import Dataset, Metric, ModelOutput, Sample, Subject

ROOT = Path(__file__).parents[2]
HASTY = Patience(backoff_s=0.0)


@pytest.fixture
def store(tmp_path: Path) -> OutputStore:
    return OutputStore(tmp_path / "outputs.sqlite", fsync=False)


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-m", "tests.evals.killed", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_runs_were_killed(processes: dict[str, Any]) -> None:
    codes = {(each["stage"] == "interrupted", each["code"]) for each in processes["killed"]}
    assert codes == {(False, -signal.SIGKILL), (True, INTERRUPTED)}
    assert {each["resumed"] for each in processes["killed"]} == {0}
    stored = {each["stored"] for each in processes["killed"]}
    assert stored >= set(range(8))  # from nothing to all but the one that fails


def test_a_killed_run_ends_with_the_same_bytes(processes: dict[str, Any]) -> None:
    for each in processes["killed"]:
        assert each["result"] == processes["whole"], (each["stage"], each["item"])


def test_what_was_kept_is_not_asked_for_again(processes: dict[str, Any]) -> None:
    for each in processes["killed"]:
        assert each["asked_again"] == 9 - each["stored"], (each["stage"], each["item"])


def test_two_processes_on_one_store_lose_nothing_and_report_the_same(
    processes: dict[str, Any],
) -> None:
    found = processes["at_once"]
    assert found["codes"] == [0, 0]
    assert found["check"] == "ok"
    assert found["stored"] == found["items"]
    assert found["results"][0] == found["results"][1]


async def test_rows_are_in_the_order_of_the_data_whatever_ends_first(store: OutputStore) -> None:
    subject, _ = scripted()
    result = await run(task_of(sums(30)), subject, store, concurrency=7)
    assert [row.id for row in result.samples] == [f"q{n}" for n in range(30)]
    assert [row.scores["correct"] for row in result.samples] == [1.0, 0.0] * 15
    assert result.figures()["accuracy"].value == 0.5


async def test_no_more_run_at_once_than_allowed() -> None:
    model = ScriptedModel([arithmetic], delay_s=0.001)
    most = 0

    def look(_progress: EvaluationProgress) -> None:
        nonlocal most
        most = max(most, model.open_streams)

    await run(task_of(), Subject("s", "sha256:0", model), concurrency=3, on_progress=look)
    assert most <= 3


async def test_a_second_run_asks_for_nothing(store: OutputStore) -> None:
    subject, model = scripted()
    first = await run(task_of(), subject, store)
    again = await run(task_of(), subject, store)
    assert len(model.requests) == 12
    assert again.digest == first.digest


async def test_a_changed_scorer_scores_again_without_asking(store: OutputStore) -> None:
    subject, model = scripted()
    first = await run(task_of(), subject, store)
    second = await run(task_of(scorer=Exact(strict=True)), subject, store)
    assert len(model.requests) == 12
    assert first.protocol["scorer"] != second.protocol["scorer"]


@pytest.mark.parametrize(
    "changed",
    [
        {"solver": Generate(SamplingParams(temperature=0.0, max_tokens=9))},
        {"solver": Generate(SamplingParams(temperature=0.0, max_tokens=8), cue="Think.")},
        {"solver": Generate(SamplingParams(temperature=0.0, max_tokens=8), instruction="Be brief")},
        {"solver": Generate(SamplingParams(temperature=0.0, max_tokens=8), seed=1)},
        {"name": "other sums"},
        {"version": 2},
    ],
)
async def test_a_changed_protocol_asks_for_everything_again(
    store: OutputStore, changed: dict[str, Any]
) -> None:
    subject, model = scripted()
    await run(task_of(), subject, store)
    await run(task_of(**changed), subject, store)
    assert len(model.requests) == 24


async def test_another_model_is_asked_itself(store: OutputStore) -> None:
    await run(task_of(), scripted()[0], store)
    other, model = scripted(digest="sha256:" + "f" * 64)
    await run(task_of(), other, store)
    assert len(model.requests) == 12


async def test_a_changed_sample_is_asked_for_and_the_others_are_not(store: OutputStore) -> None:
    subject, model = scripted()
    await run(task_of(), subject, store)
    samples = list(sums().samples)
    samples[3] = replace(samples[3], input="What is 40 + 1? Say it.")
    data = Dataset("sums", (*samples, Sample("new", "What is 50 + 1?", ("51",))), "edited")
    result = await run(task_of(data), subject, store)
    assert len(model.requests) == 12 + 2
    assert result.samples[3].scores["correct"] == 0.0
    assert result.dataset_digest != sums().digest


async def test_a_subject_without_a_digest_is_refused() -> None:
    with pytest.raises(InputError, match="no digest", check=about("model")):
        await run(task_of(), scripted(digest="")[0])


async def test_a_failing_sample_is_recorded_with_its_reason_and_counted(
    store: OutputStore,
) -> None:
    asked = []

    def reply(request: Request) -> str:
        asked.append(last_text(request))
        if "What is 3 " in asked[-1]:
            raise RemoteError("no connection")
        return arithmetic(request)

    told: list[EvaluationProgress] = []
    subject, _ = scripted(reply)
    result = await run(task_of(), subject, store, patience=HASTY, on_progress=told.append)
    assert [(row.id, row.failed) for row in result.failures] == [("q3", "no connection")]
    assert result.failures[0].scores == {}
    assert len(asked) == 11 + 3
    assert (told[-1].done, told[-1].failed, told[-1].retries) == (12, 1, 2)
    assert len(result.rows_of(ACCURACY)) == 11
    with pytest.raises(InputError, match=r"1 of 12 samples.*q3: no connection"):
        result.check_complete()


async def test_a_sample_that_failed_is_tried_anew_by_the_next_run(store: OutputStore) -> None:
    broken = True

    def reply(request: Request) -> str:
        if broken and "What is 3 " in last_text(request):
            raise RemoteError("no connection")
        return arithmetic(request)

    subject, model = scripted(reply)
    await run(task_of(), subject, store, patience=HASTY)
    broken = False
    asked = len(model.requests)
    result = await run(task_of(), subject, store, patience=HASTY)
    assert result.is_complete
    assert len(model.requests) == asked + 1


async def test_a_sample_that_succeeds_on_a_retry_did_not_fail() -> None:
    left = 2

    def reply(request: Request) -> str:
        nonlocal left
        if "What is 3 " in last_text(request) and left:
            left -= 1
            raise OverloadedError("busy", retry_after_s=0.0)
        return arithmetic(request)

    told: list[EvaluationProgress] = []
    subject, _ = scripted(reply)
    result = await run(task_of(), subject, patience=HASTY, on_progress=told.append)
    assert result.is_complete
    assert (told[-1].retries, told[-1].failed) == (2, 0)


async def test_what_can_never_succeed_is_not_retried() -> None:
    def reply(request: Request) -> str:
        raise ContextLengthError("9,000 tokens, the window has 8,192")

    subject, model = scripted(reply)
    result = await run(task_of(sums(3)), subject, patience=HASTY)
    assert len(result.failures) == len(model.requests) == 3


async def test_a_sample_that_takes_too_long_fails_and_its_stream_is_closed() -> None:
    model = ScriptedModel(["one two three"], delay_s=30)
    patience = Patience(retries=0, timeout_s=0.02)
    result = await run(task_of(sums(2)), Subject("s", "sha256:0", model), patience=patience)
    assert [row.failed for row in result.samples] == ["no answer within 0.02 s"] * 2
    assert model.open_streams == 0


@pytest.mark.parametrize("error", [UnsupportedError("no images"), InputError("no", param="model")])
async def test_what_fails_for_every_sample_stops_the_run(
    store: OutputStore, error: InputError
) -> None:
    def reply(request: Request) -> str:
        raise error

    subject, _ = scripted(reply)
    with pytest.raises(type(error)):
        await run(task_of(), subject, store, patience=HASTY)


async def test_a_subject_that_cannot_do_the_task_says_so_once() -> None:
    with pytest.raises(InputError, match="cannot write text", check=about("model")):
        await run(task_of(), Subject("embedder", "sha256:0"))


@dataclass(frozen=True)
class Bad(Exact):
    given: Any = None

    async def __call__(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        if isinstance(self.given, Exception):
            raise self.given
        found: Mapping[str, float] = self.given
        return found


async def test_a_scorer_that_lacks_what_a_metric_reads_is_an_error() -> None:
    with pytest.raises(InputError, match="accuracy reads correct", check=about("metrics")):
        await run(task_of(scorer=Bad(given={"right": 1.0})), scripted()[0])


async def test_a_score_that_is_no_number_is_an_error() -> None:
    with pytest.raises(InputError, match="not a number", check=about("scorer")):
        await run(task_of(scorer=Bad(given={"correct": "yes", "length": 1})), scripted()[0])


async def test_a_scorer_that_fails_fails_the_sample_and_keeps_its_output(
    store: OutputStore,
) -> None:
    subject, model = scripted()
    broken = task_of(scorer=Bad(given=RemoteError("no judge")))
    result = await run(broken, subject, store, patience=HASTY)
    assert {row.failed for row in result.samples} == {"scoring: no judge"}
    await run(task_of(), subject, store)
    assert len(model.requests) == 12


async def test_scores_that_cost_are_kept_until_the_scorer_changes(store: OutputStore) -> None:
    subject, _ = scripted()
    costly = Costly()
    first = await run(task_of(scorer=costly), subject, store)
    second = await run(task_of(scorer=costly), subject, store)
    assert len(costly.asked) == 12
    assert first.digest == second.digest
    other = Costly(strict=True)
    await run(task_of(scorer=other), subject, store)
    assert len(other.asked) == 12


async def test_scores_of_other_scorers_are_computed_each_time(store: OutputStore) -> None:
    subject, _ = scripted()
    cheap = Costly(is_costly=False)
    await run(task_of(scorer=cheap), subject, store)
    await run(task_of(scorer=cheap), subject, store)
    assert len(cheap.asked) == 24


async def test_nan_is_kept_and_left_out_of_the_figure() -> None:
    @dataclass(frozen=True)
    class Sometimes(Exact):
        async def __call__(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
            correct = float("nan") if sample.id == "q0" else 1.0
            return {"correct": correct, "length": 1.0}

    result = await run(task_of(scorer=Sometimes()), scripted()[0])
    assert result.is_complete
    assert len(result.rows_of("accuracy")) == 11
    assert len(result.rows_of("length")) == 12


async def test_an_output_too_large_to_keep_fails(store: OutputStore) -> None:
    model = ScriptedModel(["x" * (MAX_OUTPUT_BYTES + 1)])
    solver = Generate(SamplingParams(temperature=0.0))
    result = await run(task_of(sums(1), solver), Subject("s", "sha256:0", model), store)
    assert "bytes" in result.samples[0].failed


async def test_stopping_keeps_what_is_done(store: OutputStore) -> None:
    model = ScriptedModel([arithmetic], delay_s=0.001)
    subject = Subject("s", "sha256:0", model)
    enough = asyncio.Event()

    def look(progress: EvaluationProgress) -> None:
        if progress.done >= 5:
            enough.set()

    going = asyncio.create_task(
        run(task_of(sums(40)), subject, store, concurrency=2, on_progress=look)
    )
    await enough.wait()
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert model.open_streams == 0
    asked = len(model.requests)
    told: list[EvaluationProgress] = []
    await run(task_of(sums(40)), subject, store, on_progress=told.append)
    assert told[-1].cached >= 5
    assert len(model.requests) == asked + 40 - told[-1].cached


async def test_a_limit_takes_the_first_samples_and_the_result_says_so() -> None:
    subject, model = scripted()
    result = await run(task_of(), subject, limit=5)
    assert [row.id for row in result.samples] == ["q0", "q1", "q2", "q3", "q4"]
    assert (len(model.requests), result.dataset_samples) == (5, 12)
    assert not result.is_complete
    result.check_complete()
    with pytest.raises(InputError, match="5 of the 12"):
        result.check_complete(whole=True)


@pytest.mark.parametrize(("name", "value"), [("limit", 0), ("concurrency", 0), ("limit", 1.5)])
async def test_a_number_out_of_range_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=name, check=about("concurrency", "limit")):
        await run(task_of(), scripted()[0], **{name: value})


async def test_progress_adds_up(store: OutputStore) -> None:
    subject, _ = scripted()
    await run(task_of(), subject, store, limit=4)
    told: list[EvaluationProgress] = []
    await run(task_of(), subject, store, on_progress=told.append)
    assert [progress.done for progress in told] == list(range(1, 13))
    assert told[-1].cached == 4
    assert (told[-1].prompt_tokens, told[-1].completion_tokens) == (60, 12)
    assert told[-1].eta_s == 0.0
    half = EvaluationProgress(total=100, done=30, cached=10, seconds=10.0)
    assert (half.rate, half.eta_s) == (2.0, 35.0)
    assert EvaluationProgress(total=100, done=10, cached=10, seconds=1.0).eta_s is None


def test_the_result_names_all_that_decides_it(store: OutputStore) -> None:
    subject, _ = scripted()
    task = task_of()
    result = run_sync(task, subject, store)
    assert result.protocol == task.protocol
    assert result.dataset_digest == task.dataset.digest
    assert (result.subject, result.subject_digest) == ("scripted", subject.digest)
    assert {"lmstack", "python"} <= set(result.versions)
    assert result.date.endswith("Z")
    assert all(0 < row.seconds < 60 for row in result.samples)


async def test_run_sync_inside_a_loop_is_refused() -> None:
    with pytest.raises(InputError, match="event loop"):
        run_sync(task_of(), scripted()[0])


async def test_a_protocol_that_is_not_json_is_refused() -> None:
    @dataclass(frozen=True)
    class Odd(Exact):
        @property
        def protocol(self) -> Mapping[str, Any]:
            return {"threshold": float("nan")}

    with pytest.raises(InputError, match="protocol of sums is not JSON"):
        await run(task_of(scorer=Odd()), scripted()[0])


async def test_metrics_may_read_several_columns() -> None:
    both = Metric("both", ("correct", "length"), lambda rows: rows.prod(-1).mean(-1))
    task = replace(task_of(), metrics=(both,))
    result = await run(task, scripted()[0])
    assert result.rows_of("both").shape == (12, 2)
