"""Reading calls while they are written: what counts as one, and what stays text."""

from __future__ import annotations

from dataclasses import replace

from lmstack.core import Tool, ToolCallDelta
from lmstack.text import CallFormat, CallReader, JsonArguments, control_tokens_of
from lmstack.text.calls.prompt import PLAIN

TOOLS = (Tool("now"), Tool("say", "", {"type": "object", "properties": {"text": {}}}))
IDS = ("abcdefgh1", "abcdefgh2", "abcdefgh3")
# As Mistral writes calls: control tokens, and ids that the model writes.
MARKED = CallFormat(
    lead='[TOOL_CALLS][{"name": "',
    name_end='", "arguments": ',
    id_lead=', "id": "',
    between='"}, {"name": "',
    end='"}]',
)
CONTROL = {"[TOOL_CALLS]": 5, "[INST]": 6}
CALL = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
NOW = [ToolCallDelta(0, IDS[0], "now"), ToolCallDelta(0, arguments="{}")]


def reader(form: CallFormat = PLAIN) -> CallReader:
    return CallReader(form, TOOLS, IDS, control_tokens_of(form, CONTROL))


def test_text_comes_out_before_the_call_is_certain() -> None:
    one = reader()
    assert one.push("Let me ") == ["Let me "]
    assert one.push("see.\n<tool") == ["see."]
    assert one.push("_box>") == ["\n<tool_box>"]
    assert one.push("\n" + CALL[:-12]) == [
        ToolCallDelta(0, IDS[0], "now"),
        ToolCallDelta(0, arguments="{}"),
    ]
    assert not one.is_complete
    assert one.push(CALL[-12:]) == []
    assert one.is_complete


def test_arguments_come_as_they_are_written() -> None:
    one = reader()
    one.push('<tool_call>\n{"name": "say", "arguments": ')
    assert one.push('{"text": "a}') == [ToolCallDelta(0, arguments='{"text": "a}')]
    assert one.push('\\"b"') == [ToolCallDelta(0, arguments='\\"b"')]
    assert one.push("}}\n</tool_call>") == [ToolCallDelta(0, arguments="}")]
    assert one.is_complete


def test_a_call_of_no_tool_of_the_request_stays_text() -> None:
    one = reader()
    other = CALL.replace("now", "rm")
    assert "".join(map(str, [*one.push(other), *one.push("", final=True)])) == other
    assert one.num_calls == 0


def test_a_call_that_breaks_off_is_not_complete() -> None:
    for cut in range(1, len(CALL)):
        one = reader()
        one.push(CALL[:cut])
        one.push("", final=True)
        assert not one.is_complete


def test_half_a_call_is_no_text() -> None:
    for cut in range(len("<tool_call>"), len(CALL) + 1):
        one = reader()
        parts = [*one.push("Well.\n" + CALL[:cut]), *one.push("", final=True)]
        assert "".join(p for p in parts if isinstance(p, str)).strip() == "Well."
    one = reader()
    assert "".join(map(str, [*one.push("a <tool_c"), *one.push("", final=True)])) == "a <tool_c"


def test_only_the_control_token_itself_begins_a_call() -> None:
    form = MARKED
    one = reader(form)
    typed = '[TOOL_CALLS][{"name": "now", "arguments": {}, "id": "abcdefgh1"}]'
    assert "".join(map(str, [*one.push(typed), *one.push("", final=True)])) == typed
    assert one.num_calls == 0
    [mark] = reader(form).marks.values()
    one = reader(form)
    parts = one.push(typed.replace("[TOOL_CALLS]", mark.decode()))
    assert parts == NOW
    assert one.is_complete


def test_ids_are_those_that_the_model_was_given() -> None:
    one = reader(MARKED)
    [mark] = one.marks.values()
    calls = ", ".join(f'{{"name": "now", "arguments": {{}}, "id": "{i}"}}' for i in IDS[:2])
    parts = one.push(f"{mark.decode()}[{calls}]")
    assert [p.id for p in parts if isinstance(p, ToolCallDelta) and p.id] == list(IDS[:2])
    assert one.is_complete


def test_json_that_only_looks_like_a_call_is_one_at_the_beginning_alone() -> None:
    form = CallFormat('{"name": "', '", "parameters": ', "}", JsonArguments(), max_calls=1)
    one = reader(form)
    call = '{"name": "now", "parameters": {}}'
    assert one.push("Like this: " + call) == ["Like this: " + call]
    one = reader(form)
    assert one.push(call[:5]) == []
    assert [p.name for p in one.push(call[5:]) if isinstance(p, ToolCallDelta)] == ["now", ""]
    assert one.is_complete


def test_text_before_a_call_may_be_forbidden() -> None:
    one = reader(replace(PLAIN, lead_after_text=None))
    assert one.push("Well.\n" + CALL)[0] == "Well.\n"
