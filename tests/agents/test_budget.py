"""Budgets: nothing is spent that was not there, and a last turn is kept back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.agents.scripted_tools import FakeTool, call, calls
from tests.errors import about

from lmstack.agents import Agent, Budget, Decision, Member, ModelStep, NoticeStep, Run, Spent
from lmstack.core import InputError, Message, Price, RemoteError, Request, ScriptedModel, Usage


def test_a_price_counts_cached_tokens_by_themselves() -> None:
    usage = Usage(1_000_000, 500_000, 400_000)
    assert Price(input=2, output=4).of(usage) == pytest.approx(4.0)
    assert Price(input=2, output=4, cached=0.5).of(usage) == pytest.approx(3.4)
    with pytest.raises(InputError, match="input is -1", check=about("input")):
        Price(input=-1)


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"steps": 1.5}, {"tokens": 0}, {"money": 0}, {"seconds": -1}]
)
def test_a_budget_of_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, check=about("money", "seconds", "steps", "tokens")):
        Budget(**wrong)


def test_a_budget_in_money_needs_a_price_also_below() -> None:
    model = ScriptedModel()
    with pytest.raises(InputError, match="price is not known", check=about("price")):
        Agent(model, budget=Budget(money=1))
    helper = Agent(model, name="helper")
    with pytest.raises(InputError, match="price of the agent helper", check=about("price")):
        Agent(model, budget=Budget(money=1), price=Price(), team=[Member("helper", helper)])


@pytest.mark.parametrize(("is_last", "hit"), [(False, "steps"), (True, None)])
def test_one_step_is_kept_for_the_last_turn(is_last: bool, hit: str | None) -> None:
    allowance = Budget(steps=5).allow(Spent(4), None, 10, 0.0, most=None, is_last=is_last)
    assert allowance.hit == hit


def test_a_turn_leaves_enough_tokens_for_a_last_one() -> None:
    budget = Budget(tokens=1000)
    first = budget.allow(Spent(), None, 100, 0.0, most=None, is_last=False)
    assert first.max_tokens is not None
    after = Spent(1, Usage(100, first.max_tokens))
    last = budget.allow(after, None, 100 + first.max_tokens, 0.0, most=None, is_last=True)
    assert last.max_tokens is not None
    assert last.max_tokens >= 64


@given(
    left=st.integers(1, 5000),
    prompt=st.integers(0, 3000),
    most=st.none() | st.integers(1, 4000),
    is_last=st.booleans(),
    rates=st.tuples(st.floats(0, 50), st.floats(0, 50)),
)
def test_what_is_allowed_is_paid_for(
    left: int, prompt: int, most: int | None, is_last: bool, rates: tuple[float, float]
) -> None:
    price = Price(input=rates[0], output=rates[1])
    budget = Budget(tokens=left, money=left / 10_000)
    allowed = budget.allow(Spent(), price, prompt, 0.0, most=most, is_last=is_last)
    if allowed.hit is None:
        assert allowed.max_tokens is not None
        assert 1 <= allowed.max_tokens <= (most or allowed.max_tokens)
        used = Usage(prompt, allowed.max_tokens)
        assert used.total_tokens <= left
        assert price.of(used) <= left / 10_000 * (1 + 1e-9)


words = st.integers(0, 300).map(lambda n: "word " * n)


@settings(max_examples=60, deadline=None)
@given(tokens=st.integers(50, 6000), replies=st.lists(words, min_size=1), result=words)
async def test_no_run_uses_more_tokens_than_its_budget(
    tokens: int, replies: list[str], result: str
) -> None:
    said = iter(replies)

    def say(request: Request) -> Message:
        text = next(said, "")
        return calls(("echo", {"text": str(len(request.messages))}), text=text)

    agent = Agent(
        ScriptedModel([say]), tools=[FakeTool(reply=result)], budget=Budget(tokens=tokens)
    )
    run = await agent.run("go")
    assert run.usage.total_tokens <= tokens
    assert run.end == "budget"


async def test_the_last_turn_is_told_why_and_gets_no_tools() -> None:
    model = ScriptedModel([call(text="a"), "so far"])
    run = await Agent(model, tools=[FakeTool()], budget=Budget(steps=2)).run("go")
    assert (run.end, run.answer, run.reason) == ("budget", "so far", "The turns are used up.")
    assert [request.tool_choice for request in model.requests] == ["auto", "none"]
    assert "cannot call tools any more" in model.requests[1].messages[-1].content


async def test_a_run_that_must_call_is_made_to_until_it_has() -> None:
    model = ScriptedModel([call(text="a"), call(text="b"), "so far"])
    agent = Agent(model, tools=[FakeTool()], must_call=True, budget=Budget(steps=3))
    await agent.run("go")
    asked = [(request.tool_choice, request.parallel_tool_calls) for request in model.requests]
    assert asked == [("required", False), ("auto", True), ("none", True)]


async def test_seconds_are_kept_for_the_last_turn() -> None:
    tool = FakeTool(delay_s=60)
    model = ScriptedModel([call(), "so far"])
    run = await Agent(model, tools=[tool], budget=Budget(seconds=1.5)).run("go")
    [notice] = [step for step in run.steps if isinstance(step, NoticeStep)]
    assert (notice.part, run.end, run.answer) == ("seconds", "budget", "so far")
    assert 1.2 <= notice.clock_s < 1.5


async def test_calls_for_which_no_time_is_left_are_not_made() -> None:
    slow, send = FakeTool("slow", delay_s=60), FakeTool("send", is_dangerous=True)
    script = [calls(("slow", {"text": "a"}), ("send", {"text": "b"})), "so far"]
    agent = Agent(ScriptedModel(script), tools=[slow, send], budget=Budget(seconds=1.5))
    run = await agent.run("go")
    assert (run.end, send.ran) == ("budget", [])
    assert [r.text for r in run.steps if hasattr(r, "outcome")][-1].startswith("the call was not")


async def test_waiting_for_a_person_costs_no_time() -> None:
    class Slow:
        async def decide(self, request: Any) -> Any:
            await asyncio.sleep(0.3)
            return Decision("approved")

    tool = FakeTool(is_dangerous=True)
    run = await Agent(ScriptedModel([call(), "x"]), tools=[tool]).run("go", approver=Slow())
    assert run.end == "answered"
    wall = run.steps[-1].at - run.steps[0].at
    assert wall - run.seconds > 0.29


async def test_a_turn_that_failed_is_paid_for() -> None:
    class Breaks(ScriptedModel):
        async def stream(self, request: Request) -> Any:
            async for delta in super().stream(request):
                yield delta
                raise RemoteError("cut off")

    run = await Agent(Breaks(["some words here"]), price=Price(input=1, output=1)).run("hello you")
    [step] = [step for step in run.steps if isinstance(step, ModelStep)]
    assert (run.end, step.text, step.error) == ("failed", "some", "cut off")
    assert step.usage.total_tokens > 0
    assert run.cost == pytest.approx(step.usage.total_tokens / 1e6)


async def below(budget: Budget, own: Budget, *, members: int = 1, share: float = 0.5) -> Run:
    helper = Agent(ScriptedModel(["x"]), name="helper", budget=own)
    asked = [("helper", {"task": str(n)}) for n in range(members)]
    model = ScriptedModel([calls(*asked), "done"])
    agent = Agent(model, budget=budget, team=[Member("helper", helper, share=share)])
    return await agent.run("go")


async def test_agents_below_get_a_share_of_what_is_left() -> None:
    run = await below(Budget(steps=11, tokens=10_000, seconds=100), Budget(steps=100))
    [child] = run.children.values()
    assert child.spec.budget.steps == 5
    assert child.spec.budget.tokens == int((10_000 - run.steps[1].usage.total_tokens) * 0.5)
    assert 39 < (child.spec.budget.seconds or 0) <= 40
    run = await below(Budget(steps=13), Budget(), members=3, share=1.0)
    assert [child.spec.budget.steps for child in run.children.values()] == [4, 4, 4]


async def test_an_agent_below_keeps_a_smaller_budget_of_its_own() -> None:
    [child] = (await below(Budget(steps=50), Budget(steps=2, tokens=5000))).children.values()
    assert (child.spec.budget.steps, child.spec.budget.tokens) == (2, 5000)


async def test_what_an_agent_below_spends_is_spent_above() -> None:
    run = await below(Budget(steps=20), Budget())
    [child] = run.children.values()
    assert run.spent.steps == 2 + child.spent.steps == 3
    own = sum(s.usage.total_tokens for s in run.steps if isinstance(s, ModelStep))
    assert run.usage.total_tokens == own + child.usage.total_tokens


async def test_a_timeout_of_the_models_own_is_not_the_budgets() -> None:
    class Odd(ScriptedModel):
        async def stream(self, request: Request) -> Any:
            raise TimeoutError("a fault of the model")
            yield

    with pytest.raises(TimeoutError, match="a fault of the model"):
        await Agent(Odd(), budget=Budget(seconds=60)).run("go")
