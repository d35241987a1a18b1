"""OpenTelemetry spans: off unless asked for, named by the conventions, without content."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as names
from tests.agents.scripted_tools import FakeTool, call, calls

from lmstack.agents import Agent, Member, Telemetry
from lmstack.core import ExtraMissingError, RemoteError, ScriptedModel

KNOWN = {value for name, value in vars(names).items() if name.startswith("GEN_AI_")}


@pytest.fixture
def exported() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def telemetry(exported: InMemorySpanExporter, **options: Any) -> Telemetry:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    return Telemetry(tracer=provider.get_tracer("test"), **options)


async def test_spans_are_nested_and_named_as_the_conventions_say(
    exported: InMemorySpanExporter,
) -> None:
    agent = Agent(
        ScriptedModel([call(), "done"], name="small"),
        name="clerk",
        tools=[FakeTool()],
        telemetry=telemetry(exported),
    )
    run = await agent.run("go")
    spans = exported.get_finished_spans()
    assert [span.name for span in spans] == [
        "chat small",
        "execute_tool echo",
        "chat small",
        "invoke_agent clerk",
    ]
    top = spans[-1]
    assert all(span.parent.span_id == top.context.span_id for span in spans[:-1])
    assert top.attributes["gen_ai.conversation.id"] == run.id
    assert top.attributes["gen_ai.usage.input_tokens"] == run.usage.prompt_tokens
    assert spans[1].attributes["gen_ai.tool.call.id"] == "call_1"
    assert spans[0].attributes["gen_ai.response.finish_reasons"] == ("tool_calls",)
    used = {name for span in spans for name in span.attributes if name.startswith("gen_ai.")}
    assert used <= KNOWN
    operations = [span.attributes["gen_ai.operation.name"] for span in spans]
    assert set(operations) <= {each.value for each in names.GenAiOperationNameValues}


async def test_nothing_that_was_said_is_in_a_span(exported: InMemorySpanExporter) -> None:
    tool = FakeTool(reply=RemoteError("secret-result"))
    agent = Agent(
        ScriptedModel([call(text="secret-argument"), "secret-answer"]),
        tools=[tool],
        instructions="secret-instruction",
        telemetry=telemetry(exported),
    )
    await agent.run("secret-task")
    written = "".join(span.to_json() for span in exported.get_finished_spans())
    assert "secret" not in written
    assert '"error.type": "error"' in written


async def test_what_was_said_is_there_if_it_was_asked_for(exported: InMemorySpanExporter) -> None:
    agent = Agent(
        ScriptedModel([call(text="argument"), "answer"]),
        tools=[FakeTool(reply="result")],
        telemetry=telemetry(exported, capture_content=True),
    )
    await agent.run("task")
    chat, tool, last, _ = exported.get_finished_spans()
    said = json.loads(last.attributes["gen_ai.input.messages"])
    assert [message["role"] for message in said] == ["user", "assistant", "tool"]
    assert said[0]["parts"] == [{"type": "text", "content": "task"}]
    assert said[1]["parts"][0]["name"] == "echo"
    assert said[2]["parts"][0]["response"] == "result"
    assert json.loads(last.attributes["gen_ai.output.messages"])[0]["finish_reason"] == "stop"
    assert json.loads(chat.attributes["gen_ai.tool.definitions"])[0]["name"] == "echo"
    assert tool.attributes["gen_ai.tool.call.arguments"] == '{"text": "argument"}'
    assert tool.attributes["gen_ai.tool.call.result"] == "result"


async def test_errors_are_named_by_their_type(exported: InMemorySpanExporter) -> None:
    model = ScriptedModel([RemoteError("the key sk-1 is wrong")])
    await Agent(model, telemetry=telemetry(exported)).run("go")
    chat, agent = exported.get_finished_spans()
    assert chat.attributes["error.type"] == "upstream_error"
    assert agent.attributes["error.type"] == "failed"
    assert "sk-1" not in chat.to_json() + agent.to_json()


async def test_agents_below_are_below_in_the_trace(exported: InMemorySpanExporter) -> None:
    helper = Agent(ScriptedModel(["x"]), name="helper")
    script = [calls(("helper", {"task": "a"})), "done"]
    agent = Agent(
        ScriptedModel(script), team=[Member("helper", helper)], telemetry=telemetry(exported)
    )
    await agent.run("go")
    spans = {span.name: span for span in exported.get_finished_spans()}
    below, tool = spans["invoke_agent helper"], spans["execute_tool helper"]
    assert below.parent.span_id == tool.context.span_id


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(ExtraMissingError, match=r"pip install 'lmstack\[telemetry\]'"):
        Telemetry()


def test_an_agent_without_telemetry_loads_none_of_it() -> None:
    script = (
        "import asyncio, sys\n"
        "from lmstack.agents import Agent\nfrom lmstack.core import ScriptedModel\n"
        "asyncio.run(Agent(ScriptedModel(['x'])).run('go'))\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('opentelemetry', 'torch')])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
