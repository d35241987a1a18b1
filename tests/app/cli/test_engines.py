"""How weights are held and engines are set, from the command line: options to what loads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.app.cli.test_run import Counting, counting, tiny_bert

from lmstack.app import wiring
from lmstack.app.wiring import tasks
from lmstack.app.wiring.tasks import load_also, open_task
from lmstack.core import InputError
from lmstack.engine import EngineConfig
from lmstack.serve import LocalModel, client_of_key
from lmstack.serve.tasks import task

if TYPE_CHECKING:
    from tests.app.conftest import Run

__all__ = ["counting"]  # a fixture


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forms") / "judge"
    return tiny_bert(folder, "BertForSequenceClassification", "good", "bad")


# -- tasks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [None, "float32", "bfloat16", "int8"])
def test_a_task_holds_its_weights_as_it_is_told(home: Path, judge: Path, form: Any) -> None:
    with open_task("classify", str(judge), {}, form) as made:
        assert made.loaded.form == (form or "float32")
        assert {label.label for label in made("a b", top_k=2).labels} == {"good", "bad"}


def test_run_hands_the_form_of_weights_on(run: Run, counting: Counting) -> None:
    run("run", "classify", "--model", "m", "ab", "--weights", "int8")
    assert counting.weights == "int8"


def test_the_command_that_goes_on_has_the_form_of_weights(
    run: Run, counting: Counting, tmp_path: Path
) -> None:
    file = tmp_path / "in.txt"
    file.write_text("a\n" * 100)
    counting.stop_after = 40
    where = ("--file", str(file), "--output", str(tmp_path / "out.jsonl"))
    ran = run("run", "classify", "--model", "m", *where, "--weights", "int8")
    assert ran.code == 130
    assert "--model m --file" in ran.err
    assert "--weights int8 --resume" in ran.err


def test_a_model_that_is_loaded_has_its_form_already(judge: Path) -> None:
    made = task("classify", judge)
    with pytest.raises(InputError, match="loaded already"):
        task("classify", made.loaded, weights="int8")


# -- models beside the first -------------------------------------------------------------------


def test_a_further_model_is_held_in_the_form_behind_its_name(home: Path, judge: Path) -> None:
    also = load_also([f"{judge}=bfloat16"])
    assert also.scorers["judge"].info.digest.endswith("+bfloat16")
    assert not load_also([str(judge)]).scorers["judge"].info.digest.endswith("+bfloat16")


def test_a_folder_whose_name_ends_like_a_form_is_still_a_folder(home: Path, tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "judge=int8", "BertForSequenceClassification", "good", "bad")
    [model] = load_also([str(folder)]).scorers.values()
    assert not model.info.digest.endswith("int8")


def test_a_form_that_there_is_not_is_named_before_anything_loads(
    run: Run, docs: Path, judge: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "require_models", lambda *_: None)
    ran = run("up", "docs", "--also", f"{judge}=int9")
    assert ran.code == 1
    assert "'int9'" in ran.err
    assert "float32, bfloat16, float16, int8, q4, nf4, file" in ran.err


def test_further_models_that_write_have_form_and_settings(
    home: Path, monkeypatch: pytest.MonkeyPatch, judge: Path
) -> None:
    class Folder:
        kind, name = "generate", "writer"

    asked: dict[str, Any] = {}
    monkeypatch.setattr("lmstack.registry.Store.resolve", lambda *_: Folder())
    monkeypatch.setattr(LocalModel, "load", lambda _, **options: asked.update(options))
    engine = EngineConfig(target_step_s=0.03)
    load_also(["writer=q4"], engine)
    assert asked == {"weights": "q4", "engine": engine}


# -- settings of engines -----------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `lmstack up` asks to be loaded."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(wiring, "require_models", lambda *_: None)
    monkeypatch.setattr(tasks, "require", lambda *_: None)
    monkeypatch.setattr(wiring, "service", lambda _, **options: found.update(options))
    monkeypatch.setattr(
        "lmstack.app.server.serve.serve", lambda listener, load, *_: (listener.close(), load())
    )
    monkeypatch.setenv("LMSTACK_API_KEYS", "first, second")
    return found


def test_up_sets_the_time_of_a_step(run: Run, docs: Path, asked: dict[str, Any]) -> None:
    assert run("up", "docs", "--port", "0", "--target-step", "0.05").code == 0
    assert asked["engine"] == {"target_step_s": 0.05}


def test_up_sets_nothing_that_is_not_given(run: Run, docs: Path, asked: dict[str, Any]) -> None:
    run("up", "docs", "--port", "0")
    assert asked["engine"] == {}


def test_weights_of_keys_are_those_of_the_clients_that_send_them(
    run: Run, docs: Path, asked: dict[str, Any]
) -> None:
    run("up", "docs", "--port", "0", "--key-weights", "3,0.5")
    weights = asked["engine"]["client_weights"]
    assert weights == {client_of_key("first"): 3.0, client_of_key("second"): 0.5}


def test_settings_reach_the_engine_of_the_model(
    docs: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class LoadedError(Exception):
        pass

    def generator(*given: object, **_: object) -> None:
        raise LoadedError(*given)

    monkeypatch.setattr(wiring, "generator", generator)
    with pytest.raises(LoadedError) as caught:
        wiring.service(
            docs,
            model="m",
            embedder_name=None,
            engine={"target_step_s": 0.05, "client_weights": {"key:1": 2.0}},
            api_keys=(),
            local=True,
        )
    config = EngineConfig(target_step_s=0.05, client_weights={"key:1": 2.0})
    assert caught.value.args == ("m", None, None, config, None)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "11", "0.0001"])
def test_a_step_of_no_sensible_length_is_refused(
    run: Run, docs: Path, asked: dict[str, Any], seconds: str
) -> None:
    ran = run("up", "docs", "--target-step", seconds)
    assert ran.code == 1
    assert "--target-step is" in ran.err
    assert not asked


@pytest.mark.parametrize(
    "weights", ["", "x,1", "1", "1,1,1", "1,", "0,1", "nan,1", "-1,1", "1,inf"]
)
def test_weights_that_do_not_fit_the_keys_are_refused(
    run: Run, docs: Path, asked: dict[str, Any], weights: str
) -> None:
    ran = run("up", "docs", "--key-weights", weights)
    assert ran.code in (1, 2)
    assert "--key-weights" in ran.err
    assert "first" not in ran.err
    assert not asked


@pytest.mark.parametrize(("keys", "weights"), [("", "1"), ("same,same", "1,2")])
def test_weights_need_a_key_each(
    run: Run,
    docs: Path,
    asked: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    keys: str,
    weights: str,
) -> None:
    monkeypatch.setenv("LMSTACK_API_KEYS", keys)
    ran = run("up", "docs", "--key-weights", weights)
    assert ran.code == 2
    assert "same," not in ran.err
    assert not asked


def test_a_remote_model_has_no_steps_to_set(run: Run, docs: Path, asked: dict[str, Any]) -> None:
    ran = run("up", "docs", "--model", "openai:gpt", "--target-step", "0.05")
    assert ran.code == 2
    assert "--target-step is for models on this machine" in ran.err
    beside = ("--also", "writer")
    assert run("up", "docs", "--port", "0", "--model", "openai:gpt", *beside).code == 0


def test_up_runs_models_on_the_device_that_is_given(
    run: Run, docs: Path, asked: dict[str, Any]
) -> None:
    assert run("up", "docs", "--port", "0", "--device", "cpu").code == 0
    assert asked["engine"] == {"device": "cpu"}


def test_a_device_that_torch_has_not_is_refused_before_anything_loads(
    run: Run, docs: Path, asked: dict[str, Any]
) -> None:
    ran = run("up", "docs", "--device", "nonsense")
    assert ran.code == 1
    assert "device 'nonsense'" in ran.err
    assert not asked
