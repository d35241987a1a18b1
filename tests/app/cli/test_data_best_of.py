"""`lmstack data best-of`: what is kept, what is never kept, and going on after it was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmstack.app import wiring
from lmstack.core import (
    Choice,
    Completion,
    InputError,
    Message,
    Request,
    ScriptedModel,
    Usage,
)
from lmstack.pipelines import best_of
from lmstack.pipelines.best_of import BestOfConfig, DrawnAnswers, rows_of
from lmstack.train.data.formats import messages_of, preference_of
from lmstack.train.data.rows import Row

if TYPE_CHECKING:
    from tests.app.conftest import Run

PROMPT = (Message("user", "2 + 2?"),)
SUMS = [{"prompt": f"{n} + 1?", "answer": n + 1} for n in range(6)]


def asked(
    answers: list[str], rewards: list[float], ended: list[bool] | None = None
) -> DrawnAnswers:
    whole = [True] * len(answers) if ended is None else ended
    return DrawnAnswers("0", PROMPT, tuple(answers), tuple(rewards), tuple(whole))


def test_the_best_that_ended_is_kept_with_all_rewards() -> None:
    found = asked(["a", "b", "c"], [0.1, 0.9, 2.0], [True, True, False])
    (row,) = rows_of(found, BestOfConfig(samples=3))
    assert messages_of(Row(row, ""))[-1] == Message("assistant", "b")
    assert (row["reward"], row["rewards"]) == (0.9, [0.1, 0.9, 2.0])


def test_the_best_that_differ_are_kept_and_none_below_the_least() -> None:
    found = asked(["a", "a ", "b", "c"], [0.9, 0.9, 0.5, 0.1])
    config = BestOfConfig(samples=4, keep=3, least=0.2)
    assert [row["messages"][-1]["content"] for row in rows_of(found, config)] == ["a", "b"]
    assert not list(rows_of(found, BestOfConfig(samples=4, least=1.0)))


def test_pairs_are_the_best_and_the_worst_by_how_much() -> None:
    found = asked(["a", "b", "c"], [0.5, 2.0, -1.0])
    (row,) = rows_of(found, BestOfConfig(samples=3, pairs=True))
    pair = preference_of(Row(row, ""))
    assert (pair.chosen[0].content, pair.rejected[0].content) == ("b", "c")
    assert pair.margin == 3.0
    even = asked(["a", "b", "c"], [1.0, 1.0, 1.0])
    assert not list(rows_of(even, BestOfConfig(samples=3, pairs=True)))


@given(
    st.lists(st.tuples(st.sampled_from("abcd "), st.floats(-3, 3), st.booleans()), min_size=2),
    st.integers(1, 4),
    st.one_of(st.none(), st.floats(-3, 3)),
    st.booleans(),
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_kept_is_never_cut_empty_or_worse_than_what_is_not(
    drawn: list[tuple[str, float, bool]], keep: int, least: float | None, pairs: bool
) -> None:
    texts, rewards, ended = (list(each) for each in zip(*drawn, strict=True))
    config = BestOfConfig(max(len(drawn), keep), keep, least, pairs)
    rows = list(rows_of(asked(texts, rewards, ended), config))
    good = {t for t, r, e in drawn if e and t.strip() and (least is None or r >= least)}
    usable = [r for t, r, e in drawn if e and t.strip()]
    if pairs:
        for row in rows:
            assert row["margin"] == max(usable) - min(usable) > 0
            assert row["chosen"][0]["content"] in good
        return
    kept = [row["messages"][-1]["content"] for row in rows]
    assert len(kept) == len(set(kept)) == min(keep, len(good))
    assert set(kept) <= good
    if rows:
        assert rows[0]["reward"] == max(usable)


def test_the_divergence_is_that_of_the_paper() -> None:
    assert BestOfConfig(samples=2).divergence == pytest.approx(0.6931 - 0.5, abs=1e-4)


class Sums(ScriptedModel):
    """Answers sums right in the last of its choices, and dies before prompt number ``stop``."""

    def __init__(self, stop: int = 1000) -> None:
        super().__init__(name="tiny")
        self.stop, self.seeds = stop, dict[str, int | None]()


async def _complete(model: Sums, request: Request) -> Completion:
    text = request.messages[-1].content
    if len(model.seeds) >= model.stop:
        raise KeyboardInterrupt
    model.seeds[text] = request.sampling.seed
    right = str(int(text.split()[0]) + 1)
    texts = ["no", *["7 or so"] * (request.sampling.n - 2), right]
    choices = tuple(Choice(i, each, "stop") for i, each in enumerate(texts))
    return Completion(choices, Usage(), model.info)


@pytest.fixture
def prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wiring, "require_models", lambda *_: None)
    monkeypatch.setattr(best_of, "complete", _complete)
    path = Path("prompts.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in SUMS))
    return path


def use(monkeypatch: pytest.MonkeyPatch, model: Sums) -> None:
    monkeypatch.setattr(wiring, "lazy_generator", lambda *_, **__: model)


def test_right_answers_are_written_with_their_rewards(
    run: Run, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Sums()
    use(monkeypatch, model)
    ran = run("data", "best-of", str(prompts), "--reward", "arithmetic", "--samples", "4", "--json")
    assert ran.code == 0, ran.err
    rows = [json.loads(line) for line in Path("best.jsonl").read_text().splitlines()]
    assert [row["messages"][-1]["content"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert all(row["reward"] == 1.0 and len(row["rewards"]) == 4 for row in rows)
    assert ran.json["rows"] == 6
    assert ran.json["best_reward"] == 1.0
    assert len(set(model.seeds.values())) == 6


def test_stopped_it_goes_on_and_gives_the_same(
    run: Run, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("data", "best-of", str(prompts), "--reward", "arithmetic", "--samples", "3")
    whole = Sums()
    use(monkeypatch, whole)
    assert run(*command, "-o", "whole.jsonl").code == 0
    use(monkeypatch, Sums(stop=5))
    assert run(*command).code == 130
    assert not Path("best.jsonl").exists()
    rest = Sums()
    use(monkeypatch, rest)
    other = run(*command, "--seed", "1")
    assert other.code == 1
    assert "begun with other settings: seed" in other.err
    assert run(*command).code == 0
    assert 0 < len(rest.seeds) < 6
    assert rest.seeds.items() <= whole.seeds.items()
    assert Path("best.jsonl").read_text() == Path("whole.jsonl").read_text()


def test_a_prompt_that_the_reward_cannot_read_is_named(
    run: Run, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Sums())
    prompts.write_text('{"prompt": "1 + 1?"}\n' + json.dumps(SUMS[0]) + "\n")
    ran = run("data", "best-of", str(prompts), "--reward", "arithmetic")
    assert ran.code == 0
    assert "left out prompts.jsonl:1: the reward arithmetic reads the column 'answer'" in ran.err


def test_a_python_file_may_be_the_reward(
    run: Run, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Sums())
    own = prompts.parent / "own.py"
    own.write_text("def score(samples):\n    return [s.row['answer'] / 4 for s in samples]\n")
    ran = run("data", "best-of", str(prompts), "--reward", str(own), "--samples", "2", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["best_reward"] == pytest.approx(
        sum(row["answer"] / 4 for row in SUMS) / len(SUMS)
    )


def test_what_is_no_reward_is_said(
    run: Run, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Sums())
    ran = run("data", "best-of", str(prompts), "--reward", "arithmetics")
    assert ran.code != 0
    assert "there is no reward and no model 'arithmetics'" in ran.err
    with pytest.raises(InputError, match="keep is 9, of 8 samples"):
        BestOfConfig(keep=9)
