"""Where answers of a remote model may be drawn although the temperature 0 was asked for: where they
are read, and not where figures are made of them."""

from __future__ import annotations

import pytest

from lmstack.app import wiring
from lmstack.app.wiring.subjects import opened

NAME = "openai:some"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")


def test_a_model_draws_only_where_it_may() -> None:
    for make in (wiring.generator, wiring.lazy_generator):
        drawn = {may: vars(make(NAME, may_draw=may))["_may_draw"] for may in (False, True)}
        assert drawn == {False: False, True: True}
        assert vars(make(NAME))["_may_draw"] is False


def test_what_is_evaluated_may_not() -> None:
    with opened(NAME) as model:
        assert vars(model)["_may_draw"] is False
