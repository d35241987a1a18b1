"""A reward in a Python file that the recipe names: what it is given, and what it must return."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from tests.errors import about
from tests.train.rewards.drawn import drawn

from lmstack.core import InputError, NotFoundError
from lmstack.train.objectives import objective_named
from lmstack.train.rewards import Checks, reward_named, scored
from lmstack.train.rewards.own import OwnReward
from lmstack.train.rollouts.protocol import WeightedReward

SHORT = """
from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Limit:
    most: int


def score(samples, most=3):
    limit = Limit(most)
    return [
        float(len(s.ids) <= limit.most and s.finish == "stop" and s.row["word"] in s.text)
        for s in samples
    ]


def scores(samples):
    return (len(s.prompt) for s in samples)
"""


def written(folder: Path, source: str) -> str:
    path = folder / "my_reward.py"
    path.write_text(source)
    return str(path)


def reward(folder: Path, source: str, **settings: Any) -> OwnReward:
    found = reward_named("own", {"file": written(folder, source), **settings}).lent(Checks())
    assert isinstance(found, OwnReward)
    return found


def test_it_sees_answers_and_rows_and_is_given_its_settings(tmp_path: Path) -> None:
    samples = [drawn("a cat", word="cat", tokens=3), drawn("a dog", word="cat", tokens=3)]
    samples.append(drawn("a big cat", word="cat", tokens=4))
    assert reward(tmp_path, SHORT).score(samples) == [1.0, 0.0, 0.0]
    assert reward(tmp_path, SHORT, settings={"most": 4}).score(samples) == [1.0, 0.0, 1.0]
    counted = reward(tmp_path, SHORT, function="scores")
    assert counted.score(samples) == [float(len(s.prompt)) for s in samples]  # a generator's


def test_a_recipe_names_it_by_its_file_and_its_metrics_by_its_function(tmp_path: Path) -> None:
    file = written(tmp_path, SHORT)
    rewards = [{"file": file, "weight": 0.5}, {"name": "own", "file": file, "function": "scores"}]
    objective = objective_named("grpo", {"rewards": rewards})
    found = [reward_named(each.name, each.settings) for each in objective.reward_settings]
    weights = [each.weight for each in objective.reward_settings]
    together = [WeightedReward(*each) for each in zip(found, weights, strict=True)]
    both = scored(together, [drawn("a cat", word="cat", tokens=1)])
    assert both.parts.keys() == {"score", "scores"}
    assert both.totals == [0.5 + len(drawn("").prompt)]


def test_the_digest_is_that_of_the_code_that_runs(tmp_path: Path) -> None:
    """Not of what stands in the file by then."""
    found = reward(tmp_path, SHORT)
    written(tmp_path, "def score(samples):\n    return [7.0] * len(samples)\n")
    assert found.digest == hashlib.sha256(SHORT.encode()).hexdigest()
    assert found.score([drawn("a cat", word="cat", tokens=1)]) == [1.0]


@pytest.mark.parametrize(
    ("returned", "error"),
    [
        ("[1.0]", "the reward score gave 1 numbers for 2 answers"),
        ("[1.0] * 3", "the reward score gave 3 numbers for 2 answers"),
        ("[1.0, float('nan')]", "the reward score gave nan for the answer 'two'"),
        ("[float('inf'), 1]", "the reward score gave inf for the answer 'one'"),
        ("[1.0, None]", r"score of .*my_reward\.py returned None for an answer, not a number"),
        ("[1.0, '1.0']", r"returned '1\.0' for an answer, not a number"),
        ("[1.0, 10**400]", "for an answer, not a number"),
        ("[[1.0], [2.0]]", r"returned \[1\.0\] for an answer, not a number"),
        ("None", "returned None, not a list of numbers"),
        ("0.5", r"returned 0\.5, not a list of numbers"),
        ("'12'", "returned '12', not a list of numbers"),
        ("{'one': 1, 'two': 2}", "not a list of numbers"),
        (
            "[1 / len(s.row) for s in samples]",
            r"failed: ZeroDivisionError: division by zero \(line 3\)",
        ),
    ],
)
def test_bad_returns_end_the_step_in_words(tmp_path: Path, returned: str, error: str) -> None:
    found = reward(tmp_path, f"\ndef score(samples):\n    return {returned}\n")
    with pytest.raises(InputError, match=error) as problem:
        scored([WeightedReward(found)], [drawn("one"), drawn("two")])
    assert problem.value.param == "rewards"


@pytest.mark.parametrize(
    ("source", "error", "hint"),
    [
        ("def score(samples:\n", r"cannot be run: SyntaxError: .* \(line 1\)", "python"),
        ("\nimport nothing_of_that_name\n", r"ModuleNotFoundError: .* \(line 2\)", "python"),
        ("raise SystemExit(3)", r"SystemExit: 3 \(line 1\)", "python"),
        ("def scored(samples): ...", "has no function 'score'", "did you mean 'scored'?"),
        ("score = 3", "has no function 'score'", "function:"),
    ],
)
def test_a_file_that_cannot_be_used_is_said_before_data_is_read(
    tmp_path: Path, source: str, error: str, hint: str
) -> None:
    objective = objective_named("grpo", {"rewards": [{"file": written(tmp_path, source)}]})
    with pytest.raises(InputError, match=error, check=about("rewards")) as problem:
        objective.fitted(None, lambda: iter(()))  # type: ignore[arg-type]
    assert hint in str(problem.value.hint)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    objective = objective_named("ppo", {"rewards": [{"file": str(tmp_path / "none.py")}]})
    with pytest.raises(
        NotFoundError, match=r"there is no reward file .*none\.py", check=about("rewards")
    ):
        objective.fitted(None, lambda: iter(()))  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match="the reward own: OwnReward lacks the setting 'file'", check=about("file")
    ):
        objective_named("grpo", {"rewards": ["own"]})
    for name in ("file", "function"):
        with pytest.raises(InputError, check=about(name)):
            OwnReward(**{"file": "x.py", name: "\ud800"})
    with pytest.raises(
        InputError, match="settings is 3, not settings by name", check=about("settings")
    ):
        OwnReward("x.py", settings=3)  # type: ignore[arg-type]


def test_an_error_of_ours_in_it_keeps_its_words(tmp_path: Path) -> None:
    source = """
from lmstack.core import InputError

def score(samples):
    raise InputError("the row has no word", hint="word: a word")
"""
    with pytest.raises(InputError, match="the reward score: the row has no word"):
        scored([WeightedReward(reward(tmp_path, source))], [drawn("one")])
