"""The conversation is derived from the steps, and always one that a template can write."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from tests.agents.scripted_tools import FakeTool, action, call, calls, final
from tests.errors import about

from lmstack.agents import Agent, AgentSpec, Budget, NoticeStep
from lmstack.core import (
    ContextLengthError,
    InputError,
    Message,
    Prompt,
    Request,
    SamplingParams,
    ScriptedModel,
    Span,
)


def check_turns(messages: tuple[Message, ...]) -> None:
    """Users never follow users, and every result follows the turn that called for it."""
    for before, after in pairwise(messages):
        assert not before.role == after.role == "user"
    open_: list[str | None] = []
    for message in messages:
        if message.role == "tool":
            assert message.tool_call_id in open_
            open_.remove(message.tool_call_id)
        else:
            assert open_ == []
            open_ = [call.id for call in message.tool_calls]
    assert open_ == []


@pytest.mark.parametrize("protocol", ["tools", "react"])
async def test_every_request_is_a_conversation_that_templates_know(protocol: Any) -> None:
    if protocol == "tools":
        two = calls(("echo", {"text": "a"}), ("nope", {}))
        script: list[Any] = [two, two, "", call(text="b"), call(text="b"), "answer"]
    else:
        script = [action(), action(), "hm", action(text="b"), final("answer")]
    model = ScriptedModel(script)
    run = await Agent(model, tools=[FakeTool()], protocol=protocol).run("go")
    for request in model.requests:
        check_turns(request.messages)
        assert request.messages[-1].role in ("user", "tool")
    check_turns(run.messages)
    assert run.answer == "answer"


async def test_a_conversation_only_grows_so_that_prefixes_are_cached() -> None:
    model = ScriptedModel([call(text="a"), call(text="a"), call(text="b"), "x"])
    await Agent(model, tools=[FakeTool()], instructions="Be brief.").run("go")
    for before, after in zip(model.requests, model.requests[1:], strict=False):
        kept = after.messages[: len(before.messages) - 1]
        assert kept == before.messages[:-1]
        assert after.tools == before.tools


async def test_the_oldest_results_are_left_out_when_it_is_too_long() -> None:
    def say(request: Request) -> Message | str:
        turn = sum(m.role == "assistant" for m in request.messages)
        return call(text=str(turn)) if turn < 5 else "done"

    class Short(ScriptedModel):
        """A model whose window has room for two results."""

        async def stream(self, request: Request) -> Any:
            if sum("x" * 50 in m.content for m in request.messages) > 2:
                raise ContextLengthError("too long")
            async for delta in super().stream(request):
                yield delta

    model = Short([say])
    agent = Agent(model, tools=[FakeTool(reply="x" * 50)])
    run = await agent.run("go")
    assert (run.end, run.answer) == ("answered", "done")
    notices = [s.elided for s in run.steps if isinstance(s, NoticeStep) and s.kind == "context"]
    assert notices == [2, 4]
    shown = [m.content for m in run.messages if m.role == "tool"]
    assert ["left out" in text for text in shown] == [True] * 4 + [False]
    assert agent.replay(run) == ()


async def test_what_no_provider_would_take_back_is_not_sent() -> None:
    script = [calls(("delete everything; now", '{"text": "cut')), calls(("echo", "[1]")), "x"]
    run = await Agent(ScriptedModel(script), tools=[FakeTool()]).run("go")
    sent = [call for m in run.messages for call in m.tool_calls]
    assert [(c.name, c.arguments) for c in sent] == [
        ("delete_everything__now", "{}"),
        ("echo", "{}"),
    ]
    first, second = [m for m in run.messages if m.role == "tool"]
    assert (first.name, second.name) == ("delete_everything__now", "echo")
    assert "'delete everything; now'" in first.content


async def test_untrusted_text_in_a_task_is_fenced() -> None:
    task = Prompt.of("Summarise:\n", Span("obey", untrusted=True, label="mail"))
    run = await Agent(ScriptedModel(["x"])).run(task)
    assert run.messages[0].content == task.render()
    assert "<data-" in run.task


@pytest.mark.parametrize("task", ["", "  \n"])
async def test_an_empty_task_is_refused(task: str) -> None:
    with pytest.raises(InputError, match="task is empty", check=about("task")):
        await Agent(ScriptedModel(["x"])).run(task)


async def test_the_fence_is_explained_only_where_there_may_be_one() -> None:
    model = ScriptedModel(["x"])
    await Agent(model, tools=[FakeTool()]).run("go")
    assert [m.role for m in model.requests[0].messages] == ["user"]
    model = ScriptedModel(["x"])
    await Agent(model, tools=[FakeTool(is_untrusted=True)]).run("go")
    assert "was written by others" in model.requests[0].messages[0].content


async def test_requests_say_who_asks() -> None:
    model = ScriptedModel([call(), "x"])
    sampling = SamplingParams(temperature=0.25, max_tokens=50)
    agent = Agent(
        model, tools=[FakeTool()], client="team-a", cache_scope="scope", sampling=sampling
    )
    run = await agent.run("go")
    assert {(r.client, r.cache_scope) for r in model.requests} == {("team-a", "scope")}
    assert [r.request_id for r in model.requests] == [f"{run.id}-1", f"{run.id}-4"]
    assert [r.sampling for r in model.requests] == [sampling] * 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"protocol": "telepathy"},
        {"sampling": SamplingParams(n=2)},
        {"result_chars": 5},
        {"instructions": 7},
        {"name": "\ud800"},
    ],
)
def test_a_wrong_agent_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(
        InputError,
        check=about("instructions", "n", "protocol", "result_chars", "the name of an agent"),
    ):
        Agent(ScriptedModel(), **wrong)


def test_a_spec_says_what_it_can_reach() -> None:
    spec = Agent(ScriptedModel(), tools=[FakeTool("a"), FakeTool("b")], budget=Budget()).spec
    assert isinstance(spec, AgentSpec)
    assert spec.reach == {"a", "b"}
