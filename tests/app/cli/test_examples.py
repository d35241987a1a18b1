"""Every program in examples/ runs as its first line says.

In the process of the tests, which has imported already what each would import again.
"""

from __future__ import annotations

import runpy
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lmstack.core import ScriptedModel
from lmstack.registry import ModelFolder
from lmstack.serve import create_app, run_server

ROOT = Path(__file__).parents[3]
SERVER = "call_the_server"
EXPECTED = {
    "ask_a_folder": ["docs/models.md", "[1]"],
    "attention_by_hand": [
        *("same weights: True", "same output: True", "same without keeping the weights: True"),
    ],
    "compare_sentences": ["1.00", "Interest rates rose."],
    "generate_text": ["Paris"],
    "headlines_data": ["500 conversations and 100 questions: headlines"],
    "mcp_tools": ["+ plant", "Plant the bulb 10 cm deep.", "6 * 7 is 42"],
    "own_model_data": ["249 speeches and 7168 conversations are in corpus"],
    "same_forward_pass": ["by the module: ' Paris'", "by the server: ' Paris'", "31 hidden states"],
    "structured_answer": ["name='Alice' age=30 city='Berlin"],
    "tag_names": ["SURNAME          1.00  Lindqvist", "Dorset Street"],
    "train_a_tokenizer": ["|v|er|", "The| server| streams| tokens|,", "comes back: True"],
    "translate": ["Das Haus ist wunderbar.", "Das Wetter ist schön."],
    "tokenize_text": ["b' \\xf0\\x9f\\x99\\x82'", "<|im_start|>user"],
}
# An answer that keeps to a schema, from the same model: `tests/serve/test_local.py`.
LONG = ("structured_answer",)
# Fixtures of the models that an example needs besides the defaults.
NEEDS = {"tag_names": "pii_ner", "translate": "flan_t5"}


# Those that write into the folder that they run in.
WRITES = ("ask_a_folder", "headlines_data", "own_model_data")
# The folder of the first example is the project's docs/; this one of its pages answers as well.
PAGE = "models.md"


Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """``run(name, *arguments)``: what the program prints."""

    def printed(name: str, *arguments: str, folder: Path = ROOT) -> str:
        path = str(ROOT / "examples" / f"{name}.py")
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", [path, *arguments])
        runpy.run_path(path, run_name="__main__")
        return capsys.readouterr().out

    return printed


def test_no_example_is_left_out_or_grows_long() -> None:
    programs = {path.stem: path.read_text() for path in (ROOT / "examples").glob("*.py")}
    assert set(programs) == {*EXPECTED, SERVER}
    long = [name for name, text in programs.items() if text.count("\n") >= 40]
    assert not long


@pytest.mark.weights
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * (name in LONG)) for name in EXPECTED]
)
def test_an_example_prints_what_it_promises(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    run: Run,
    name: str,
    smollm2: ModelFolder,
    minilm: ModelFolder,
    tmp_path: Path,
) -> None:
    if name in NEEDS:
        request.getfixturevalue(NEEDS[name])
    folder = tmp_path if name in WRITES else ROOT
    if name == "ask_a_folder":
        (folder / "docs").mkdir()
        shutil.copy(ROOT / "docs" / PAGE, folder / "docs" / PAGE)
    monkeypatch.setenv("LMSTACK_HOME", str(smollm2.path.parents[1]))
    output = run(name, folder=folder)
    for expected in EXPECTED[name]:
        assert expected in output


def test_the_openai_client_example_streams_from_our_server(run: Run) -> None:
    stop, ready = threading.Event(), threading.Event()
    urls: list[str] = []

    def on_ready(url: str) -> None:
        urls.append(url)
        ready.set()

    app = create_app(models={"docs": ScriptedModel(["Whoever has a key."])})
    thread = threading.Thread(
        target=lambda: run_server(app, port=0, on_ready=on_ready, stop=stop), daemon=True
    )
    thread.start()
    try:
        assert ready.wait(60)
        output = run(SERVER, f"{urls[0].rstrip('/')}/v1", "docs")
    finally:
        stop.set()
        thread.join(60)
    assert output == "models: docs\nWhoever has a key.\n"
