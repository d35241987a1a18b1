"""Rewards by name: settings, weights, faults; shaping; what is lent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.errors import about
from tests.train.rewards.drawn import drawn

from lmstack.core import InputError, UnsupportedError
from lmstack.text import VocabularyConfig, train_tokenizer
from lmstack.train.data.rows import Row
from lmstack.train.objectives import objective_named
from lmstack.train.objectives.objective import Reading
from lmstack.train.objectives.online import RewardSetting, reward_setting
from lmstack.train.rewards import REWARDS, Checks, reward_named, scored
from lmstack.train.rewards.citations import Citations
from lmstack.train.rewards.reward import CitedClaim
from lmstack.train.rewards.shaping import Finished, Length, Markers
from lmstack.train.rewards.unit_tests import UnitTests, code_of
from lmstack.train.rollouts.protocol import RolloutSample, WeightedReward


@dataclass
class Given:
    scores: Sequence[float]
    name: str = "given"

    def score(self, samples: Sequence[RolloutSample]) -> list[float]:
        return list(self.scores)


def weighted(name: str, weight: float = 1.0, **settings: Any) -> WeightedReward:
    return WeightedReward(reward_named(name, settings), weight)


def test_totals_are_weighted_sums_and_the_parts_are_kept() -> None:
    rewards = [weighted("arithmetic"), weighted("length", 0.5, most=10, buffer=5)]
    samples = [drawn("4", answer=4, tokens=20), drawn("5", answer=4, tokens=2)]
    found = scored(rewards, samples)
    assert found.totals == [0.5, 0.0]
    assert found.parts == {"arithmetic": [1.0, 0.0], "length": [-1.0, 0.0]}


def test_one_reward_twice_has_two_names() -> None:
    twice = [weighted("markers", markers=[letter]) for letter in "ab"]
    assert scored(twice, [drawn("a")]).parts == {"markers": [1.0], "markers-2": [0.0]}


@pytest.mark.parametrize(
    ("name", "settings", "error", "hint"),
    [
        ("arithmatic", {}, "there is no reward 'arithmatic'", "did you mean 'arithmetic'?"),
        ("jsonschema", {}, "there is no reward 'jsonschema'", "did you mean 'json-schema'?"),
        ("", {}, "there is no reward ''", "one of arithmetic, "),
        ("arithmetic", {"marks": True}, "has no setting 'marks'", "'marked'"),
        ("arithmetic", {"marked": 1.5}, "the reward arithmetic: marked is 1.5", None),
        ("length", {"buffer": 9, "most": 3}, "buffer is 9, more than most, 3", "buffer"),
        ("markers", {}, "markers is empty", "markers"),
    ],
)
def test_what_is_wrong_is_said_with_the_nearest(
    name: str, settings: Any, error: str, hint: str | None
) -> None:
    with pytest.raises(
        InputError,
        match=error,
        check=about("buffer", "marked", "markers", "marks", "phrase", "rewards"),
    ) as found:
        reward_named(name, settings)
    assert hint is None or hint in str(found.value.hint)


@pytest.mark.parametrize(
    ("scores", "error"),
    [
        ([math.nan, 1.0], "the reward given gave nan for the answer 'one'"),
        ([1.0, math.inf], "the reward given gave inf for the answer 'two'"),
        ([1.0], "gave 1 numbers for 2 answers"),
        ([1.0] * 3, "gave 3 numbers for 2 answers"),
    ],
)
def test_a_reward_without_a_finite_number_for_each_ends_the_step(
    scores: list[float], error: str
) -> None:
    with pytest.raises(InputError, match=error, check=about("rewards")):
        scored([WeightedReward(Given(scores))], [drawn("one"), drawn("two")])


def test_an_error_of_a_reward_names_it_and_is_not_swallowed() -> None:
    @dataclass
    class Fails(Given):
        error: Exception = InputError("no")  # noqa: RUF009

        def score(self, samples: Sequence[RolloutSample]) -> list[float]:
            raise self.error

    with pytest.raises(InputError, match="the reward given: no"):
        scored([WeightedReward(Fails([]))], [drawn("one")])
    with pytest.raises(ZeroDivisionError):
        scored([WeightedReward(Fails([], error=ZeroDivisionError()))], [drawn("one")])


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=1, max_size=5))
def test_the_sum_does_not_depend_on_the_order(parts: list[tuple[float, float]]) -> None:
    def total(order: Sequence[tuple[float, float]]) -> float:
        rewards = [WeightedReward(Given([score]), weight) for score, weight in order]
        return scored(rewards, [drawn("x")]).totals[0]

    assert total(parts) == total(parts[::-1])


def test_every_reward_checks_rows_and_is_documented() -> None:
    import lmstack.train.rewards as package

    for name, of in REWARDS.items():
        assert name == of.name
        assert f"\n{name} " in str(package.__doc__)
        if any(not column.startswith("[") for column in of.columns):
            one = of()
            with pytest.raises(
                InputError,
                match=f"the reward {name} reads the column",
                check=about("answer", "schema", "sources", "tests"),
            ):
                one.check_row({"prompt": "x"})


def test_dapos_punishment_falls_in_a_line() -> None:
    lengths = [0, 6, 7, 8, 9, 10, 11]
    samples = [drawn("x", tokens=n) for n in lengths]
    assert Length(most=10, buffer=4).score(samples) == [0, 0, -0.25, -0.5, -0.75, -1, -1]
    assert Length(most=10, buffer=0).score(samples) == [0, 0, 0, 0, 0, 0, -1]
    assert Length(most=10, buffer=10).score([drawn("x", tokens=5)]) == [-0.5]


def test_finished_and_markers() -> None:
    assert Finished().score([drawn("x"), drawn("x", finish="length")]) == [1, 0]
    texts = ["<a>1</a>", "</a><a>", "<a>", "<a></a></a>", ""]
    reward = Markers(markers=("<a>", "</a>"))
    assert reward.score([drawn(text) for text in texts]) == [1, 0, 0, 0, 0]


@dataclass(frozen=True)
class Passes:
    passed: bool


class Judges:
    def __init__(self) -> None:
        self.jobs: list[tuple[str, str, str | None]] = []

    def judge(self, jobs: Sequence[tuple[str, str, str | None]]) -> list[Passes]:
        self.jobs += jobs
        return [Passes("right" in code) for code, _, _ in jobs]


def test_the_code_of_an_answer_is_judged_after_what_stands_before_it() -> None:
    judges = Judges()
    reward = UnitTests().lent(Checks(code=lambda: judges))
    row = {"tests": "T", "entry_point": "f", "before": "import math\n"}
    samples = [drawn("So:\n```python\nright()\n```\nDone.", **row), drawn("wrong()", tests="T")]
    assert reward.score(samples) == [1, 0]
    assert judges.jobs == [("import math\nright()\n", "T", "f"), ("wrong()", "T", None)]


def test_the_last_block_is_the_code_and_an_open_one_is_a_block() -> None:
    assert code_of("```\na\n```\n```py\nb\n```") == "b\n"
    assert code_of("```python\na = 1") == "a = 1"
    assert code_of("a = 1") == "a = 1"


@pytest.mark.parametrize("name", ["unit-tests", "citations"])
def test_what_is_not_lent_is_said_before_anything_is_scored(name: str) -> None:
    with pytest.raises(UnsupportedError, match=f"the reward {name} needs"):
        reward_named(name, {}).lent(Checks())


SOURCES = ["The committee met on Tuesday. It chose a red door.", "The bridge is 40 m long."]


class Reads:
    """Claims that are given, whatever the answer."""

    def __init__(self, *claims: CitedClaim) -> None:
        self.found = claims

    def claims(self, answer: str, sources: Sequence[str]) -> Sequence[CitedClaim]:
        assert list(sources) == SOURCES
        return self.found


@pytest.mark.parametrize(
    ("claim", "score"),
    [
        (CitedClaim("It met on Tuesday.", (1,), True), 1),
        (CitedClaim("It met on Tuesday.", (1,), False), 0),
        (CitedClaim("It met on Tuesday.", (), True), 0),
        (CitedClaim('It "chose  a\nred door".', (1,), True), 1),
        (CitedClaim('It "chose a blue door".', (1,), True), 0),
        (CitedClaim('It "chose a red door".', (2,), True), 0),
        (CitedClaim('It "chose a red door" and "40 m".', (1, 2), True), 1),
        (CitedClaim("\u201cchose a blue door\u201d", (1,), True), 0),
        (CitedClaim("\u00abchose a blue door\u00bb", (1,), True), 0),
    ],
)
def test_a_sentence_holds_where_it_cites_what_bears_it_out_and_quotes_what_is_there(
    claim: CitedClaim, score: float
) -> None:
    reward = Citations().lent(Checks(citations=lambda: Reads(claim)))
    assert reward.score([drawn("?", sources=SOURCES)]) == [score]
    half = Reads(claim, CitedClaim("Nobody says so.", (), False))
    reward = Citations().lent(Checks(citations=lambda: half))
    assert reward.score([drawn("?", sources=SOURCES)]) == [score / 2]


def test_an_answer_without_a_sentence_has_nothing() -> None:
    reward = Citations().lent(Checks(citations=Reads))
    assert reward.score([drawn("", sources=SOURCES)]) == [0.0]


@pytest.mark.parametrize("sources", [None, [], "x", [1], {"a": "b"}])
def test_a_row_without_sources_is_refused(sources: Any) -> None:
    Citations().check_row({"sources": SOURCES})
    with pytest.raises(InputError, match="sources", check=about("sources")):
        Citations().check_row({"sources": sources})


def test_a_run_refuses_a_row_that_its_rewards_cannot_read() -> None:
    tokenizer = train_tokenizer(["1 + 1 = 2"], VocabularyConfig(vocab_size=300))
    reading = Reading(tokenizer, None, max_length=300)
    grpo = objective_named("grpo", {"rewards": ["arithmetic"]})
    assert len(list(grpo.encode(Row({"prompt": "1 + 1", "answer": 2}, "r"), reading))) == 1
    with pytest.raises(InputError, match="reads the column 'answer'", check=about("answer")):
        list(grpo.encode(Row({"prompt": "1 + 1"}, "r"), reading))
    with pytest.raises(InputError, match="no setting 'marks'", check=about("marks")):
        objective_named("grpo", {"rewards": [{"name": "arithmetic", "marks": True}]})


def test_a_reward_is_a_name_with_a_weight_of_up_to_a_million() -> None:
    assert reward_setting("a") == RewardSetting("a", 1.0, {})
    assert reward_setting({"name": "a", "weight": -1e6, "b": 2}) == RewardSetting(
        "a", -1e6, {"b": 2}
    )
    assert reward_setting({"file": "f.py"}).settings == {"file": "f.py"}
    for weight in (1.1e6, -1.1e6, "x"):
        with pytest.raises(InputError, match=r"rewards\.weight", check=about("rewards.weight")):
            reward_setting({"name": "a", "weight": weight})
    for wrong in (3, {"weight": 1}, {"name": 3}):
        with pytest.raises(InputError, match="a reward is", check=about("rewards")):
            reward_setting(wrong)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"tests": " \n"}, "tests"),
        ({"tests": 3}, "tests"),
        ({"entry_point": 3}, "entry_point"),
        ({"before": "\ud800"}, "before"),
    ],
)
def test_code_is_judged_by_tests_that_are_text(changes: dict[str, Any], name: str) -> None:
    row = {"tests": "assert f(1) == 2", "entry_point": None, "before": ""}
    UnitTests().check_row(row)
    with pytest.raises(InputError, match=name, check=about(name)):
        UnitTests().check_row({**row, **changes})
