"""The top of a run's page: what it was asked, how it ended, what it used of what it was given."""

from __future__ import annotations

from collections.abc import Iterator

from lmstack.agents.progress import RunProgress
from lmstack.agents.runs.run import Run
from lmstack.agents.steps import ApprovalStep, ModelStep, TaskStep
from lmstack.app.page.agents.axis import TimeAxis
from lmstack.app.page.agents.figures import duration, model_name, money, when
from lmstack.app.page.agents.markup import MarkupElement, node
from lmstack.app.page.agents.texts import line
from lmstack.app.page.agents.words import ENDS

__all__ = ["column_heads", "run_head", "run_title"]


def run_title(run: Run) -> str:
    """What the user asked at last; text of others that came with it is in the timeline."""
    tasks = [step for step in run.steps if isinstance(step, TaskStep)]
    spans = tasks[-1].spans if tasks else ()
    own = line(" ".join(span.text for span in spans if not span.untrusted), 120)
    return own or f"A run of {line(run.spec.name, 60)}"


def run_head(run: Run, *, waits: bool = False) -> MarkupElement:
    """``waits``: somebody is being asked right now."""
    facts = [
        node("div", node("dt", name), node("dd", value))
        for name, value in _facts(run, "waiting" if waits else run.end)
        if value
    ]
    return node(
        "header",
        node("h1", run_title(run), dir="auto"),
        node("dl", facts, class_="facts"),
        _budget(run),
        class_="head",
    )


def _facts(run: Run, end: str | None) -> Iterator[tuple[str, str | MarkupElement]]:
    spent = run.spent
    word = f"{ENDS[end][0].upper()}{ENDS[end][1:]}"
    is_bad = end not in ("answered", "waiting", None)
    yield "End", node("span", word, class_="end-word bad" if is_bad else "end-word", data_end=end)
    if run.reason:
        yield "Why", line(run.reason, 300)
    yield "Agent", line(run.spec.name, 80)
    yield "Model", ", ".join(_models(run))
    yield "Began", when(_began(run))
    yield "Worked", duration(run.seconds)
    waited = sum(
        step.seconds for each in run.walk() for step in each.steps if isinstance(step, ApprovalStep)
    )
    yield "Waited for people", duration(waited) if waited else ""
    yield "Turns", f"{spent.steps:,}"
    usage = spent.usage
    cached = f", {usage.cached_tokens:,} cached" if usage.cached_tokens else ""
    told = f"{usage.prompt_tokens:,} read{cached}, {usage.completion_tokens:,} written"
    yield "Tokens", f"{usage.total_tokens:,} ({told})"
    yield "Cost", money(run.cost) if run.cost is not None else ""
    yield "Run", line(run.id, 200)


def _began(run: Run) -> float:
    return run.steps[0].at if run.steps else 0.0


def _models(run: Run) -> list[str]:
    """Each model that took part, in the order of their first turns."""
    turns = (step for each in run.walk() for step in each.steps if isinstance(step, ModelStep))
    return list(dict.fromkeys(line(model_name(turn.model, turn.digest), 100) for turn in turns))


def _budget(run: Run) -> MarkupElement:
    """Turns, tokens and money since the last task, which has a budget of its own of them."""
    budget, spent = run.spec.budget, RunProgress.of(run.steps, run.spec.price).spent
    parts: list[tuple[str, float, float | None]] = [
        ("Turns", spent.steps, budget.steps),
        ("Tokens", spent.usage.total_tokens, budget.tokens),
        ("Money", spent.money, budget.money),
        ("Seconds", run.seconds, budget.seconds),
    ]
    rows = [_meter(name, used, given) for name, used, given in parts if given is not None]
    return node("ul", rows, class_="budget", aria_label="Budget used")


def _meter(name: str, used: float, given: float) -> MarkupElement:
    if name == "Money":
        told = f"{money(used)} of {money(given)}"
    elif name == "Seconds":
        told = f"{duration(used)} of {duration(given)}"
    else:
        told = f"{used:,.0f} of {given:,.0f}"
    share = min(max(used / given, 0.0), 1.0)
    bar = node("meter", min="0", max="1", high="0.999", value=f"{share:.3f}", aria_hidden="true")
    return node("li", node("span", name, class_="part"), node("span", told), bar)


def column_heads(axis: TimeAxis, *, has_cost: bool) -> MarkupElement:
    """What the figures are, and the axis of the bars. Each row says it for itself, too."""
    ticks = [
        node(
            "text",
            _tick(at, axis.total),
            x=f"{at / axis.total:.2%}",
            y="75%",
            class_="late" if at > 0.7 * axis.total else None,
        )
        for at in axis.ticks()
        if at < 0.9 * axis.total  # there is no room for words beyond
    ]
    lines = [
        node("rect", x=f"{at / axis.total:.2%}", width="1", height="100%") for at in axis.ticks()
    ]
    figures = [
        node("span", "Tokens", class_="tokens"),
        node("span", "Cost" if has_cost else "", class_="cost"),
        node("span", "Time", class_="seconds"),
    ]
    return node(
        "div",
        node("span", "Step", class_="kind"),
        node("span", class_="line"),
        node("span", figures, class_="figures"),
        node("svg", lines, ticks, class_="lane"),
        class_="heads",
        aria_hidden="true",
    )


def _tick(at: float, total: float) -> str:
    if total < 0.5 and at:
        return f"{at * 1000:g} ms"
    return f"{at:g} s" if at < 60 else duration(at).replace(" 00 s", "")
