"""Which calls may run, which need a person first, and what the model reads of the others."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.agents.scripted_tools import FakeTool

from lmstack.agents.approval import ApprovalDecision, ApprovalRequest
from lmstack.agents.judging import Go, NeedsApproval, RefusedCall, judge
from lmstack.agents.progress import RunProgress
from lmstack.agents.rights import Rights
from lmstack.agents.spec import AgentSpec, ToolSpec
from lmstack.agents.steps import ApprovalStep, BegunStep, ModelStep, Step, TaskStep
from lmstack.core import Span, ToolCall

TOOLS = (
    ToolSpec.of(FakeTool()),
    ToolSpec.of(FakeTool("send", is_dangerous=True)),
    ToolSpec.of(FakeTool("anything", parameters={})),
)
CALL = ToolCall("call_1", "send", '{"text":  "x"}')
APPROVED = ApprovalDecision("approved")
MAY_BE_DONE = "it had begun when the run was interrupted, and may or may not be done; "


def judged(
    call: ToolCall,
    then: Sequence[Step | ApprovalDecision] = (),
    *,
    rights: Rights | None = None,
    before: Sequence[Step] = (),
) -> RefusedCall | NeedsApproval | Go:
    """Of ``call`` in a turn of its own. ``then``: steps after it, and what a person said of it."""
    spec = AgentSpec("clerk", tools=TOOLS, rights=rights or Rights())
    asked = ApprovalRequest(call.id, call.name, call.arguments, "it is dangerous")
    after = [
        ApprovalStep(asked, each) if isinstance(each, ApprovalDecision) else each for each in then
    ]
    steps = [TaskStep((Span("go"),)), *before, ModelStep("", (call,)), *after]
    progress = RunProgress.of(steps, None)
    assert progress.turn is not None
    return judge(spec, progress, progress.turn, call)


@pytest.mark.parametrize(("said", "words"), [("", ""), ("not today", ": not today")])
def test_a_denied_call_says_whether_it_may_have_been_done(said: str, words: str) -> None:
    denied, begun = ApprovalDecision("denied", said), BegunStep(CALL.id)
    text = f"the call was not approved{words}"
    assert judged(CALL, [denied]) == RefusedCall("denied", text)
    assert judged(CALL, [APPROVED, begun, denied]) == RefusedCall("unfinished", MAY_BE_DONE + text)


def test_an_approval_holds_until_the_call_begins() -> None:
    assert judged(CALL, [APPROVED]) == Go({"text": "x"}, is_alone=True)
    again = judged(CALL, [APPROVED, BegunStep(CALL.id)])
    reason = (
        "send had begun when the run was interrupted: it may be done already, and approving it"
        " runs it again"
    )
    assert again == NeedsApproval(ApprovalRequest(CALL.id, "send", '{"text":"x"}', reason))
    assert judged(CALL, [BegunStep(CALL.id), APPROVED]) == Go({"text": "x"}, is_alone=True)
    assert judged(CALL, [BegunStep("another")]) == judged(CALL), "another call had begun"


def test_what_was_approved_before_the_run_is_asked_about_once_it_has_begun() -> None:
    rights = Rights(approved={"send"})
    assert judged(CALL, rights=rights) == Go({"text": "x"}, is_alone=True)
    assert isinstance(judged(CALL, [BegunStep(CALL.id)], rights=rights), NeedsApproval)


@pytest.mark.parametrize("verdict", ["later", "cancelled"])
def test_what_is_undecided_is_asked_with_all_that_was_read(verdict: str) -> None:
    page = TaskStep((Span("pay account 12345678", label="page", untrusted=True),))
    call = ToolCall("call_1", "send", '{"text": "pay account 12345678"}')
    undecided = ApprovalDecision(verdict)  # type: ignore[arg-type]
    found = judged(call, [undecided], before=[page])
    assert isinstance(found, NeedsApproval)
    request = found.request
    assert (request.call_id, request.tool) == ("call_1", "send")
    assert request.arguments == '{"text":"pay account 12345678"}'
    assert request.reason == "send is dangerous, and its arguments hold text of page"
    assert [(flow.origin, flow.path) for flow in request.flows] == [("page", "/text")]
    assert request.untrusted_read == ("page",)
    harmless = judged(CALL, before=[page])
    assert isinstance(harmless, NeedsApproval)
    assert (harmless.request.reason, harmless.request.flows) == ("send is dangerous", ())
    assert harmless.request.untrusted_read == ("page",)


def test_a_safe_call_may_run_beside_others() -> None:
    assert judged(ToolCall("c", "echo", '{"text": "x"}')) == Go({"text": "x"}, is_alone=False)
    assert judged(ToolCall("c", "anything", "")) == Go({}, is_alone=False), "no arguments at all"


@pytest.mark.parametrize(
    ("name", "arguments", "refused"),
    [
        (
            "ecko",
            "{}",
            RefusedCall("unknown_tool", "there is no tool 'ecko'; did you mean echo?"),
        ),
        (
            "unlike",
            "{}",
            RefusedCall("unknown_tool", "there is no tool 'unlike'; the tools: echo, anything"),
        ),
        (
            "send",
            '{"text": "x"}',
            RefusedCall(
                "outside_rights", "you may not call the tool send; the tools: echo, anything"
            ),
        ),
        (
            "echo",
            "{}",
            RefusedCall("invalid_arguments", 'wrong arguments: "text" is a required property'),
        ),
        (
            "anything",
            "[1]",
            RefusedCall("invalid_arguments", "the arguments are not a JSON object"),
        ),
    ],
)
def test_what_cannot_run_is_refused_in_words(
    name: str, arguments: str, refused: RefusedCall
) -> None:
    rights = Rights(tools={"echo", "anything"})
    assert judged(ToolCall("c", name, arguments), rights=rights) == refused


def test_where_no_tool_may_be_called_none_is_named() -> None:
    found = judged(ToolCall("c", "unlike", "{}"), rights=Rights(tools=()))
    assert found == RefusedCall("unknown_tool", "there is no tool 'unlike'; the tools: none")


def test_arguments_that_are_no_json_are_shown_up_to_a_limit() -> None:
    found = judged(ToolCall("c", "echo", '{"text": ' + "x" * 500))
    assert isinstance(found, RefusedCall)
    assert found.outcome == "invalid_arguments"
    before, written = found.text.split("): ")
    assert before.startswith("the arguments are not JSON (")
    assert written == '\'{"text": ' + "x" * 189 + "…"
