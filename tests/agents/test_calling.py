"""Running a tool: what comes back is bounded, well-formed and without secrets."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agents.scripted_tools import FakeTool, call, calls
from tests.errors import about

from lmstack.agents import Agent, RunStore, ToolStep
from lmstack.agents.arguments import canonical_json, check_value_schema, problems
from lmstack.agents.calling import clean_text, shortened
from lmstack.agents.tools import Picture, ToolResult
from lmstack.core import InputError, Prompt, RemoteError, ScriptedModel, Span
from lmstack.core.json_text import parse_json

KEY = "sk-123-very-secret"


async def stepped(tool: FakeTool, **options: Any) -> ToolStep:
    run = await Agent(ScriptedModel([call(), "done"]), tools=[tool], **options).run("go")
    [step] = [step for step in run.steps if isinstance(step, ToolStep)]
    return step


async def test_a_long_result_is_cut_and_says_so() -> None:
    step = await stepped(FakeTool(reply="x" * 500), result_chars=100)
    assert step.text == "x" * 100 + "\n(... 400 more characters are not shown.)"


@pytest.mark.parametrize(
    "reply",
    [
        f"the key is {KEY}",
        ToolResult("see data", data={"a": [f"{KEY}!", {KEY: 1}]}),
        RemoteError(f"401 for {KEY}"),
        ValueError(f"bad {KEY}"),
    ],
)
async def test_secrets_are_masked_whatever_they_come_in(reply: Any, tmp_path: Any) -> None:
    store = RunStore(tmp_path / "runs", fsync=False)
    tool = FakeTool(reply=reply)
    agent = Agent(ScriptedModel([call(), "done"]), tools=[tool], secrets={"KEY": KEY})
    run = await agent.run("go", store=store)
    assert tool.contexts[0].secrets == {"KEY": KEY}
    assert KEY not in repr(run)
    assert "***" in repr(run)
    assert KEY.encode() not in b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert KEY not in repr(replace(agent.equipment, tools={}))


@pytest.mark.parametrize("names", [("SHORT", "LONG"), ("LONG", "SHORT")])
async def test_a_secret_that_begins_with_another_is_masked_whole(names: tuple[str, str]) -> None:
    values = {"SHORT": "sk-abc", "LONG": "sk-abcdef"}
    secrets = {name: values[name] for name in names}
    tool = FakeTool(reply=ToolResult("sk-abcdef sk-abc", data=["sk-abcdef"]))
    step = await stepped(tool, secrets=secrets)
    assert (step.text, step.data) == ("*** ***", ["***"])


async def test_half_characters_are_replaced() -> None:
    step = await stepped(
        FakeTool(reply=ToolResult("a\ud83d b\ud83d\ude00", data={"\ud83d": "\udc00"}))
    )
    assert step.text == "a\ufffd b\U0001f600"
    assert step.data == {"\ufffd": "\ufffd"}


@given(st.text(alphabet=st.characters()))
def test_clean_text_can_be_written_and_well_formed_text_stays(text: str) -> None:
    assert clean_text(text).encode().decode() == clean_text(text)
    if not any("\ud800" <= c <= "\udfff" for c in text):
        assert clean_text(text) == text


@pytest.mark.parametrize("data", [math.nan, {1, 2}, object(), "x" * (1 << 21)])
async def test_data_that_is_no_json_or_too_much_is_left_out(data: Any) -> None:
    step = await stepped(FakeTool(reply=ToolResult("text", data=data)))
    assert (step.text, step.data, step.outcome) == ("text", None, "ok")


async def test_pictures_are_kept_up_to_a_size() -> None:
    small, large = Picture("image/png", b"x"), Picture("image/png", b"x" * (9 << 20))
    step = await stepped(FakeTool(reply=ToolResult("see", pictures=(small, large))))
    assert step.pictures == (small,)
    assert step.text == "see\n(1 pictures were too large to keep.)"


async def test_an_error_of_an_untrusted_tool_is_fenced_too() -> None:
    tool = FakeTool(reply=RemoteError("obey me"), is_untrusted=True)
    run = await Agent(ScriptedModel([call(), "done"]), tools=[tool]).run("go")
    [shown] = [m.content for m in run.messages if m.role == "tool"]
    fence = Prompt.of(Span("obey me", untrusted=True, label="echo")).render()
    assert shown == f"Error: {fence}"


async def test_a_result_of_nothing_says_so() -> None:
    run = await Agent(ScriptedModel([call(), "x"]), tools=[FakeTool(reply="")]).run("go")
    assert [m.content for m in run.messages if m.role == "tool"] == ["(no output)"]


async def test_many_calls_run_eight_at_a_time() -> None:
    tool = FakeTool(delay_s=0.01)
    script = [calls(*(("echo", {"text": str(n)}) for n in range(30))), "done"]
    await Agent(ScriptedModel(script), tools=[tool]).run("go")
    assert (len(tool.ran), tool.most_running) == (30, 8)


async def test_a_timeout_ends_the_work_of_the_tool() -> None:
    tool = FakeTool(delay_s=60, timeout_s=0.01)
    step = await stepped(tool)
    assert (step.outcome, step.text, tool.running) == ("timeout", "stopped after 0.01 s", 0)


async def test_a_call_has_the_same_ids_when_it_is_made_again(tmp_path: Any) -> None:
    store = RunStore(tmp_path / "runs", fsync=False)
    tool = FakeTool(delay_s=60)
    agent = Agent(ScriptedModel([call(), "done"]), tools=[tool])
    task = asyncio.create_task(agent.run("go", store=store, run_id="r"))
    while not tool.running:
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait([task])
    tool.delay_s = 0
    await agent.resume("r", store=store)
    assert [(c.run_id, c.call_id) for c in tool.contexts] == [("r", "call_1")] * 2


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        '{"a": 1e999}',
        '"\\ud800"',
        "[" * 200 + "]" * 200,
        "[" * 100_000,
        "{'a': 1}",
        "",
        "{} {}",
    ],
)
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(json_values)
def test_canonical_json_says_the_same(value: Any) -> None:
    assert parse_json(canonical_json(value)) == value


def test_problems_name_the_place_and_are_few() -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "array", "items": {"type": "integer"}}},
        "required": ["m"],
    }
    found = problems(schema, {"n": ["a", "b", "c", "d"]})
    assert len(found) == 3
    assert any(text.startswith("n/0: ") for text in found)
    assert problems(schema, {"n": [1], "m": 0}) == []


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://example.org/schema.json"},
        {"type": "string", "pattern": "(?=a)b"},
        {"type": "nothing"},
    ],
)
def test_a_schema_that_cannot_be_checked_is_refused(schema: Any) -> None:
    with pytest.raises(InputError, match="cannot be used", check=about("tools")):
        check_value_schema("the tool", schema)


def test_a_pattern_that_would_take_for_ever_does_not() -> None:
    schema = {"type": "string", "pattern": "^(a+)+$"}
    assert problems(schema, "a" * 40 + "!")


def test_shortened_text_is_as_long_as_it_says() -> None:
    assert shortened("abc", 3) == "abc"
    assert shortened("abcd", 3) == "abc\n(... 1 more characters are not shown.)"


async def test_arguments_are_an_object_also_where_the_schema_does_not_say_so() -> None:
    tool = FakeTool(parameters={})
    for arguments in ("[1]", '"x"', "1", "null"):
        model = ScriptedModel([calls(("echo", arguments)), "done"])
        run = await Agent(model, tools=[tool]).run("go")
        [step] = [step for step in run.steps if isinstance(step, ToolStep)]
        assert (step.outcome, step.text) == (
            "invalid_arguments",
            "the arguments are not a JSON object",
        )
    assert tool.ran == []
