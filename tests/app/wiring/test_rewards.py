"""Rewards as the program lends them what they need: a real sandbox, and the check of citations."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import numpy as np
import pytest
from tests.agents.hostile_code import ENTRY_POINT, RIGHT, SPOOFS, TESTS
from tests.sandboxes import made_or_skipped
from tests.train.rewards.drawn import drawn

from lmstack.agents.sandbox import landlocked
from lmstack.app.wiring import training
from lmstack.app.wiring.training import reward_for
from lmstack.core import ExtraMissingError, InputError, ModelInfo
from lmstack.pipelines.citation_check import CitationCheck
from lmstack.train.rewards.citations import Citations
from lmstack.train.rewards.reward import Checks

SOURCES = [
    "The harbour committee met on Tuesday. It chose a red door for the northern shed.",
    "The new bridge is 40 metres long and carries two lanes.",
]


class Words:
    """Embeds a text as the words that it has."""

    info = ModelInfo("words")

    def embed(self, texts: Sequence[str], kind: str = "passage") -> np.ndarray:
        vectors = np.zeros((len(texts), 512), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in text.lower().split():
                row[sum(word.strip(".,").encode()) % 512] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("The harbour committee met on Tuesday [1].", 1.0),
        ("The harbour committee met on Tuesday [1]. The bridge is 40 metres long [2].", 1.0),
        ("The harbour committee met on Tuesday [1]. The bridge is 50 metres long [2].", 0.5),
        ('It chose "a red door" for the northern shed [1].', 1.0),
        ('It chose "a red floor" for the northern shed [1].', 0.0),
        ("The harbour committee met on Tuesday [2].", 0.0),
        ("The harbour committee met on Tuesday [7].", 0.0),
        ("The harbour committee met on Tuesday.", 0.0),
        ("[1] [2] [1][2]", 0.0),
        ("", 0.0),
        ("[" * 2000, 0.0),
    ],
)
def test_the_score_is_the_share_of_sentences_that_hold(answer: str, score: float) -> None:
    reward = Citations().lent(Checks(citations=lambda: CitationCheck(Words())))  # type: ignore[arg-type]
    assert reward.score([drawn(answer, sources=SOURCES)]) == [score]


def test_unit_tests_are_run_in_the_sandbox_and_no_spoof_is_paid() -> None:
    made_or_skipped()
    names = ["exit at once", "equal to everything", "patched check"]
    codes = [f"Here it is:\n```python\n{RIGHT}```\n", RIGHT, *(SPOOFS[name] for name in names)]
    samples = [drawn(code, tests=TESTS, entry_point=ENTRY_POINT) for code in codes]
    assert reward_for("unit-tests", {}).score(samples) == [1, 1, 0, 0, 0]


def test_without_a_sandbox_the_run_ends_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(landlocked, "version", lambda: 0)
    with pytest.raises(ExtraMissingError, match="bubblewrap is not installed") as error:
        reward_for("unit-tests", {})
    assert "install bubblewrap" in str(error.value.hint)


def test_nothing_is_loaded_for_a_reward_that_needs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, "embedder_named", None)
    assert reward_for("arithmetic", {}).score([drawn("4", answer=4)]) == [1.0]
    with pytest.raises(InputError, match="no reward 'arithmetics'"):
        reward_for("arithmetics", {})
