"""Calls of tools in the templates of a dozen families: written, read back, and rendered again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.packages import package

from lmstack.core import Message, Tool, ToolCall, ToolCallDelta
from lmstack.text import CallReader, ChatTemplate

IDS = ("abcdefgh1", "abcdefgh2", "abcdefgh3")
WEATHER = Tool(
    "get_weather",
    "The weather of a city.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "exact": {"type": "boolean"},
            "near": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["city"],
    },
)
NOW = Tool("now", "The time.")
TOOLS = (WEATHER, NOW)
USER = Message("user", "What is it like there?")
# How each writes its first call, and whether it shows tools by itself.
OWN = {
    "deepseekv3": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>",
    "glm4moe": "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>",
    "gptoss": " to=functions.get_weather<|channel|>commentary json<|message|>",
    "llama3_1": '{"name": "get_weather", "parameters": ',
    "llama3_2": '{"name": "get_weather", "parameters": ',
    "nemotron_3_nano": "<tool_call>\n<function=get_weather>\n<parameter=city>\n",
    "qwen2_5": '<tool_call>\n{"name": "get_weather", "arguments": ',
    "qwen3": '<tool_call>\n{"name": "get_weather", "arguments": ',
    "qwen3_5_nothink": "<tool_call>\n<function=get_weather>\n<parameter=city>\n",
    "qwen3_5_think": "<tool_call>\n<function=get_weather>\n<parameter=city>\n",
    "qwen3_8": "<tool_call>\n<function=get_weather>\n<parameter=city>\n",
}
# They have no calls, or write them in a way that is not understood.
PLAIN = ("cohere2", "gemma", "gemma3", "gemma4", "lfm2_v2", "llama3", "phi3_5")

# Templates trim what stands between tags, and none can hold the end of its own tag.
values = st.fixed_dictionaries(
    {"city": st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1)},
    optional={
        "days": st.integers(-(10**6), 10**6),
        "exact": st.booleans(),
        "near": st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF))),
    },
)


@pytest.fixture(scope="module")
def templates(weights_store: Any) -> dict[str, ChatTemplate]:
    folder = package(weights_store.root, "templates") / "trl/chat_templates"
    return {name: _template(folder / f"{name}.jinja") for name in (*OWN, *PLAIN)}


def _template(path: Path) -> ChatTemplate:
    return ChatTemplate(path.read_text(), "<s>", "</s>")


def read(template: ChatTemplate, written: str, size: int) -> tuple[str, list[ToolCall]]:
    """Text and calls of an answer that arrives in parts of ``size`` characters."""
    reader = CallReader(template.call_format, TOOLS, IDS, {})
    parts = [p for i in range(0, len(written), size) for p in reader.push(written[i : i + size])]
    parts += reader.push("", final=True)
    assert reader.is_complete
    calls: dict[int, list[str]] = {}
    for part in parts:
        if isinstance(part, ToolCallDelta):
            call = calls.setdefault(part.index, ["", "", ""])
            call[0], call[1] = call[0] + part.id, call[1] + part.name
            call[2] += part.arguments
    return "".join(p for p in parts if isinstance(p, str)), [ToolCall(*c) for c in calls.values()]


@pytest.mark.parametrize("name", OWN)
def test_a_template_s_own_words_for_calls_are_found(
    templates: dict[str, ChatTemplate], name: str
) -> None:
    template = templates[name]
    call = ToolCall(IDS[0], "get_weather", '{"city": "Oslo"}')
    written = template.call_format.written([call])
    assert (
        written.removeprefix(template.call_format.opening).lstrip().startswith(OWN[name].lstrip())
    )
    prompt = template.render([USER], tools=TOOLS)
    assert "get_weather" in prompt
    assert "The weather of a city." in prompt


@pytest.mark.parametrize("name", PLAIN)
def test_other_templates_are_told_of_tools_in_words(
    templates: dict[str, ChatTemplate], name: str
) -> None:
    template = templates[name]
    answered = [
        USER,
        Message("assistant", "", tool_calls=(ToolCall(IDS[0], "now", "{}"),)),
        Message("tool", "noon", tool_call_id=IDS[0]),
        Message("tool", "evening", tool_call_id=IDS[0]),
    ]
    prompt = template.render(answered, tools=TOOLS)
    assert '"name": "get_weather", "description": "The weather of a city."' in prompt
    assert '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>' in prompt
    assert prompt.index("</tool_call>") < prompt.index("noon") < prompt.index("evening")
    assert 'from="result of now"' in prompt


@pytest.mark.parametrize("name", OWN)
def test_results_may_be_messages_of_the_users_beside_calls_of_the_template(
    templates: dict[str, ChatTemplate], name: str
) -> None:
    own = templates[name]
    call = ToolCall(IDS[0], "now", "{}")
    asked = [USER, Message("assistant", "", tool_calls=(call,))]
    result = Message("tool", "noon", tool_call_id=IDS[0])
    plain = ChatTemplate(own.source, plain_results=True)
    prompt = plain.render([*asked, result], tools=TOOLS)
    assert 'from="result of now"' in prompt
    assert own.call_format.written([call], "").removeprefix(own.call_format.opening) in prompt
    assert plain.render(asked, tools=TOOLS) == ChatTemplate(own.source).render(asked, tools=TOOLS)


@pytest.mark.parametrize("name", [*OWN, *PLAIN])
@settings(max_examples=15)
@given(first=values, second=values, says=st.booleans(), size=st.integers(1, 40))
def test_what_was_written_is_read_and_rendered_as_the_same_text(
    templates: dict[str, ChatTemplate],
    name: str,
    first: dict[str, Any],
    second: dict[str, Any],
    says: bool,
    size: int,
) -> None:
    template = templates[name]
    form = template.call_format
    content = "Let me see." if says and form.lead_after_text is not None else ""
    wanted = [first, second][: form.max_calls]
    calls = [
        ToolCall(own_id, "get_weather", json.dumps(value, ensure_ascii=False))
        for own_id, value in zip(IDS, wanted, strict=False)
    ]
    written = form.written(calls, content)
    text, found = read(template, written, size)
    assert found == calls
    assert text.removeprefix(form.opening) == content
    results = [Message("tool", "fine", tool_call_id=c.id, name=c.name) for c in calls]
    turn = Message("assistant", content, tool_calls=tuple(found))
    assert written.removeprefix(form.opening) in template.render(
        [USER, turn, *results], tools=TOOLS
    )


@pytest.mark.parametrize("name", OWN)
def test_an_answer_without_calls_stays_text(templates: dict[str, ChatTemplate], name: str) -> None:
    for said in ("It is 4 < 5.", "", 'As JSON: {"name": "now"}', "<tool", "[TOOL"):
        reader = CallReader(templates[name].call_format, TOOLS, IDS, {})
        parts = [*reader.push(said), *reader.push("", final=True)]
        assert "".join(map(str, parts)) == said
        assert not reader.is_complete


def test_the_name_of_a_tool_needs_no_place_in_a_prompt(templates: dict[str, ChatTemplate]) -> None:
    call = ToolCall(IDS[0], "now", "{}")
    turns = [
        USER,
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "noon", "now", tool_call_id=call.id),
    ]
    for name in ("qwen2_5", "llama3_2", "gemma3"):
        assert templates[name].unread_name(turns) is None
        assert templates[name].unread_name([Message("user", "x", "Ada"), *turns[1:]]) == 0
