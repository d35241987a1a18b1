"""Budgets: nothing is spent that was not there, and a last turn is kept back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.agents.scripted_tools import FakeTool, call, calls
from tests.errors import about

from lmstack.agents import (
    Agent,
    ApprovalDecision,
    Budget,
    Member,
    ModelStep,
    NoticeStep,
    Run,
    Spent,
)
from lmstack.agents import (
    budget as budgets,
)
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
            return ApprovalDecision("approved")

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


def allowed(budget: Budget, clock_s: float = 0.0, *, is_last: bool = False, **more: Any) -> Any:
    given = {"spent": Spent(), "price": None, "prompt_tokens": 0, "most": None} | more
    return budget.allow(clock_s=clock_s, is_last=is_last, **given)


def test_the_last_fifth_of_the_time_is_for_a_last_turn() -> None:
    budget = Budget(seconds=10)
    assert budget.seconds_left(3.0, is_last=False) == 5.0
    assert budget.seconds_left(3.0, is_last=True) == 7.0
    assert Budget().seconds_left(3.0, is_last=True) is None
    hits = [allowed(budget, clock, is_last=last).hit for clock in (7.9, 8.0) for last in (0, 1)]
    assert hits == [None, None, "seconds", None]
    assert allowed(budget, 10.0, is_last=True).hit == "seconds"
    assert allowed(budget, 9.9, is_last=True).hit is None


def test_a_share_is_of_what_is_left_of_each_part() -> None:
    budget = Budget(steps=12, tokens=1000, money=4.0, seconds=10)
    spent = Spent(2, Usage(100, 100), 1.0)
    assert budget.share(0.5, spent, 2.0) == Budget(steps=5, tokens=400, money=1.5, seconds=3.0)
    assert Budget(steps=12).share(0.5, spent, 2.0) == Budget(steps=5)
    assert budget.share(0.125, spent, 2.0) == Budget(steps=1, tokens=100, money=0.375, seconds=0.75)
    assert budget.share(0.09, spent, 2.0) is None
    for used, clock_s in ((Spent(2, Usage(999, 0)), 0.0), (Spent(2, Usage(), 4.0), 0.0),
                          (Spent(2), 8.0)):  # fmt: skip
        assert budget.share(0.5, used, clock_s) is None


def test_the_smaller_of_two_budgets_counts_part_by_part() -> None:
    one = Budget(steps=3, tokens=10, money=None, seconds=5)
    other = Budget(steps=4, tokens=9, money=2.0, seconds=None)
    assert one.within(other) == other.within(one) == Budget(3, 9, 2.0, 5)


def test_output_is_what_is_left_after_the_prompt_is_read_once_more() -> None:
    assert allowed(Budget(tokens=1000), prompt_tokens=100, is_last=True).max_tokens == 900
    kept = budgets.LAST_OUTPUT
    assert allowed(Budget(tokens=1000), prompt_tokens=100).max_tokens == (1000 - 200 - kept) // 2
    assert allowed(Budget(tokens=1000), prompt_tokens=100, most=7).max_tokens == 7
    price = Price(input=1_000_000, output=2_000_000)
    money = Budget(money=1000)
    given: dict[str, Any] = {"price": price, "prompt_tokens": 100}
    assert allowed(money, is_last=True, **given).max_tokens == 450
    assert allowed(money, **given).max_tokens == (1000 - 200 - 2 * kept) // 3
    both = Budget(money=1000, tokens=300)
    assert allowed(both, is_last=True, **given).max_tokens == 200
    assert allowed(money, prompt_tokens=100).max_tokens is None, "without a price"
    free = Price(input=0, output=0)
    assert allowed(money, price=free, prompt_tokens=9, most=5).max_tokens == 5
    assert allowed(Budget(tokens=9), prompt_tokens=10, is_last=True).hit == "tokens"
    least = budgets.LEAST_OUTPUT
    for more, hit in ((least, None), (least - 1, "tokens")):
        assert allowed(Budget(tokens=100 + more), prompt_tokens=100, is_last=True).hit == hit
    small = allowed(Budget(tokens=103), prompt_tokens=100, is_last=True, most=3)
    assert (small.hit, small.max_tokens) == (None, 3)
    assert allowed(Budget(tokens=102), prompt_tokens=100, is_last=True, most=3).hit == "tokens"
