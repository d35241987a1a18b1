"""`lmstack release traffic`, and the options of `lmstack up` that make what it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.scripted_versions import asked

from lmstack.app import wiring
from lmstack.core import Usage
from lmstack.release.live_recorder import LiveRecorder
from lmstack.release.live_store import LiveStore, live_path
from lmstack.release.traffic import TrafficCandidate
from lmstack.safety import Arm, Observation

if TYPE_CHECKING:
    from tests.app.conftest import Run

STABLE, CANARY = Arm("stable", "base", "sha256:aaaaaaaaa"), Arm("canary", "tuned", "sha256:bbbbbbb")


@pytest.fixture
def recorded(home: Any) -> LiveStore:
    """A canary of which one in two answers failed, after 60 requests, half of them drawn."""
    store = LiveStore(live_path(wiring.home()))
    comparison = store.begin("canary", STABLE, CANARY, 0.5, home)
    recorder = LiveRecorder(store, comparison)
    for number in range(60):
        arm = CANARY if number % 2 else STABLE
        failed = number % 4 == 1
        request = asked("hello", request_id=f"r{number}")
        outcome = "failed" if failed else "answered"
        recorder.record(
            Observation(
                number, arm, 0.5, f"u{number}", request, outcome, 0.25, 0.5, Usage(3, 2), "stop"
            )
        )
    recorder.close()
    recorder._thread.join(60)
    store.stop(comparison.id, "it fails more often")
    return store


def test_the_table_names_versions_figures_and_differences(run: Run, recorded: LiveStore) -> None:
    ran = run("release", "traffic")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0] == "canary tuned@bbbbbbb beside base@aaaaaaa, share 0.5"
    assert "it fails more often" in lines[1]
    cells = {line.split("   ")[0]: line.split() for line in lines if line}
    assert cells["requests"][1:] == ["30", "30"]
    assert cells["failed"][:2] in (["failed", "0.00%"], ["failed", "+50.00%"])
    assert any(line.startswith("failed") and "+50.00%" in line for line in lines)
    assert any(line.startswith("first token s p95") for line in lines)


def test_json_holds_the_same(run: Run, recorded: LiveStore) -> None:
    found = run("release", "traffic", "--json").json
    assert found["comparison"]["candidate"] == {"name": "tuned", "digest": "sha256:bbbbbbb"}
    assert found["comparison"]["reason"] == "it fails more often"
    assert found["arms"]["candidate"]["shares"]["failed"] == 0.5
    [failed] = [each for each in found["differences"] if each["name"] == "failed"]
    assert 0 < failed["low"] < failed["value"] == 0.5
    assert failed["p"] < 0.05


def test_comparisons_are_listed_shown_by_number_and_forgotten(
    run: Run, recorded: LiveStore
) -> None:
    assert "tuned@bbbbbbb" in run("release", "traffic", "--list").out
    assert run("release", "traffic", "1").code == 0
    wrong = run("release", "traffic", "7")
    assert wrong.code == 1
    assert "there is no comparison 7" in wrong.err
    assert run("release", "traffic", "--clear").code == 0
    assert run("release", "traffic", "--list", "--json").json == []


def test_without_any_it_says_how_to_begin_one(run: Run) -> None:
    ran = run("release", "traffic")
    assert ran.code == 1
    assert "--canary MODEL" in ran.err
    assert "Traceback" not in ran.err


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch) -> list[TrafficCandidate | None]:
    """What `lmstack up` asks to be served beside the model."""
    found: list[TrafficCandidate | None] = []
    monkeypatch.setattr(wiring, "require_models", lambda *_: None)
    monkeypatch.setattr(wiring, "require_candidate", lambda _: None)

    def serve(listener: Any, load: Any, *_: Any) -> None:
        listener.close()
        found.append(load.keywords["candidate"])

    monkeypatch.setattr("lmstack.app.server.serve.serve", serve)
    return found


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], None),
        (["--canary", "tuned"], TrafficCandidate("canary", "tuned")),
        (
            ["--shadow", "tuned=int8", "--share", "1"],
            TrafficCandidate("shadow", "tuned", "int8", 1.0),
        ),
        (
            ["--canary", "openai:m", "--live-texts"],
            TrafficCandidate("canary", "openai:m", is_remote=True, keeps_texts=True),
        ),
    ],
)
def test_up_takes_a_second_version(
    run: Run,
    wanted: list[TrafficCandidate | None],
    given: list[str],
    expected: TrafficCandidate | None,
) -> None:
    ran = run("up", "--model", "m", "--port", "0", *given)
    assert ran.code == 0, ran.err
    assert wanted == [expected]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--canary", "a", "--shadow", "b"], "both given"),
        (["--share", "0.1"], "neither is given"),
        (["--live-texts"], "neither is given"),
        (["--canary", "a", "--share", "1"], "--share"),
        (["--canary", "a", "--share", "nan"], "--share"),
        (["--canary", "a=int9"], "int9"),
        (["--canary", "openai:m=int8"], "not on this machine"),
    ],
)
def test_up_says_what_is_wrong_before_anything_loads(
    run: Run, wanted: list[TrafficCandidate | None], given: list[str], said: str
) -> None:
    ran = run("up", "--model", "m", "--port", "0", *given)
    assert ran.code != 0
    assert said in ran.err
    assert "try:" in ran.err
    assert not wanted


def test_a_version_that_is_not_here_is_said_at_once(run: Run, monkeypatch: Any) -> None:
    monkeypatch.setattr(wiring, "require_models", lambda *_: None)
    ran = run("up", "--model", "m", "--port", "0", "--canary", "nowhere")
    assert ran.code == 1
    assert "nowhere" in ran.err
