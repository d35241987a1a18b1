"""The template doctor: each trap in a template that is broken on purpose, none in good ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.registry import ModelFolder, load_text
from lmstack.text import (
    ChatTemplate,
    TemplateFinding,
    Tokenizer,
    VocabularyConfig,
    examine,
    train_tokenizer,
)

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
HEADERS = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|start|>' + m['role'] + '<|end|>\n\n' + m['content'] | trim + '<|eot|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant<|end|>\n\n' }}{% endif %}"
)
INSTRUCTIONS = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' + m['content'] + ' [/INST]\n' }}{% else %}"
    "{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)
TAGGED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}"
    "{% endgeneration %}{{ '\n' }}{% else %}{{ m['content'] + '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="session")
def with_control(make_byte_level: Callable[..., dict[str, Any]]) -> Callable[..., Tokenizer]:
    """A byte-level tokenizer whose control tokens are ``names``; the first two begin and end."""

    def make(*names: str, **changes: Any) -> Tokenizer:
        metadata = make_byte_level()
        tokens = [*names, *metadata["tokenizer.ggml.tokens"][3:]]
        types = [3] * len(names) + [1] * (len(tokens) - len(names))
        return Tokenizer.from_gguf(
            {
                **metadata,
                "tokenizer.ggml.tokens": tokens,
                "tokenizer.ggml.token_type": types,
                "tokenizer.ggml.bos_token_id": 0,
                "tokenizer.ggml.eos_token_id": 1,
                "tokenizer.ggml.padding_token_id": 2,
                **changes,
            }
        )

    return make


@pytest.fixture(scope="session")
def chatml(with_control: Callable[..., Tokenizer]) -> Tokenizer:
    return with_control("<|im_start|>", "<|im_end|>", "<|pad|>")


def found(
    source: str, tokenizer: Tokenizer, eos: str = "<|im_end|>", **more: Any
) -> dict[str, TemplateFinding]:
    """What is wrong with a template, by the check that says so."""
    names = (tokenizer.name_of("bos_token"), tokenizer.name_of("eos_token"))
    eos_id = tokenizer.id_of(eos)
    assert eos_id is not None
    template = ChatTemplate(source, *names)
    findings = examine(tokenizer, template, eos_ids=frozenset([eos_id]), **more)
    return {f.check: f for f in findings if f.severity in ("warn", "fail")}


def test_chatml_has_nothing_wrong(chatml: Tokenizer) -> None:
    assert found(CHATML, chatml) == {}


def test_turns_under_headers_with_trimmed_contents_have_nothing_wrong_but_the_trimming(
    with_control: Callable[..., Tokenizer],
) -> None:
    llama3 = with_control("<|bos|>", "<|eot|>", "<|pad|>", "<|start|>", "<|end|>")
    assert found(HEADERS, llama3, "<|eot|>") == {}


def test_instructions_in_brackets_only_lack_a_system_message(
    with_control: Callable[..., Tokenizer],
) -> None:
    llama2 = with_control("<s>", "</s>", "<pad>")
    wrong = found(INSTRUCTIONS, llama2, "</s>")
    assert list(wrong) == ["system message"]
    assert wrong["system message"].severity == "warn"
    assert "no system" in wrong["system message"].seen


def test_tags_around_replies_and_their_ends_are_right(chatml: Tokenizer) -> None:
    assert found(TAGGED, chatml) == {}


def broken(old: str, new: str, source: str = CHATML) -> str:
    assert old in source
    return source.replace(old, new)


# What is wrong, the template, the check that finds it, its severity, and a value it must show.
TRAPS = {
    "no end of turn": (broken("+ '<|im_end|>' + '\n'", ""), "end of turn", "fail", "moon"),
    "an end of turn that is only a line break": (
        broken("+ '<|im_end|>'", ""),
        "end of turn",
        "fail",
        "384,400",
    ),
    "an end of turn at which serving does not stop": (
        broken("'<|im_end|>'", "'<|pad|>'"),
        "end of turn",
        "fail",
        "<|pad|>",
    ),
    "text between a reply and its end": (
        broken("+ '<|im_end|>'", "+ ' over.<|im_end|>'"),
        "end of turn",
        "warn",
        "over.",
    ),
    "a control token that is not in the vocabulary": (
        broken("<|im_start|>", "<|turn|>"),
        "control tokens",
        "warn",
        "<|turn|>",
    ),
    "no generation prompt": (
        broken("{% if add_generation_prompt %}", "{% if false %}"),
        "generation prompt",
        "fail",
        "assistant",
    ),
    "a generation prompt that changes the beginning": (
        "{% if add_generation_prompt %}Go!{% endif %}" + CHATML,
        "generation prompt",
        "warn",
        "Go!",
    ),
    "another heading in serving than in training": (
        broken("'<|im_start|>assistant\n'", "'<|im_start|>bot\n'"),
        "training and serving",
        "fail",
        "bot",
    ),
    "a heading that training goes on with": (
        broken("'<|im_start|>assistant\n'", "'<|im_start|>assistant'"),
        "training and serving",
        "warn",
        "\\n",
    ),
    "a later reply that is asked for in another way": (
        broken(
            "{{ '<|im_start|>assistant\n' }}",
            "<|im_start|>{{ 'assistant' if messages | length < 3 else 'bot' }}{{ '\n' }}",
        ),
        "training and serving",
        "fail",
        "bot",
    ),
    "earlier replies that are cut": (
        broken("m['content'] ", "(m['content'] if loop.last else m['content'] | title) "),
        "rendering",
        "fail",
        "moon",
    ),
    "earlier replies that get a mark": (
        broken("'<|im_end|>' ", "('<|im_end|>' if loop.last else '<|im_end|>*') "),
        "prefix",
        "warn",
        "*",
    ),
    "a first message that counts those that follow": (
        "{{ messages | length }}" + CHATML,
        "assistant mask",
        "fail",
        "'4",
    ),
    "an empty assistant mask": (
        broken("m['role'] + '\n'", "m['role'] + (messages | length) | string + '\n'"),
        "assistant mask",
        "fail",
        "apart",
    ),
    "tags that leave out the end of the turn": (
        broken(
            "+ '<|im_end|>' }}{% endgeneration %}",
            "}}{% endgeneration %}{{ '<|im_end|>' }}",
            TAGGED,
        ),
        "generation tags",
        "fail",
        "About 384,400 km, on average.'",
    ),
    "tags around everything": (
        "{% generation %}" + CHATML + "{% endgeneration %}",
        "generation tags",
        "fail",
        "Abou",
    ),
    "tags around nothing": (
        CHATML + "{% generation %}{% endgeneration %}",
        "generation tags",
        "fail",
        "''",
    ),
    "a system message that is dropped": (
        broken("{{ '<|im_start|>'", "{% if m['role'] != 'system' %}{{ '<|im_start|>'").replace(
            "}}{% endfor", "}}{% endif %}{% endfor"
        ),
        "system message",
        "fail",
        "moon",
    ),
    "contents in lower case": (
        broken("m['content']", "(m.content | lower)"),
        "rendering",
        "fail",
        "",
    ),
    "contents with escaped quotes": (
        broken("m['content']", "(m['content'] | e | string)"),
        "content",
        "warn",
        "&#34;",
    ),
    "contents whose filter makes control tokens": (
        broken("m['content']", "(m['content'] | replace('_', ''))").replace("im_end", "imend"),
        "injection",
        "fail",
        "<|im_end|>",
    ),
    "a line break before the conversation": (
        "\n" + CHATML.replace("{% for", "{{ '' }}{% for"),
        "white space",
        "warn",
        "\\n",
    ),
    "a space at the end of the prompt": (
        broken("m['role'] + '\n'", "m['role'] + ': '").replace("assistant\n", "assistant: "),
        "white space",
        "warn",
        "assistant: ",
    ),
    "the date of the day": ("{{ strftime_now('%Y') }}" + CHATML, "date", "warn", "strftime_now"),
    "a template that fails": (
        "{{ messages[9]['content']['x'] }}",
        "rendering",
        "fail",
        "no element 9",
    ),
    "a template that fails on a reply at the end": (
        "{% if messages | length == 2 %}{{ raise_exception('two') }}{% endif %}" + CHATML,
        "end of turn",
        "fail",
        "two",
    ),
    "a template that drops replies": (
        "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}",
        "rendering",
        "fail",
        "384,400",
    ),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_is_found_with_the_value_and_a_way_out(
    chatml: Tokenizer, with_control: Callable[..., Tokenizer], trap: str
) -> None:
    source, check, severity, seen = TRAPS[trap]
    tokenizer, eos = chatml, "<|im_end|>"
    if "imend" in source:
        tokenizer, eos = with_control("<|im_start|>", "<|imend|>", "<|pad|>"), "<|imend|>"
    wrong = found(source, tokenizer, eos)
    assert check in wrong, wrong
    finding = wrong[check]
    assert finding.severity == severity
    assert seen in finding.seen
    assert finding.mend


def test_a_token_shared_by_prompt_and_reply_is_found(make_byte_level) -> None:
    """`: ` and `About` are ` A` and `bout` together: the served prompt ends in another token."""
    metadata = make_byte_level()
    metadata["tokenizer.ggml.tokens"].append("ĠA")
    metadata["tokenizer.ggml.token_type"].append(1)
    metadata["tokenizer.ggml.merges"].append("Ġ A")
    source = broken("m['role'] + '\n'", "m['role'] + ': '").replace("assistant\n", "assistant: ")
    wrong = found(source, Tokenizer.from_gguf(metadata))
    assert wrong["training and serving"].severity == "fail"
    assert "share a token" in wrong["training and serving"].what
    assert wrong["assistant mask"].severity == "fail"


@pytest.mark.parametrize(
    ("source", "adds", "severity", "what"),
    [
        ("{{ bos_token }}{{ bos_token }}", False, "fail", "twice"),
        ("{{ bos_token }}", True, "warn", "two"),
        ("", True, "warn", "leaves out"),
        ("{{ bos_token }}", False, None, ""),
        ("", False, None, ""),
    ],
)
def test_beginnings_of_text_are_counted(
    with_control: Callable[..., Tokenizer], source: str, adds: bool, severity: str, what: str
) -> None:
    names = ("<|bos|>", "<|im_end|>", "<|pad|>", "<|im_start|>")
    tokenizer = with_control(*names, **{"tokenizer.ggml.add_bos_token": adds})
    wrong = found(source + CHATML, tokenizer)
    assert bool(wrong) == bool(severity)
    if severity:
        assert wrong["beginning"].severity == severity
        assert what in wrong["beginning"].what
        assert "<|bos|>" in wrong["beginning"].seen


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("bpe", []),
        ("wordpiece", []),
        # Line breaks become spaces, which its pieces keep with the next word.
        ("unigram", ["training and serving", "assistant mask"]),
        ("sentencepiece-bpe", []),
        ("sentencepiece-unigram", []),
    ],
)
def test_vocabularies_that_fold_case_or_space_are_judged_by_what_they_keep(
    kind: Any, wrong: list[str]
) -> None:
    config = VocabularyConfig(
        kind, 330, ("<|im_start|>", "<|im_end|>"), lowercase=kind == "wordpiece"
    )
    texts = [chr(i) for i in range(32, 127)] + ["About the moon, and about kilometres."] * 9
    tokenizer = train_tokenizer(texts, config, roles={"eos_token": "<|im_end|>"})
    assert list(found(CHATML, tokenizer)) == wrong


def test_a_padding_token_that_ends_turns_is_found(byte_level: Tokenizer) -> None:
    assert byte_level.pad_id == byte_level.eos_id
    wrong = found(CHATML, byte_level)
    assert list(wrong) == ["padding"]
    assert "<|im_end|>" in wrong["padding"].seen


def test_a_vocabulary_larger_than_the_embedding_is_found(chatml: Tokenizer) -> None:
    wrong = found(CHATML, chatml, rows=chatml.vocab_size - 1)
    assert wrong["vocabulary"].severity == "fail"
    assert found(CHATML, chatml, rows=chatml.vocab_size) == {}


def test_two_places_with_different_templates_are_found(chatml: Tokenizer) -> None:
    places = {"chat_template.jinja": CHATML, "tokenizer_config.json": CHATML + "x"}
    assert "tokenizer_config.json" in found(CHATML, chatml, sources=places)["template"].what
    same = dict.fromkeys(places, CHATML)
    assert found(CHATML, chatml, sources=same) == {}


def test_a_default_system_message_is_shown(chatml: Tokenizer) -> None:
    default = "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n"
    names = ("<|im_start|>", "<|im_end|>")
    template = ChatTemplate(default + "{% endif %}" + CHATML, *names)
    findings = examine(chatml, template, eos_ids=frozenset([1]))
    [note] = [f for f in findings if f.check == "system message"]
    assert (note.severity, note.seen) == ("note", "'Be kind.'")


def test_a_model_without_a_template_is_no_chat_model(wordpiece: Tokenizer) -> None:
    findings = {f.check: f for f in examine(wordpiece, None, eos_ids=frozenset())}
    assert findings["template"].severity == "note"
    assert findings["round trip"].severity == "note"


pieces_of_templates = st.lists(
    st.sampled_from(
        [
            *("{{ bos_token }}", "{{ eos_token }}", "{% for m in messages %}", "{% endfor %}"),
            *("{{ m['role'] }}", "{{ m.content }}", "<|im_start|>", "<|im_end|>", "\n", " "),
            *("{% if add_generation_prompt %}", "{% endif %}", "assistant", "{{ messages[1] }}"),
            *("{% generation %}", "{% endgeneration %}", "{{ raise_exception('no') }}"),
        ]
    ),
    max_size=14,
).map("".join)


@settings(max_examples=150, deadline=None)
@given(source=pieces_of_templates)
def test_no_template_makes_the_doctor_fail(byte_level: Tokenizer, source: str) -> None:
    try:
        template = ChatTemplate(source, "<|im_start|>", "<|im_end|>")
    except Exception:
        return
    assert examine(byte_level, template, eos_ids=frozenset([2]))


@pytest.mark.weights
def test_the_default_model_has_one_warning_and_no_error(smollm2: ModelFolder) -> None:
    text = load_text(smollm2)
    findings = examine(
        text.tokenizer,
        text.template,
        eos_ids=text.generation.eos_ids,
        sources=text.sources,
    )
    assert [f.check for f in findings if f.severity == "warn"] == ["padding"]
    assert [f for f in findings if f.severity == "fail"] == []
    assert {f.check for f in findings if f.severity == "ok"} >= {
        *("beginning", "end of turn", "generation prompt", "training and serving"),
        *("assistant mask", "prefix", "content", "injection"),
    }
