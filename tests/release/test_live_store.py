"""The file of live comparisons: private, bounded, resumed, and without texts unless asked for."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.scripted_versions import asked

from lmstack.core import IntegrityError, NotFoundError, ScriptedModel, StoreError, Usage
from lmstack.evals.live import LiveAnswer
from lmstack.release.live_recorder import LOST, CanaryWatch, LiveRecorder
from lmstack.release.live_store import LiveComparison, LiveStore
from lmstack.release.traffic import Traffic, TrafficCandidate
from lmstack.safety import Arm, Observation

STABLE, CANARY = Arm("stable", "base", "sha256:a"), Arm("canary", "tuned", "sha256:b")


@pytest.fixture
def store(tmp_path: Path) -> LiveStore:
    return LiveStore(tmp_path / "live" / "live.sqlite")


def begun(store: LiveStore, mode: Any = "canary") -> LiveComparison:
    return store.begin(mode, STABLE, CANARY, 0.1, store.path.parent)


def seen(number: int = 0, arm: Arm = STABLE, **other: Any) -> Observation:
    request = asked("a secret question", request_id=f"r{number}")
    options = {"outcome": "answered", "text": "a secret answer", **other}
    return Observation(
        number, arm, 0.1, f"u{number}", request, first_token_s=0.1, total_s=0.5,
        usage=Usage(3, 2), finish_reason="stop", **options,
    )  # fmt: skip


def test_what_is_recorded_is_read_back(store: LiveStore) -> None:
    comparison = begun(store)
    recorder = LiveRecorder(store, comparison)
    recorder.record(seen(0))
    recorder.record(seen(1, CANARY, outcome="failed", error="EngineError"))
    recorder.record(seen(2, text="I cannot help with that."))
    recorder.count("fell back: EngineError")
    recorder.close()
    first, second, third = store.answers(comparison.id, {"r0": True})
    assert (first.side, first.unit, first.thumb) == ("stable", "u0", True)
    assert (first.prompt_tokens, first.completion_tokens, first.finish) == (3, 2, "stop")
    assert (second.side, second.outcome) == ("candidate", "failed")
    assert third.refusal
    assert store.comparisons()[0].counts == {"fell back: EngineError": 1}


def test_texts_are_kept_only_where_asked_for(store: LiveStore) -> None:
    comparison = begun(store)
    for keeps in (False, True):
        recorder = LiveRecorder(store, begun(store), keeps_texts=keeps)
        recorder.record(seen(0))
        recorder.close()
        files = [path.read_bytes() for path in store.path.parent.iterdir()]
        assert any(b"secret" in data for data in files) == keeps
    assert [each.text for each in store.answers(comparison.id)] == [None, "a secret answer"]


def test_the_file_is_the_owners_alone(store: LiveStore) -> None:
    begun(store)
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE comparisons SET share = 0.2")
        for path in store.path.parent.iterdir():
            assert path.stat().st_mode & 0o077 == 0, path.name
    connection.close()


def test_a_comparison_goes_on_where_it_was(store: LiveStore) -> None:
    first = begun(store)
    store.stop(first.id, "it fails")
    recorder = LiveRecorder(store, first)
    recorder.record(seen(4))
    recorder.close()
    again = begun(store)
    assert (again.id, again.reason) == (first.id, "it fails")
    recorder = LiveRecorder(store, again)
    recorder.record(seen(0))
    recorder.close()
    assert [each.unit for each in store.answers(again.id)] == ["u4", "u0"]
    assert begun(store, "shadow").id != first.id


def test_two_servers_with_one_pair_lose_no_answer(store: LiveStore) -> None:
    """Both count their requests from 0."""
    recorders = [LiveRecorder(store, begun(store, "shadow")) for _ in range(2)]
    for number in range(100):
        for which, recorder in enumerate(recorders):
            recorder.record(*(seen(number, arm, text=f"of {which}") for arm in (STABLE, CANARY)))
    for recorder in recorders:
        recorder.close()
    [comparison] = store.comparisons()
    found = store.answers(comparison.id)
    assert (len(found), comparison.counts) == (400, {})
    pairs = {(each.order, each.unit, each.digest) for each in found}
    assert len(pairs) == 200  # the two of a pair are in one place, and those of one server


def test_an_answer_is_placed_by_when_its_request_came(store: LiveStore) -> None:
    recorder = LiveRecorder(store, begun(store))
    for number, seconds in ((0, 0.1), (1, 50.0), (2, 5.0)):
        recorder.record(replace(seen(number), total_s=seconds))
    recorder.close()
    assert [each.unit for each in store.answers(1)] == ["u1", "u2", "u0"]


def test_an_answer_in_a_place_that_is_taken_is_counted_as_lost(store: LiveStore) -> None:
    comparison = begun(store)
    recorder = LiveRecorder(store, comparison)
    rows = [recorder._row(seen(number), 7, "now") for number in range(3)]
    store.write(comparison.id, rows, {LOST: 1})
    assert store.comparisons()[0].counts == {LOST: 3}
    assert len(store.answers(comparison.id)) == 1
    recorder.close()


def test_the_judgements_of_each_server_are_found(store: LiveStore, tmp_path: Path) -> None:
    begun(store)
    with sqlite3.connect(store.path) as connection:  # as it was written before
        connection.execute("UPDATE comparisons SET feedback = '/old'")
    connection.close()
    for folder in ("one", "two", "one"):
        store.begin("canary", STABLE, CANARY, 0.1, tmp_path / folder)
    [comparison] = store.comparisons()
    assert comparison.feedback == ("/old", str(tmp_path / "one"), str(tmp_path / "two"))


def test_texts_that_nobody_asked_for_are_not_read(store: LiveStore) -> None:
    comparison = begun(store)
    recorder = LiveRecorder(store, comparison, keeps_texts=True)
    recorder.record(seen(0))
    recorder.close()
    [whole], [bare] = (store.answers(1, with_texts=texts) for texts in (True, False))
    assert (whole.text, bare) == ("a secret answer", replace(whole, text=None))


def test_a_canary_that_starts_again_reads_no_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be hundreds of megabytes of them."""
    asked_for: list[Any] = []
    answers = LiveStore.answers

    def noted(store: LiveStore, *args: Any, **options: Any) -> list[LiveAnswer]:
        asked_for.append(options)
        return answers(store, *args, **options)

    monkeypatch.setattr(LiveStore, "answers", noted)
    places = {"path": tmp_path / "live.sqlite", "index_dir": tmp_path}
    model = ScriptedModel(["fine"], name="tuned")
    traffic = Traffic(TrafficCandidate("canary", "tuned", share=0.5), model, model.info, **places)
    traffic.close()
    assert asked_for == [{"with_texts": False}]


def test_what_two_threads_lose_at_once_is_counted(store: LiveStore) -> None:
    class Slow(LiveRecorder):
        """One that is interrupted in the middle of counting."""

        @property
        def _lost(self) -> int:
            found = self.__dict__.get("lost", 0)
            time.sleep(0.001)
            return int(found)

        @_lost.setter
        def _lost(self, value: int) -> None:
            self.__dict__["lost"] = value

    recorder = Slow(store, begun(store))
    recorder.close()
    threads = [threading.Thread(target=recorder._lose, args=(1,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorder._lost == 20


def test_a_stop_keeps_its_first_reason(store: LiveStore) -> None:
    comparison = begun(store)
    store.stop(comparison.id, "it fails")
    store.stop(comparison.id, "another")
    assert store.comparisons()[0].reason == "it fails"


def test_a_cleared_comparison_is_new(store: LiveStore) -> None:
    comparison = begun(store)
    store.stop(comparison.id, "it fails")
    store.write(comparison.id, [], {"dropped": 1})
    store.clear(comparison.id)
    again = begun(store)
    assert (again.stopped, again.counts, store.answers(again.id)) == (None, {}, [])
    with pytest.raises(NotFoundError):
        store.clear(comparison.id)


def test_a_full_file_counts_what_it_does_not_keep(store: LiveStore) -> None:
    small = LiveStore(store.path, max_bytes=1 << 16)
    comparison = begun(small)
    recorder = LiveRecorder(small, comparison, keeps_texts=True)
    for number in range(50):
        recorder.record(seen(number, text="x" * 20_000))
    recorder.close()
    kept = len(small.answers(comparison.id))
    assert kept < 50
    assert store.path.stat().st_size <= 1 << 16
    assert recorder._lost + small.comparisons()[0].counts.get(LOST, 0) == 50 - kept


def test_a_store_that_cannot_keep_up_delays_nobody(store: LiveStore) -> None:
    comparison, goes_on = begun(store), threading.Event()

    class Slow(LiveStore):
        def write(self, *what: Any) -> None:
            goes_on.wait(20)
            super().write(*what)

    recorder = LiveRecorder(Slow(store.path), comparison)
    for number in range(5_000):
        recorder.record(seen(number))
    goes_on.set()
    recorder.close()
    recorder._thread.join(60)
    lost = recorder._lost + store.comparisons()[0].counts.get(LOST, 0)
    assert lost > 0
    assert lost + len(store.answers(comparison.id)) == 5_000


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (
            lambda path: path.write_bytes(b"not a database, but long enough to look" * 9),
            IntegrityError,
        ),
        (lambda path: sqlite3.connect(path).execute("PRAGMA user_version = 9").close(), StoreError),
    ],
)
def test_a_file_of_something_else_is_refused(
    store: LiveStore, spoil: Callable[[Path], None], error: type[Exception]
) -> None:
    store.path.parent.mkdir(parents=True)
    spoil(store.path)
    with pytest.raises(error):
        begun(store)


def failing(watch: CanaryWatch, count: int, arm: Arm = CANARY) -> None:
    for number in range(count):
        watch.begun(number, f"u{number}")
        watch.ended(seen(number, arm, outcome="failed"))


def test_a_canary_that_fails_is_stopped_once_with_the_reason() -> None:
    stopped: list[str] = []
    watch = CanaryWatch(0.1, stopped.append)
    failing(watch, 10)
    [reason] = stopped
    assert "fails more often" in reason
    assert "0 of the stable version" in reason


def test_a_stable_version_that_fails_stops_nothing() -> None:
    stopped: list[str] = []
    failing(CanaryWatch(0.1, stopped.append), 10, STABLE)
    assert not stopped


def test_what_was_seen_before_a_restart_counts() -> None:
    before = [
        LiveAnswer("candidate", number, f"old{number}", 0.1, "", "failed") for number in range(9)
    ]
    stopped: list[str] = []
    CanaryWatch(0.1, stopped.append, before)
    assert stopped
    other_share: list[str] = []
    CanaryWatch(0.2, other_share.append, before)
    assert not other_share
