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
FENCED = '```json\n{"name": "now", "arguments": {}}\n```'
CALL = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
NOW = [ToolCallDelta(0, IDS[0], "now"), ToolCallDelta(0, arguments="{}")]


def reader(form: CallFormat = PLAIN) -> CallReader:
    return CallReader(form, TOOLS, IDS, control_tokens_of(form, CONTROL))


def fitting(form: CallFormat = PLAIN, max_calls: int | None = None) -> CallReader:
    """One that reads other spellings too."""
    return CallReader(
        *(form, TOOLS, IDS, control_tokens_of(form, CONTROL)),
        fits=lambda _name, arguments: not arguments,
        max_calls=max_calls,
    )


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


def test_calls_in_both_spellings_have_numbers_in_order_and_ids_of_their_own() -> None:
    one = fitting()
    parts = [*one.push(f"So.\n{FENCED}\n{CALL}"), *one.push("", final=True)]
    assert parts[0] == "So."
    begun = [(p.index, p.id) for p in parts if isinstance(p, ToolCallDelta) and p.id]
    assert begun == [(0, IDS[-1]), (1, IDS[0])]
    assert one.is_complete


def test_ids_that_the_model_writes_are_those_of_its_own_calls_after_another_spelling() -> None:
    one = fitting(MARKED)
    [mark] = one.marks.values()
    one.push(f'{FENCED}\n{mark.decode()}[{{"name": "now", "arguments": {{}}, "id": "{IDS[0]}"}}]')
    one.push("", final=True)
    assert one.num_calls == 2
    assert one.is_complete


def test_a_call_of_the_template_that_breaks_off_after_another_spelling_is_not_complete() -> None:
    one = fitting()
    one.push(f"{FENCED}\n{CALL[:-14]}")
    one.push("", final=True)
    assert one.num_calls == 2
    assert not one.is_complete


def test_half_a_call_in_another_spelling_is_text() -> None:
    one = fitting()
    parts = [*one.push(FENCED[:-8]), *one.push("", final=True)]
    assert "".join(map(str, parts)) == FENCED[:-8]
    assert not one.is_complete


def test_the_words_of_a_control_token_are_another_spelling_of_a_call() -> None:
    one = fitting(MARKED)
    typed = '[TOOL_CALLS][{"name": "now", "arguments": {}}]'
    assert [p.name for p in one.push(typed) if isinstance(p, ToolCallDelta)] == ["now", ""]


def test_calls_beyond_those_allowed_are_dropped() -> None:
    one = fitting(max_calls=1)
    parts = [*one.push(f"{FENCED}\n{FENCED}"), *one.push("", final=True)]
    assert one.num_calls == 1
    assert not [part for part in parts if isinstance(part, str)]
