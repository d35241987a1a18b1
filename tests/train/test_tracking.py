"""Metrics sent to trackio and W&B: what their libraries are called with. They are played by hand
here, with the signatures of trackio 0.43 and wandb 0.31."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tests.errors import about
from tests.train import runs

from lmstack.core import ExtraMissingError, InputError
from lmstack.train.tracking import TRACKERS, Tracker


class Run:
    def __init__(self, library: Library, name: str, run_id: str) -> None:
        self._library, self.name, self.id = library, name, run_id

    def log(self, metrics: dict[str, Any], step: int | None = None) -> None:
        if self._library.is_full:
            raise OSError("no space")
        self._library.calls.append(("log", metrics, step))


class Library(ModuleType):
    """One of the libraries: keeps what it is called with, and prints as they do."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[Any] = []
        self.refuses = self.is_full = False
        self.init = {"trackio": self._trackio, "wandb": self._wandb}[name]

    def _trackio(
        self,
        project: str,
        name: str | None = None,
        config: dict[str, Any] | None = None,
        resume: str = "never",
    ) -> Run:
        return self._begun(SimpleNamespace(**{k: v for k, v in locals().items() if k != "self"}))

    def _wandb(
        self,
        project: str | None = None,
        dir: str | None = None,
        id: str | None = None,
        name: str | None = None,
        config: dict[str, Any] | None = None,
        resume: str | None = None,
    ) -> Run:
        assert dir is not None
        assert Path(dir).is_dir()
        return self._begun(SimpleNamespace(**{k: v for k, v in locals().items() if k != "self"}))

    def finish(self) -> None:
        self.calls.append(("finish",))

    def _begun(self, given: SimpleNamespace) -> Run:
        if self.refuses:
            raise ValueError("not logged in")
        print("* initialized")
        json.dumps(given.config)
        self.calls.append(("init", given))
        run_id = getattr(given, "id", None) or f"id{len(self.calls)}"
        return Run(self, given.name or "named by it", run_id)


@pytest.fixture(params=TRACKERS)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Library:
    found = Library(request.param)
    monkeypatch.setitem(sys.modules, request.param, found)
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    runs.prepare_folder(tmp_path)
    return tmp_path


def test_a_run_is_sent_by_step_and_nothing_of_it_to_standard_output(
    folder: Path, library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = runs.recipe(folder, steps=2, eval_every=2, track=library.__name__)
    runs.train(recipe)
    begun, *logged, ended = library.calls
    assert (begun[1].project, begun[1].name, begun[1].resume) == ("lmstack", "run", "never")
    assert begun[1].config == recipe.to_json()
    assert ended == ("finish",)
    assert [step for _, _, step in logged] == [0, 1, 2, 2]
    lines = runs.lines(folder)
    sent = [values for _, values, _ in logged]
    assert [values["train/loss"] for values in sent[1:3]] == [x["loss"] for x in lines[1:3]]
    for n in (0, 3):
        assert sent[n]["validation/loss"] == lines[n]["validation_loss"]
    assert not any(name.endswith("/step") for _, values, _ in logged for name in values)
    assert capsys.readouterr().out == ""


def test_a_run_that_goes_on_does_so_under_its_name(folder: Path, library: Library) -> None:
    recipe = runs.recipe(folder, steps=4, save_every=1, track=f"{library.__name__}/cats")
    with pytest.raises(runs.Killed):
        runs.train(recipe, watch=runs.Stop(2))
    assert library.calls[-1] == ("finish",)  # also where the run failed
    runs.train(recipe, resume=True)
    first, second = (call[1] for call in library.calls if call[0] == "init")
    assert (first.project, second.project) == ("cats", "cats")
    assert (first.resume, second.resume) == ("never", "allow")
    if library.__name__ == "wandb":
        assert (first.id, second.id) == (None, "id1")
    else:
        assert second.name == first.name == "run"
    assert [call[2] for call in library.calls if call[0] == "log" and "train/loss" in call[1]] == [
        *(1, 2, 2, 3, 4)
    ]


def test_what_is_no_number_is_left_out(tmp_path: Path, library: Library) -> None:
    tracker = Tracker(library.__name__, tmp_path / "run", {})
    tracker.add({"step": 3, "loss": float("nan"), "accuracy": 0.5, "epoch": 0, "word": "x"})
    assert library.calls[-1] == ("log", {"train/accuracy": 0.5, "train/epoch": 0}, 3)


def test_where_values_no_longer_arrive_the_run_goes_on_and_says_so_once(
    tmp_path: Path, library: Library
) -> None:
    notes: list[str] = []
    tracker = Tracker(library.__name__, tmp_path / "run", {}, note=notes.append)
    library.is_full = True
    for step in (1, 2):
        tracker.add({"step": step, "loss": 1.0})
    tracker.close()
    name = library.__name__
    assert notes == [
        f"{name} takes no more values (OSError: 'no space'); the run goes on, and metrics.jsonl"
        " has them"
    ]
    assert [call[0] for call in library.calls] == ["init"]


def test_another_project_or_library_is_another_run(tmp_path: Path, library: Library) -> None:
    name = library.__name__
    Tracker(name, tmp_path / "run", {})
    Tracker(f"{name}/other", tmp_path / "run", {}, resume=True)
    Tracker(f"{name}/other", tmp_path / "run", {}, resume=True)
    assert [call[1].resume for call in library.calls] == ["never", "never", "allow"]
    (tmp_path / "run" / "tracking.json").write_text("[]")
    Tracker(name, tmp_path / "run", {}, resume=True)
    assert library.calls[-1][1].resume == "never"


def test_a_run_whose_values_no_longer_arrive_tells_its_watch(
    folder: Path, library: Library
) -> None:
    library.is_full, watch = True, runs.Stop(99)
    runs.train(runs.recipe(folder, steps=1, track=library.__name__), watch=watch)
    (note,) = watch.notes
    assert note.startswith(f"{library.__name__} takes no more values")


def test_a_library_that_refuses_ends_the_run_before_its_first_step(
    folder: Path, library: Library
) -> None:
    library.refuses = True
    with pytest.raises(
        InputError,
        match=f"{library.__name__} did not begin: ValueError: 'not",
        check=about("track"),
    ) as error:
        runs.train(runs.recipe(folder, steps=1, track=library.__name__))
    assert ("WANDB_MODE" in (error.value.hint or "")) == (library.__name__ == "wandb")
    assert runs.lines(folder) == []


def test_without_the_library_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in TRACKERS:
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ExtraMissingError) as error:
            Tracker(name, tmp_path, {})
        assert error.value.hint == f"pip install 'lmstack[{name}]'"


@pytest.mark.parametrize("track", ["trakio", "wandb/", "tensorboard", ""])
def test_a_recipe_that_names_no_tracker_is_refused(folder: Path, track: str) -> None:
    with pytest.raises(InputError, match=r"track is .*, not trackio or wandb") as error:
        runs.recipe(folder, track=track)
    assert error.value.param == "track"
