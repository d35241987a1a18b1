"""Scorers in a Python file that a task names: what they may give, and what is said of others."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from tests.errors import about
from tests.evals.metrics.outputs import wrote
from tests.evals.tasks import scripted

from lmstack.core import InputError, NotFoundError
from lmstack.evals.metrics import make_scorer
from lmstack.evals.metrics.scoring import MetricScorer
from lmstack.evals.run import run
from lmstack.evals.task import Sample
from lmstack.evals.task_file import load_task

SCORER = """
from dataclasses import dataclass

METRICS = {"right": "share", "words": "lower"}

@dataclass
class Said:
    words: list[str]

def score(sample, output):
    said = Said(output.text.split())
    return {"right": sample.metadata["capital"] in said.words, "words": len(said.words)}
"""
ROWS = [{"country": "France", "capital": "Paris"}, {"country": "Japan", "capital": "Tokyo"}]
TASK = "name: capitals\ndata: capitals.jsonl\ninput: '{{country}}?'\nscorer: %s\n"


def scorer_of(folder: Path, text: str) -> MetricScorer:
    (folder / "own.py").write_text(text)
    return make_scorer({"file": str(folder / "own.py")})


async def scored(folder: Path, text: str) -> dict[str, float]:
    return dict(await scorer_of(folder, text)(Sample("7", "?"), wrote("a b")))


async def test_a_file_beside_the_task_scores_its_rows(tmp_path: Path) -> None:
    (tmp_path / "capitals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "own.py").write_text(SCORER)
    (tmp_path / "task.yaml").write_text(TASK % "[{file: own.py}, usage]")
    task = load_task(tmp_path / "task.yaml")
    result = await run(task, scripted(lambda _r: "It is Paris")[0])
    assert [row.scores["right"] for row in result.samples] == [1.0, 0.0]
    assert [row.scores["words"] for row in result.samples] == [3.0, 3.0]
    kinds = {m.name: (m.better, m.is_share) for m in task.metrics}
    assert kinds["right"] == ("higher", True)
    assert kinds["words"] == ("lower", False)


async def test_a_number_is_the_figure_score_and_another_file_another_protocol(
    tmp_path: Path,
) -> None:
    text = "def score(sample, output): return len(output.text)"
    scorer = scorer_of(tmp_path, text)
    assert await scored(tmp_path, text) == {"score": 3.0}
    assert scorer.protocol["name"] == "file"
    assert scorer.protocol != scorer_of(tmp_path, text + " + 0").protocol
    again = pickle.loads(pickle.dumps(scorer))  # a cluster sends tasks so
    assert again.protocol == scorer.protocol


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def score(sample, output):\n    return 1 / 0", "ZeroDivisionError: .* \\(line 2\\)"),
        ("def score(sample, output): return 'x'", "gave 'x' for 7, not a number for score"),
        ("def score(sample, output): return {'n': 1}", "not a number for each of score"),
        (
            "METRICS = {'right': 'share'}\ndef score(sample, output): return 0.5",
            "gave 0.5 for 7, not 0 or 1 for right, which is a share",
        ),
    ],
)
async def test_what_it_gives_is_checked_for_each_sample(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(InputError, match=said, check=about("scorer")):
        await scored(tmp_path, text)


def test_a_file_that_cannot_be_a_scorer_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no scorer", check=about("scorer")):
        make_scorer({"file": str(tmp_path / "none.py")})
    with pytest.raises(
        InputError, match=r"cannot be run: SyntaxError: .*\(line 1\)", check=about("scorer")
    ):
        scorer_of(tmp_path, "def score(:")
    with pytest.raises(
        InputError, match="cannot be run: ModuleNotFoundError", check=about("scorer")
    ):
        scorer_of(tmp_path, "import nothing_of_this_name")
    with pytest.raises(InputError, match="has no function score", check=about("scorer")):
        scorer_of(tmp_path, "METRICS = {'a': 'share'}")
    with pytest.raises(InputError, match=r"METRICS of .* is", check=about("scorer")):
        scorer_of(tmp_path, "METRICS = {'a': 'best'}\ndef score(s, o): return 1")
