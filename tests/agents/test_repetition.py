"""Turns that go round in circles, and those that only look like it."""

from __future__ import annotations

import pytest
from tests.agents.scripted_tools import calls

from lmstack.agents.deciding import repeated
from lmstack.agents.progress import AgentTurn
from lmstack.agents.steps import ModelStep


def turns(*made: str) -> list[AgentTurn]:
    """A turn for each word, which calls the tool of each of its letters; a capital one with other
    arguments."""
    found = []
    for word in made:
        message = calls(*((each.lower(), {"x": 1, "y": each.isupper()}) for each in word))
        found.append(AgentTurn(ModelStep("", calls=message.tool_calls)))
    return found


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (["a", "a"], "the call of a with the same arguments"),
        (["ab", "ba"], "the call of a and b with the same arguments"),
        (["x", "a", "a"], "the call of a with the same arguments"),
        (["a", "b", "a", "b"], "the call of b in turns with another"),
        (["ab", "c", "ba", "c"], "the call of c in turns with another"),
        (["a"], None),
        ([], None),
        (["a", ""], None),
        (["", ""], None),
        (["a", "A"], None),
        (["a", "aa"], None),
        (["a", "b", "a"], None),
        (["b", "a", "b", "c", "b"], None),
        (["a", "b", "c", "b"], None),
        (["", "b", "", "b"], None),
    ],
)
def test_what_the_last_turn_repeats(made: list[str], what: str | None) -> None:
    assert repeated(turns(*made)) == what


def test_arguments_are_the_same_however_they_are_written() -> None:
    one, two = calls(("a", '{"x": 1, "y": 2}')), calls(("a", '{"y":2,"x":1}'))
    broken = calls(("a", "{"))
    made = [AgentTurn(ModelStep("", calls=each.tool_calls)) for each in (one, two, broken, broken)]
    assert repeated(made[:2]) == "the call of a with the same arguments"
    assert repeated(made[:3]) is None
    assert repeated(made) == "the call of a with the same arguments"
