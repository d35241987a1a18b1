"""Tools by their names."""

from __future__ import annotations

import importlib

import pytest

from lmstack.agents.tools import FunctionTool, Toolbox, calculator, tool
from lmstack.core import InputError, NotFoundError


def greet(name: str) -> str:
    """Greet somebody."""
    return f"Hello {name}"


async def wait() -> str:
    return "waited"


def numbered(count: int) -> list[FunctionTool]:
    return [FunctionTool.of(wait, name=f"files__tool_{number}") for number in range(count)]


def test_it_is_made_of_functions_tools_and_iterables_of_them() -> None:
    box = Toolbox(greet, calculator(), numbered(2), Toolbox(tool(wait)))
    names = ["greet", "calculator", "files__tool_0", "files__tool_1", "wait"]
    assert list(box) == names
    assert [shown.name for shown in box.shown] == names
    assert box["greet"].tool.description == "Greet somebody."


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="two tools have the name greet"):
        Toolbox(greet, FunctionTool.of(greet))


@pytest.mark.parametrize("source", ["greet", 3, object()])
def test_what_is_no_tool_is_refused(source: object) -> None:
    with pytest.raises(InputError, match="is not a tool"):
        Toolbox(source)  # type: ignore[arg-type]


def test_names_and_patterns_select_in_the_order_of_the_box() -> None:
    box = Toolbox(greet, numbered(3), wait)
    assert list(box.select("wait", "files__*")) == [
        "files__tool_0",
        "files__tool_1",
        "files__tool_2",
        "wait",
    ]
    assert list(box.select("greet", "greet")) == ["greet"]
    assert list(box.select()) == []
    with pytest.raises(NotFoundError, match=r"no tool 'great'.*did you mean greet"):
        box.select("great")
    with pytest.raises(NotFoundError, match="no tool fits 'web__") as caught:
        box.select("web__*")
    assert caught.value.hint == "there are greet, files__tool_0, files__tool_1, files__tool_2, wait"
    with pytest.raises(NotFoundError, match=r"no tool fits 'greet\?'") as caught:
        box.select("greet?")
    assert caught.value.hint == "did you mean greet?"


async def test_a_call_of_a_name_that_is_not_there_names_the_nearest() -> None:
    box = Toolbox(greet, calculator())
    assert (await box.call("greet", {"name": "Ada"})).text == "Hello Ada"
    result = await box.call("calculate", {"expression": "1"})
    assert result.is_error
    assert "did you mean calculator?" in result.text


async def test_with_fifty_tools_an_error_stays_short() -> None:
    box = Toolbox(numbered(50))
    result = await box.call("zzz", {})
    assert "and 40 more" in result.text
    assert len(result.text) < 400
    assert (await box.call("files__tool_49", {})).text == "waited"
    assert "no tools" in (await Toolbox().call("zzz", {})).text


@pytest.mark.parametrize("package", ["lmstack.agents", "lmstack.agents.tools"])
def test_a_package_without_a_name_says_so(package: str) -> None:
    with pytest.raises(AttributeError, match=rf"^module '{package}' has no attribute 'Nothing'$"):
        importlib.import_module(package).Nothing  # noqa: B018
