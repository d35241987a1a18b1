"""ReAct's turns: read exactly, and held to a grammar by which each of them can be read."""

from __future__ import annotations

import json
from typing import Any

import llguidance
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.agents.scripted_tools import FakeTool, action, final

from lmstack.agents import Agent, AgentSpec, Run, ToolSpec
from lmstack.agents.protocols import Calls, FinalAnswer, Unreadable, grammar, parse
from lmstack.core import Message, Request, ScriptedModel, Tool

NESTED = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "minLength": 1},
        "limits": {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
    },
    "required": ["query"],
    "additionalProperties": False,
}
SPEC = AgentSpec(
    "agent", tools=(ToolSpec(Tool("search", "Finds.", NESTED)), ToolSpec(Tool("now", "Tells.")))
)


def wanted(text: str) -> tuple[str, Any] | str | None:
    """The call's name and arguments, the answer, or None."""
    reading = parse(text).reading
    if isinstance(reading, Calls):
        [call] = reading.calls
        return call.name, json.loads(call.arguments)
    return reading.text if isinstance(reading, FinalAnswer) else None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (action("search", "a"), ("search", {"text": "a"})),
        ('Action: now\nAction Input: {"a": {"b": [1]}}', ("now", {"a": {"b": [1]}})),
        ("Action:   now  \n\nAction Input:\n  {}", ("now", {})),
        ("Action: now\r\nAction Input: {}", ("now", {})),
        ('Thought: say "Action: x" to me\nAction: now\nAction Input: {}', ("now", {})),
        (final("42"), "42"),
        (
            "Final Answer: line one\nAction: no\nAction Input: {}",
            "line one\nAction: no\nAction Input: {}",
        ),
        (action("a") + "\n" + final("no"), ("a", {"text": "x"})),
        (action("a") + "\nObservation: 1\n" + action("b"), ("a", {"text": "x"})),
        ("Just text.", None),
        ("", None),
        ("Final Answer:   \n ", None),
        ("Action:\nAction Input: {}", None),
        ("Action: now", None),
        ("Action: now\nInput: {}", None),
        ("Action: now\nAction Input: {a: 1}", None),
        ('Action: now\nAction Input: {"a": 1', None),
        ("Action: now\nAction Input: " + "[" * 100_000, None),
        ("The Action: now\nAction Input: {}", None),
    ],
)
def test_turns_are_read_exactly(text: str, expected: Any) -> None:
    assert wanted(text) == expected


@given(st.text())
def test_any_text_is_read_without_an_error_and_ends_within_itself(text: str) -> None:
    parsed = parse(text)
    assert 0 <= parsed.end <= len(text)
    if isinstance(parsed.reading, Unreadable):
        assert parsed.reading.problem


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values), st.text(alphabet=st.characters(codec="utf-8")))
def test_whatever_arguments_hold_they_are_read_back(arguments: Any, after: str) -> None:
    for ascii_only in (True, False):
        written = json.dumps(arguments, ensure_ascii=ascii_only)
        text = f"Thought: a\nAction: now\nAction Input: {written}\n{after}"
        assert wanted(text) == ("now", arguments)
        assert text[: parse(text).end].endswith(written)


class _Bytes:
    """A vocabulary of one token a byte."""

    eos_token_id, bos_token_id = 256, None
    special_token_ids = (256,)
    tokens = (*(bytes([value]) for value in range(256)), b"<end>")

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


TOKENIZER = llguidance.LLTokenizer(
    llguidance.TokenizerWrapper(_Bytes()), n_vocab=257, eos_token=[256]
)


def matcher(spec: AgentSpec, *, is_last: bool = False) -> llguidance.LLMatcher:
    source = llguidance.LLMatcher.grammar_from_lark(grammar(spec, is_last=is_last).source)
    found = llguidance.LLMatcher(TOKENIZER, source)
    assert not found.is_error(), found.get_error()
    return found


def allowed(text: str, spec: AgentSpec = SPEC, *, is_last: bool = False) -> bool:
    """Whether a model that is held to the grammar can write ``text``, and end there."""
    held, ids = matcher(spec, is_last=is_last), list(text.encode())
    return held.try_consume_tokens(ids) == len(ids) and bool(held.is_accepting())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Thought: a\nAction: search\nAction Input: {"query": "b"}', True),
        ('Thought: a\nAction: search\nAction Input: {"query": "b", "limits": [1, 2]}', True),
        ("Thought: a\nAction: now\nAction Input: {}", True),
        ("Thought: a\nFinal Answer: b\nc", True),
        ("Thought: a\nFinal Answer:  ", False),
        ("Thought: \nFinal Answer: b", False),
        ("Final Answer: b", False),
        ("Thought: a\nAction: delete\nAction Input: {}", False),
        ('Thought: a\nAction: search\nAction Input: {"query": ""}', False),
        ('Thought: a\nAction: search\nAction Input: {"query": 1}', False),
        ("Thought: a\nAction: search\nAction Input: {}", False),
        ('Thought: a\nAction: search\nAction Input: {"query": "b"}\nObservation: c', False),
        ('Thought: a\nAction: search\nAction Input: {\n\n"query": "b"}', False),
    ],
)
def test_the_grammar_allows_what_parses_and_follows_the_schema(text: str, expected: bool) -> None:
    assert allowed(text) == expected


def test_the_last_turn_can_only_answer() -> None:
    assert allowed("Thought: a\nFinal Answer: b", is_last=True)
    assert not allowed("Thought: a\nAction: now\nAction Input: {}", is_last=True)


def test_an_answer_with_a_schema_is_held_to_it() -> None:
    spec = AgentSpec("agent", result=NESTED)
    assert allowed('Thought: a\nFinal Answer: {"query": "b"}', spec)
    assert not allowed("Thought: a\nFinal Answer: b", spec)


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False))
def test_what_a_held_model_writes_always_parses(random: Any) -> None:
    """Random bytes among those that the grammar allows, as a model at its worst."""
    held, text = matcher(SPEC), bytearray()
    while not held.is_stopped() and len(text) < 3000:
        mask = held.compute_bitmask()
        ids = [n for n in range(257) if mask[n // 8] >> (n % 8) & 1]
        token = 256 if 256 in ids and (len(text) > 300 or len(ids) == 1) else random.choice(ids)
        if token == 256:
            break
        assert held.consume_tokens([token])
        text.append(token)
    if held.is_accepting():
        reading = parse(text.decode()).reading
        assert not isinstance(reading, Unreadable)
        if isinstance(reading, Calls):
            assert reading.calls[0].name in ("search", "now")


def test_every_request_carries_the_grammar_and_stops_at_an_observation() -> None:
    [request] = asked(
        Agent(model := ScriptedModel([final("x")]), tools=[FakeTool()], protocol="react"), model
    )
    assert request.grammar is not None
    assert request.grammar.kind == "lark"
    assert request.sampling.stop == ("\nObservation:",)
    assert request.tools == ()
    free = Agent(
        model := ScriptedModel([final("x")]),
        tools=[FakeTool()],
        protocol="react",
        constrained=False,
    )
    [request] = asked(free, model)
    assert request.grammar is None
    assert request.sampling.stop == ("\nObservation:",)


def asked(agent: Agent, model: ScriptedModel) -> list[Request]:
    import asyncio

    asyncio.run(agent.run("go"))
    return model.requests


async def test_the_conversation_holds_no_made_up_observation() -> None:
    script = [action() + "\nObservation: forged\nThought: so", final("42")]
    run = await Agent(
        ScriptedModel(script), tools=[FakeTool(reply="real")], protocol="react", constrained=False
    ).run("go")
    said = [m.content for m in run.messages]
    assert not any("forged" in text for text in said)
    assert "Observation: real" in said
    assert not any(m.role == "tool" or m.tool_calls for m in run.messages)


async def test_the_system_message_names_every_tool_with_its_schema() -> None:
    tools = [FakeTool(), FakeTool("other", description="Does other things.")]
    run: Run = await Agent(ScriptedModel([final("x")]), tools=tools, protocol="react").run("go")
    system: Message = run.messages[0]
    assert "- other: Does other things." in system.content
    assert '"required": ["text"]' in system.content
