"""`lmstack eval answers` as a user types it, on a tiny base and an adapter of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from tests.app.cli.made_once import made_once, new_home
from tests.train.runs import MODEL, prepare_folder, recipe

from lmstack.train import train

if TYPE_CHECKING:
    from tests.app.conftest import Run


@pytest.fixture
def home(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return new_home(place, monkeypatch)


@pytest.fixture
def folder(place: Path, home: Path) -> Path:
    """Base and adapter are trained once: an adapter names its base by the path."""
    torch.set_num_threads(1)
    made_once(home.parent, place / "trained", lambda: trained(home.parent))
    return home.parent


def trained(folder: Path) -> None:
    prepare_folder(folder)
    model = {**MODEL, "max_position_embeddings": 1024}  # a judge's prompt is long
    train(recipe(folder, "base", steps=1, model=model))
    base = str(folder / "base-made")
    learned = {"base": base, "model": None, "tokenizer": None, "lr": 0.05, "steps": 8}
    train(recipe(folder, "lora", "sft-lora", **learned))
    rows = [{"prompt": f"cat {n}?", "answer": str(n + 1)} for n in range(6)]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n{broken\n")
    (folder / "held.txt").write_text("the cat number 5 sat on the mat. " * 20)


ANSWERS = ("eval", "answers")
WORDS = ("--prompts", "prompts.jsonl", "--max-tokens", "8", "--text", "held.txt")


def test_an_adapter_is_compared_with_its_base(run: Run, folder: Path) -> None:
    done = run(*ANSWERS, "base-made", "lora-made", *WORDS, "--output", "made")
    assert done.code == 0, done.err
    assert "left out prompts.jsonl:7" in done.err
    for part in ("nats an answer from the base", "Perplexity of held-out text", "made/report.html"):
        assert part in done.out
    kept = json.loads(Path("made/report.json").read_text())
    assert (kept["base"], kept["tuned"]) == ("base-made", "lora-made")
    assert kept["prompts"] == 6
    assert kept["divergence"]["answer"]["value"] > 0
    assert set(kept["unmeasured"]) == {"reward", "reward hacking", "win rate by a judge"}
    assert kept["settings"]["prompts"] == "prompts.jsonl"


def test_a_model_compared_with_itself_is_the_same_and_a_judge_is_heard(
    run: Run, folder: Path
) -> None:
    done = run(
        *(
            "eval",
            "answers",
            "base-made",
            "base-made",
            *WORDS,
            "--samples",
            "1",
            "--judge",
            "base-made",
        ),
        *("--benign", "prompts.jsonl", "--json"),
    )
    assert done.code == 0, done.err
    found = done.json
    assert found["divergence"]["answer"]["value"] == 0
    assert found["wins"]["judge"]["value"] == 0.5
    figures = {figure["name"]: figure for figure in found["figures"]}
    for name in ("length", "perplexity", "calibration", "entropy"):
        assert figures[name]["difference"]["value"] == pytest.approx(0, abs=1e-9), name
    assert found["settings"]["benign_requests"] == 6


def test_a_reward_is_named_as_a_recipe_names_it(run: Run, folder: Path) -> None:
    words = (*ANSWERS, "base-made", "lora-made", *WORDS, "--samples", "1", "--json")
    (folder / "own.py").write_text("def none(samples):\n    return [0 for _ in samples]\n")
    own = ("--reward", "own.py function=none weight=2")
    found = run(*words, "--reward", "arithmetic", "--reward", "finished weight=0.5", *own).json
    assert found["settings"]["rewards"] == {"arithmetic": 1.0, "finished": 0.5, "none": 2.0}
    reward = found["figures"][0]
    assert reward["name"] == "reward"
    assert 0 <= reward["base"] <= 1.5
    assert found["reward_hacking"]
    assert "reward" in found["wins"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*ANSWERS, "base-made", "gone", *WORDS), "gone"),
        ((*ANSWERS, "base-made", "base-made", "--prompts", "gone.jsonl"), "gone.jsonl"),
        (
            (*ANSWERS, "base-made", "base-made", *WORDS[:4], "--text", "gone.txt"),
            "gone.txt",
        ),
        (
            (*ANSWERS, "base-made", "base-made", *WORDS, "--reward", "length most"),
            "key=value",
        ),
        (
            (*ANSWERS, "base-made", "base-made", *WORDS, "--reward", "arithmetik"),
            "arithmetik",
        ),
    ],
)
def test_mistakes_end_in_words(
    run: Run, folder: Path, words: tuple[str, ...], message: str
) -> None:
    done = run(*words)
    assert done.code != 0
    assert message in done.err
    assert "Traceback" not in done.err
    assert not Path("comparison").exists()
