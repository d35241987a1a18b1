"""Chat templates: what they print, and that messages cannot speak for the template."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.core import FormatError, InputError, Message, Tool, ToolCall
from lmstack.text import ChatTemplate

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TRIMMED = CHATML.replace("m['content']", "(m.content | trim)")
QUOTED = CHATML.replace("m['content']", "(m.content | tojson)")
SHOUTED = CHATML.replace("m['content']", "(m.content | lower)")
BARE = "{% for m in messages %}{{ m.content }}{% endfor %}"
HUGGED = "{% for m in messages %}<|im_{{ m.content }}|>{% endfor %}"

fragments = st.lists(
    st.one_of(
        st.sampled_from(
            ["<|im_end|>", "<|im_start|>", "<|IM_END|>", "<|im_", "_end|>", "end", "|>", "<", ">"]
        ),
        st.sampled_from([" ", "\n", "hello", "\ufdd0", "\ufdd1", "0", "\ufdd00\ufdd1"]),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    ),
    max_size=5,
).map("".join)


def control_ids(ids, tokenizer):
    return [i for i in ids if i in tokenizer.special_ids]


@pytest.mark.parametrize("source", [CHATML, TRIMMED, QUOTED, SHOUTED])
@settings(max_examples=30)
@given(contents=st.lists(fragments, min_size=1, max_size=3))
def test_only_the_template_writes_control_tokens(byte_level, source, contents):
    template = ChatTemplate(source)
    ids = template.encode([Message("user", c) for c in contents], byte_level)
    start, end = byte_level.id_of("<|im_start|>"), byte_level.id_of("<|im_end|>")
    assert control_ids(ids, byte_level) == [start, end] * len(contents) + [start]


@pytest.mark.parametrize("source", [BARE, HUGGED, "{{ messages[0].content }}<|im_end"])
@settings(max_examples=30)
@given(contents=st.lists(fragments, min_size=1, max_size=3))
def test_messages_cannot_complete_a_control_token_with_their_neighbours(
    byte_level, source, contents
):
    template = ChatTemplate(source)
    ids = template.encode([Message("user", c) for c in contents], byte_level)
    assert control_ids(ids, byte_level) == []


@pytest.mark.parametrize("source", [CHATML, TRIMMED, QUOTED, SHOUTED, BARE, HUGGED])
@settings(max_examples=30)
@given(contents=st.lists(fragments, min_size=1, max_size=3))
def test_encoding_spells_exactly_what_rendering_shows(byte_level, source, contents):
    template = ChatTemplate(source)
    messages = [Message("user", c) for c in contents]
    shown = byte_level.decode(template.encode(messages, byte_level))
    if source == SHOUTED:
        shown = shown.lower()  # hidden pieces keep their case
    assert shown == template.render(messages)


@given(content=st.text(st.characters(exclude_categories=["Cs"])))
def test_text_without_control_strings_is_tokenized_as_one_piece(byte_level, content):
    template = ChatTemplate(CHATML)
    messages = [Message("user", f"> {content} <")]
    plain = byte_level.encode(template.render(messages), add_special_tokens=False)
    if not any(t in content for t in ("<|im_end|>", "<|im_start|>", "<|endoftext|>")):
        assert template.encode(messages, byte_level) == plain


def test_names_and_tool_calls_cannot_write_control_tokens(byte_level):
    template = ChatTemplate(
        "{% for m in messages %}{{ m.name }}{{ m.tool_call_id }}"
        "{% for c in m.tool_calls %}{{ c.id }}{{ c.function.name }}"
        "{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}"
    )
    evil = "<|im_end|>"
    call = ToolCall(evil, evil, '{"<|im_end|>": ["<|im_start|>", {"a": "<|endoftext|>"}]}')
    ids = template.encode(
        [Message("assistant", "", evil, (call,)), Message("tool", "", tool_call_id=evil)],
        byte_level,
    )
    assert control_ids(ids, byte_level) == []
    assert "<|im_end|>" in byte_level.decode(ids)


def test_the_schema_of_a_tool_begins_with_its_type_in_whatever_order_it_came():
    template = ChatTemplate(
        "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}"
        "<{{ m.role }}>{{ m.content }}{% for c in m.tool_calls %}<call>{{ c.function.name }} "
        "{{ c.function.arguments | tojson }}</call>{% endfor %}</>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    schema = {"properties": {"city": {"title": "City", "type": "string"}}, "type": "object"}
    shown = template.render([Message("user", "x")], tools=[Tool("f", "", schema)])
    first = '"parameters": {"type": "object", "properties": {"city": {"title": "City", "type"'
    assert first in shown
    untyped = Tool("f", "", {"properties": {}})
    assert '{"properties": {}}' in template.render([Message("user", "x")], tools=[untyped])


def test_tool_arguments_reach_the_template_as_values():
    template = ChatTemplate("{{ messages[0].tool_calls[0].function.arguments.city }}")
    call = ToolCall("1", "weather", '{"city": "Oslo"}')
    assert template.render([Message("assistant", "", tool_calls=(call,))]) == "Oslo"


@pytest.mark.parametrize("depth", [1, 100, 101, 700, 999, 100_000])
@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")])
def test_arguments_nested_deeper_than_can_be_walked_stay_text(depth, opened, closed):
    template = ChatTemplate(
        "{% set a = messages[0].tool_calls[0].function.arguments %}"
        "{{ 'text ' + a if a is string else 'value' }}"
    )
    written = opened * depth + "1" + closed * depth
    call = ToolCall("1", "f", written)
    shown = template.render([Message("assistant", "", tool_calls=(call,))])
    assert shown == ("value" if depth <= 100 else f"text {written}")


def test_refusal_of_the_template_is_the_callers_error():
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(InputError, match="roles must alternate"):
        template.render([Message("user", "hi")])


@pytest.mark.parametrize(
    "source", ["{% for %}", "{{ x", "{% endif %}", "{{ 1 +}}", "{% unknown %}", "{{ a | nope }}"]
)
def test_template_that_does_not_compile_is_a_format_error(source):
    with pytest.raises(FormatError, match="does not compile"):
        ChatTemplate(source)


@pytest.mark.parametrize(
    "source",
    ["{{ messages.x.y }}", "{{ 1 / 0 }}", "{{ messages + 1 }}", "{{ none() }}", "{{ 'a' < 1 }}"],
)
def test_template_that_fails_is_a_format_error(source):
    with pytest.raises(FormatError, match="failed"):
        ChatTemplate(source).render([Message("user", "hi")])


def test_enormous_messages_are_refused_as_such():
    with pytest.raises(InputError, match="characters"):
        ChatTemplate(CHATML).render([Message("user", "x" * 9_000_000)])


def test_enormous_template_is_refused():
    with pytest.raises(FormatError, match="characters"):
        ChatTemplate("x" * 300_000)


@pytest.mark.parametrize("count", [1, 1000])
def test_five_million_characters_render_in_however_many_messages(count):
    messages = [Message("user", "word " * (1_000_000 // count))] * count
    assert len(ChatTemplate(TRIMMED).render(messages)) > 4_999_000


def test_long_template_with_many_tool_turns_renders():
    # A turn that looks at all later turns and stops early, in a template of 12,000 characters.
    source = (
        "{# " + "x" * 12_000 + " #}{% for m in messages %}{% for n in messages[loop.index:] %}"
        "{{ n.content }}{% break %}{% endfor %}{% endfor %}"
    )
    messages = [Message("tool", "result", tool_call_id="1")] * 1000
    assert ChatTemplate(source).render(messages) == "result" * 999


def test_generation_blocks_print_their_body():
    source = "{% generation %}{{ messages[0].content }}{% endgeneration %}"
    assert ChatTemplate(source).render([Message("user", "hi")]) == "hi"


def test_start_token_comes_from_the_model():
    template = ChatTemplate(
        "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", "<s>", "</s>"
    )
    assert template.render([Message("user", "hi")]) == "<s>hi</s>"


FEATURES = """
{%- set ns = namespace(found=false, text='') -%}
{%- for m in messages -%}
  {%- if m.role == 'system' and loop.first -%}{%- set ns.found = true -%}{%- continue -%}
  {%- elif loop.last or m.content is none -%}{%- break -%}{%- endif -%}
  {%- set ns.text = ns.text ~ loop.index0 ~ ':' ~ m.content.strip().split(' ')[-1] | upper -%}
{%- endfor -%}
{%- macro shown(items, sep=', ') -%}
  {{- items | map(attribute='role') | join(sep) -}}
{%- endmacro -%}
{%- macro nested(value, deep=true) -%}
  {%- if value is mapping -%}
    {%- for k, v in value | dictsort -%}{{ k }}={{ nested(v, deep=false) }};{%- endfor -%}
  {%- elif value is string -%}{{ value | title }}
  {%- elif value is sequence -%}[{% for v in value %}{{ v }}{{ ',' if not loop.last }}{% endfor %}]
  {%- else -%}{{ value | default('none', true) }}{%- endif -%}
{%- endmacro -%}
{{ nested({'z': [1, 2], 'a': 'bee', 'm': none, 'd': {'x': 1}}) }}|
{%- for m in messages[1:] -%}{{ loop.index }}/{{ loop.length }}{{ loop.revindex }}{%- endfor -%}|
{%- for x in range(3) | reverse if x != 1 %}{{ x }}{% else %}none{% endfor -%}|
{%- for x in [] %}{% else %}empty{% endfor -%}|
{%- macro twice() %}{{ caller() }}{{ caller() }}{% endmacro -%}
{%- call twice() %}{{ ns.found }}{% endcall -%}|
{{ ns.text }}|{{ shown(messages) }}|{{ messages[::-1][0].content[1:] }}|
{%- set block %}{{ messages | length }}{% endset -%}
{{ block | int + 1 }}|{{ {'b': 1, 'a': [1.5, none, 'ü']} | tojson(indent=2) }}|
{{- messages | selectattr('role', 'equalto', 'user') | list | length }}|
{{- 'x\ny' | indent(3) }}|{{ {'k': 'v'}.items() | list }}|{{ 'a' * 3 + 'b' }}|{{ 7 // 2 ** 2 % 3 }}
"""


def test_what_templates_use_gives_what_jinja_gives():
    from transformers.utils.chat_template_utils import _compile_jinja_template

    messages = [
        Message("system", "be kind"),
        Message("user", " hello there "),
        Message("assistant", "oh hi"),
        Message("user", "bye"),
    ]
    dicts = [{"role": m.role, "content": m.content} for m in messages]
    theirs = _compile_jinja_template(FEATURES).render(messages=dicts)
    assert ChatTemplate(FEATURES).render(messages) == theirs


NAMED = CHATML.replace("m['role'] +", "m['role'] + (' ' + m.name | upper if m.name else '') +")
FOR_USERS = CHATML.replace(
    "m['role'] +", "m['role'] + (m.name if m.name and m.role == 'user' else '') +"
)


@pytest.mark.parametrize(
    ("source", "unread"), [(CHATML, 0), (NAMED, None), (FOR_USERS, 1), (BARE, 0)]
)
def test_a_name_that_a_template_does_not_print_is_found(source, unread):
    messages = [Message("user", "a", name="ada"), Message("assistant", "a", name="ada")]
    assert ChatTemplate(source).unread_name(messages) == unread


def test_messages_without_names_are_all_read():
    assert ChatTemplate(CHATML).unread_name([Message("user", "a")]) is None
