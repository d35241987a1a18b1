"""The tokens that the assistant wrote: those of transformers where the template marks them, what a
turn adds to its prompt where it does not, and never a token that nothing would generate."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.core import FormatError, InputError, Message, ToolCall
from lmstack.model import read_gguf
from lmstack.text import ChatTemplate, Tokenizer
from lmstack.text import turns as turns_module

PLAIN = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TRIMMED = PLAIN.replace("m['content']", "(m.content | trim)")
DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}"
    "{% endif %}" + PLAIN
)
BRACKETS = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + '<|im_end|>' }}{% endif %}{% endfor %}"
)
WORDS = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n\n' }}{% endfor %}" + (
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
JSON = PLAIN.replace("m['content']", "(m.content | tojson)")
THOUGHTS = PLAIN.replace("m['content']", "m['content'].split('</think>')[-1]")
LAST_THINKS = PLAIN.replace(
    "m['content']",
    "('<think></think>' if loop.last and m.role == 'assistant' else '') + m['content']",
)
SOURCES = {
    "plain": PLAIN,
    "trimmed": TRIMMED,
    "default system": DEFAULT_SYSTEM,
    "brackets": BRACKETS,
    "words": WORDS,
    "json": JSON,
    "thoughts": THOUGHTS,
    "last thinks": LAST_THINKS,
}
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}"
    "{% endgeneration %}{{ '\n' }}{% else %}{{ m['content'] + '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONTENTS = st.lists(
    st.sampled_from(
        ["hello", " ", "\n", "é", "<|im_end|>", "\ufdd2", "\ufdd3", "</think>", "<think>", ".", '"']
    ),
    max_size=4,
).map("".join)
TALKS = st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), CONTENTS), max_size=9)


def talk(*pairs: tuple[str, str]) -> list[Message]:
    return [Message(role, content) for role, content in pairs]  # type: ignore[arg-type]


def written(
    template: ChatTemplate, messages: list[Message], tokenizer: Tokenizer
) -> tuple[list[str], list[int]]:
    ids, ranges = template.encode_turns(messages, tokenizer)
    return [tokenizer.decode(ids[start:stop]) for start, stop in ranges], ids


LONG = talk(*[("user", "How are you?"), ("assistant", "Fine.\n")] * 6)


def test_a_turn_is_what_follows_its_prompt_up_to_its_end(byte_level: Tokenizer) -> None:
    found, ids = written(ChatTemplate(PLAIN), LONG, byte_level)
    assert found == ["Fine.\n<|im_end|>"] * 6
    assert ids == ChatTemplate(PLAIN).encode(LONG, byte_level, add_generation_prompt=False)
    assert written(ChatTemplate(TRIMMED), LONG, byte_level)[0] == ["Fine.<|im_end|>"] * 6
    assert written(ChatTemplate(BRACKETS), LONG, byte_level)[0] == [" Fine.\n<|im_end|>"] * 6
    # No control token ends a turn, so all that the template prints after it does.
    assert written(ChatTemplate(WORDS), LONG, byte_level)[0] == [" Fine.\n\n\n"] * 6


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
@settings(max_examples=30, deadline=None)
@given(pairs=TALKS)
def test_many_turns_at_once_equal_each_turn_by_itself(
    byte_level: Tokenizer, source: str, pairs: list[tuple[str, str]]
) -> None:
    template, messages = ChatTemplate(source), talk(*pairs)
    dicts = [{"role": m.role, "content": m.content} for m in messages]

    def render(some: list[dict[str, str]], prompt: bool) -> str:
        return template.render(
            talk(*((d["role"], d["content"]) for d in some)), add_generation_prompt=prompt
        )

    places = [place for place, m in enumerate(messages) if m.role == "assistant"]
    try:
        whole = render(dicts, False)
        expected = [turns_module._exact(dicts, p, whole, render) for p in places]  # type: ignore
    except (FormatError, InputError):
        expected = []
    try:
        _, found = turns_module.assistant_ranges(dicts, render)  # type: ignore[arg-type]
    except (FormatError, InputError):
        found = []
    assert found == expected


@pytest.mark.parametrize("source", [PLAIN, TRIMMED, DEFAULT_SYSTEM, BRACKETS, JSON, MARKED])
@settings(max_examples=30, deadline=None)
@given(pairs=TALKS)
def test_ids_are_those_of_the_prompt_and_what_others_typed_ends_nothing(
    byte_level: Tokenizer, source: str, pairs: list[tuple[str, str]]
) -> None:
    pairs = [("user", "x"), *pairs, ("user", "x"), ("assistant", "y")]
    template, messages = ChatTemplate(source), talk(*pairs)
    ids, ranges = template.encode_turns(messages, byte_level)
    assert ids == template.encode(messages, byte_level, add_generation_prompt=False)
    assert len(ranges) == sum(m.role == "assistant" for m in messages)
    end = byte_level.id_of("<|im_end|>")
    for start, stop in ranges:
        assert ids[start:stop].count(end) == 1
        assert ids[stop - 1] == end


def test_the_work_grows_with_the_turns_and_not_with_their_square(
    monkeypatch: pytest.MonkeyPatch, byte_level: Tokenizer
) -> None:
    rendered = []
    render = ChatTemplate._render

    def counted(self: ChatTemplate, messages: list[object], *more: Any, **named: Any) -> str:
        rendered.append(len(messages))
        return render(self, messages, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(ChatTemplate, "_render", counted)
    ChatTemplate(DEFAULT_SYSTEM).encode_turns(LONG * 10, byte_level)
    assert sum(rendered) < 4 * len(LONG * 10)


@pytest.mark.parametrize(
    ("source", "messages"),
    [
        (LAST_THINKS, LONG),
        (
            THOUGHTS.replace("split('</think>')[-1]", "replace('q', loop.length | string)"),
            talk(*[("user", "q"), ("assistant", "b")] * 3),
        ),
    ],
)
def test_a_template_that_changes_what_was_said_is_refused(
    byte_level: Tokenizer, source: str, messages: list[Message]
) -> None:
    with pytest.raises(InputError, match="renders earlier turns in another way"):
        ChatTemplate(source).encode_turns(messages, byte_level)


def test_a_conversation_without_an_answer_is_refused(byte_level: Tokenizer) -> None:
    for source in (PLAIN, MARKED):
        with pytest.raises(InputError, match="has no turn"):
            ChatTemplate(source).encode_turns([Message("user", "x")], byte_level)


def test_tool_calls_are_written_by_the_assistant(byte_level: Tokenizer) -> None:
    source = PLAIN.replace(
        "m['content'] ", "m['content'] + (m.tool_calls | tojson if m.tool_calls else '')"
    )
    asked = Message("assistant", "", tool_calls=(ToolCall("1", "w", "{}"),))
    messages = [Message("user", "x"), asked, Message("tool", "y"), Message("assistant", "z")]
    found, _ = written(ChatTemplate(source), messages, byte_level)
    assert found[0].startswith('[{"id": "1"')
    assert found[1] == "z<|im_end|>"


@pytest.fixture(scope="module")
def theirs(byte_level: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> object:
    import transformers

    folder = tmp_path_factory.mktemp("tokenizer")
    byte_level.save(folder)
    return transformers.AutoTokenizer.from_pretrained(folder)


def mask_of(theirs: object, source: str, messages: list[Message]) -> tuple[list[int], list[int]]:
    dicts = [{"role": m.role, "content": m.content} for m in messages]
    found = theirs.apply_chat_template(  # type: ignore[attr-defined]
        dicts, chat_template=source, return_dict=True, return_assistant_tokens_mask=True
    )
    return list(found["input_ids"]), list(found["assistant_masks"])


WRAPPED = MARKED.replace("{% generation %}", "{%- generation -%}\n  ").replace(
    "{% endgeneration %}", "\n{%- endgeneration %}"
)
INNER = MARKED.replace(
    "{{ m['content'] + '<|im_end|>' }}",
    "{% if m['content'] %}{{ m['content'] }}{% endif %}<|im_end|>",
)


@pytest.mark.parametrize("source", [MARKED, WRAPPED, INNER])
@settings(max_examples=25, deadline=None)
@given(pairs=st.lists(st.tuples(CONTENTS, CONTENTS), min_size=1, max_size=4))
def test_marked_tokens_equal_transformers(
    byte_level: Tokenizer, theirs: object, source: str, pairs: list[tuple[str, str]]
) -> None:
    # A control token that a person typed is one for transformers; for us it is text.
    clean = [[text.replace("<|im_end|>", "") for text in pair] for pair in pairs]
    messages = [m for u, a in clean for m in talk(("user", u), ("assistant", a))]
    ids, ranges = ChatTemplate(source).encode_turns(messages, byte_level)
    mask = [int(any(a <= n < b for a, b in ranges)) for n in range(len(ids))]
    assert (ids, mask) == mask_of(theirs, source, messages)


@pytest.mark.weights
@settings(max_examples=30, deadline=None)
@given(pairs=st.lists(st.tuples(CONTENTS, CONTENTS), min_size=1, max_size=4))
def test_the_real_template_gives_what_transformers_gives_once_it_is_marked(
    real: tuple[Tokenizer, object, str], pairs: list[tuple[str, str]]
) -> None:
    tokenizer, theirs, source = real
    body = "message['content'] + '<|im_end|>' + '\n'"
    assert body in source
    marked = source.replace(
        "{{'<|im_start|>' + message['role'] + '\n' + " + body + "}}",
        "{{'<|im_start|>' + message['role'] + '\n'}}{% if message['role'] == 'assistant' %}"
        "{% generation %}{{message['content'] + '<|im_end|>'}}{% endgeneration %}{{'\n'}}"
        "{% else %}{{" + body + "}}{% endif %}",
    )
    assert marked != source
    # Where a content begins with space, one token would cross from the prompt into it.
    clean = [[text.replace("<|im_end|>", "").strip() for text in pair] for pair in pairs]
    messages = [m for u, a in clean for m in talk(("user", u), ("assistant", a))]
    ids, ranges = ChatTemplate(source).encode_turns(messages, tokenizer)
    mask = [int(any(a <= n < b for a, b in ranges)) for n in range(len(ids))]
    assert (ids, mask) == mask_of(theirs, marked, messages)


@pytest.fixture(scope="module")
def real(
    smollm2: object, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tokenizer, object, str]:
    import transformers

    with read_gguf(smollm2.gguf) as file:  # type: ignore[attr-defined]
        metadata = file.metadata
    tokenizer = Tokenizer.from_gguf(metadata)
    folder: Path = tmp_path_factory.mktemp("smollm2")
    tokenizer.save(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
    return tokenizer, theirs, str(metadata["tokenizer.chat_template"])


def test_a_token_that_crosses_into_a_turn_is_not_learned(byte_level: Tokenizer) -> None:
    ids, ranges = ChatTemplate(WORDS.replace("'assistant:'", "'assistant: '")).encode_turns(
        talk(("user", "x"), ("assistant", "the end")), byte_level
    )
    [(start, stop)] = ranges
    prompt = "user: x\n\nassistant: "
    assert len(byte_level.decode(ids[:start])) >= len(prompt)
    assert byte_level.decode(ids[start:stop]) in "the end\n\n"
