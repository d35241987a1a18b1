"""Prompt files: strict keys, versions by content, and nothing read outside of the folder."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.app.conftest import HashEmbedder
from tests.errors import about

from lmstack.core import (
    FormatError,
    InputError,
    LmstackError,
    ModelInfo,
    NotFoundError,
    StoreError,
)
from lmstack.prompting import PromptFile, PromptFolder, load_prompt
from lmstack.prompting.prompt_file import example_of

MARKDOWN = """\
---
description: Says what a review thinks.
variables:
  review: {untrusted: true, description: what they wrote}
  place: {default: restaurant}
sampling: {temperature: 0, max_tokens: 8}
choices: [positive, negative]
examples:
  - {review: Great., output: positive}
  - {review: Cold., output: negative, place: bar}
---

system:
You read reviews of a {{place}}.

user:
{{review}}
"""
YAML = """\
sampling: {max_tokens: 8, temperature: 0.0}
choices: [positive, negative]
variables: {review: {untrusted: true}, place: {type: text, default: restaurant}}
turns:
  - {role: system, text: "You read reviews of a {{place}}."}
  - role: user
    text: |
      {{review}}
examples_file: shots.jsonl
"""
SHOTS = (
    '{"review": "Great.", "output": "positive"}\n\n'
    '{"place": "bar", "output": "negative", "review": "Cold."}\n'
)
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str, name: str = "mood.md") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return written


def test_a_markdown_file_is_turns_variables_examples_and_a_form(write: Write) -> None:
    prompt = load_prompt(write(MARKDOWN))
    assert (prompt.name, prompt.description) == ("mood", "Says what a review thinks.")
    messages = prompt.template().fill(review="So so.").messages
    assert messages[0].content == "You read reviews of a restaurant."
    assert [m.role for m in messages] == ["system", *["user", "assistant"] * 2, "user"]
    assert "\nSo so.\n</data-" in messages[-1].content
    form = prompt.form
    assert form is not None
    assert form.read("positive") == "positive"


def test_the_version_is_what_is_asked_however_it_is_spelled(write: Write) -> None:
    write(SHOTS, "shots.jsonl")
    one, other = load_prompt(write(MARKDOWN)), load_prompt(write(YAML, "other.yaml"))
    assert one.digest == other.digest
    assert re.fullmatch(r"mood@[0-9a-f]{7}", one.version)
    assert load_prompt(write(MARKDOWN.replace("\n", "\r\n"), "dos.md")).digest == one.digest
    write(SHOTS.replace('"Great.",', '"Great.", "place": "restaurant",'), "shots.jsonl")
    assert load_prompt(write(YAML, "other.yaml")).digest == one.digest
    write(SHOTS.replace("Cold.", "Cold!"), "shots.jsonl")
    assert load_prompt(write(YAML, "other.yaml")).digest != one.digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("You read", "You  read"),
        ("untrusted: true", "untrusted: false"),
        ("temperature: 0", "temperature: 0.5"),
        ("max_tokens: 8", "max_tokens: 9"),
        ("[positive, negative]", "[negative, positive]"),
        ("output: positive}", "output: positive, reasoning: so}"),
        ("---\n\nsystem", "thinking: true\n---\n\nsystem"),
        ("---\n\nsystem", "model: other\n---\n\nsystem"),
        ("default: restaurant", "default: bar"),
    ],
)
def test_whatever_changes_what_is_asked_changes_the_version(
    write: Write, old: str, new: str
) -> None:
    assert old in MARKDOWN
    changed = load_prompt(write(MARKDOWN.replace(old, new), "new.md"))
    assert changed.digest != load_prompt(write(MARKDOWN)).digest


def test_a_description_and_a_name_change_no_version(write: Write) -> None:
    changed = MARKDOWN.replace("what they wrote", "text").replace("Says what", "Tells what")
    named = changed.replace("---\ndes", "---\nname: feeling\ndes", 1)
    assert load_prompt(write(named, "a.md")).digest == load_prompt(write(MARKDOWN)).digest
    assert load_prompt(write(named, "a.md")).name == "feeling"


def test_what_is_asked_names_the_file_s_version(write: Write) -> None:
    prompt = load_prompt(write(MARKDOWN))
    request = prompt.template().fill(review="x").request()
    assert (request.prompt_name, request.prompt_digest) == ("mood", prompt.digest)


BODY = "---\n{}\n---\n{}"


def test_text_without_roles_is_a_turn_of_the_user_and_roles_can_be_escaped(write: Write) -> None:
    prompt = load_prompt(write(BODY.format("description: x", "\nSay:\n\n\\user:\nhi\n\n")))
    [turn] = prompt.base.turns
    assert (turn.role, turn.text) == ("user", "Say:\n\nuser:\nhi")


def test_words_that_yaml_would_change_stay_words(write: Write) -> None:
    text = BODY.format("choices: [yes, no, 010x]\nvariables: {a: {default: no}}", "{{a}}")
    prompt = load_prompt(write(text))
    assert prompt.choices == ("yes", "no", "010x")
    assert prompt.template().fill().messages[0].content == "no"


@pytest.mark.parametrize(
    ("front", "body", "message", "hint", "param"),
    [
        (
            "exmples: []",
            "x",
            "there is no setting 'exmples'",
            "did you mean 'examples'?",
            "exmples",
        ),
        (
            "sampling: {temprature: 1}",
            "x",
            "'temprature'",
            "did you mean 'temperature'?",
            "temprature",
        ),
        (
            "sampling: {temperature: 3}",
            "x",
            "temperature is 3, outside [0, 2]",
            None,
            "temperature",
        ),
        ("sampling: {n: 3}", "x", "sampling has an n", "samples: 5 draws so many and votes", None),
        (
            "variables: {a: {untrusetd: true}}",
            "{{a}}",
            "variables.a: there is no setting 'untrusetd'",
            "did you mean 'untrusted'?",
            "untrusetd",
        ),
        (
            "variables: {a: txt}",
            "{{a}}",
            "variables.a: a variable has the type 'txt'",
            None,
            "type",
        ),
        ("variables: [a]", "{{a}}", "variables is ['a'], not a mapping", None, "variables"),
        ("description: x", "{{a}}", "has no variable 'a'", None, "variables"),
        (
            "variables: {a: }",
            "x",
            "no turn of the prompt names its variable 'a'",
            None,
            "variables",
        ),
        (
            "examples: [{a: b}]",
            "x",
            "example 1 is {'a': 'b'}, which has no output",
            None,
            "examples",
        ),
        (
            "examples: [{output: 3}]",
            "x",
            "the output of example 1 is 3, not text",
            "in quotes",
            "examples",
        ),
        ("examples: [{output: a, b: c}]", "x", "has no variable 'b'", None, "b"),
        (
            "examples: [{output: yes, label: }]\nexamples_file: a",
            "x",
            "are both given",
            "one out",
            None,
        ),
        (
            "examples: [{output: null}]",
            "x",
            "the output of example 1 is None, not text",
            None,
            "examples",
        ),
        (
            "examples: [{output: true}]",
            "x",
            "the output of example 1 is True, not text",
            None,
            "examples",
        ),
        (
            "choices: [a]\npattern: b",
            "x",
            "choices and pattern are both given",
            "leave one out",
            None,
        ),
        ("choices: [a, a]", "x", "the choices are ['a', 'a']", None, "form"),
        ("pattern: '('", "x", "cannot be used", None, "response_format"),
        ("schema: {typ: object}", "x", "keyword 'typ'", "did you mean 'type'?", "response_format"),
        ("choose: nearst", "x", "choose is 'nearst', not fixed, nearest", None, "choose"),
        ("choose: nearest", "x", "no examples to choose from", None, None),
        ("shots: 3", "x", "shots and embedder are of nearest examples", "choose: nearest", None),
        ("embedder: m", "x", "shots and embedder are of nearest examples", "choose: nearest", None),
        (
            "schema: {}\nschema_file: a\npattern: b",
            "x",
            "schema_file and pattern are both",
            None,
            None,
        ),
        (
            "schema_file: a.json\nchoices: [b]",
            "x",
            "schema_file and choices are both given",
            None,
            None,
        ),
        ("samples: 5\nsampling: {temperature: 0}", "x", "the temperature is 0", None, None),
        ("thinking: {marker: ''}", "x", "thinking: the marker is ''", None, "marker"),
        ("thinking: yes", "x", "thinking is 'yes', not true or a mapping", None, "thinking"),
        ("name: a b", "x", "the prompt has the name 'a b'", None, "name"),
        ("turns: []", "x", "has turns in its front matter", "write them below it", None),
        ("examples_file: ../x.jsonl", "x", "outside of the prompt's folder", None, None),
        ("examples_file: /etc/passwd", "x", "outside of the prompt's folder", None, None),
        ("schema_file: none.json", "x", "there is no file", None, None),
        ("description: *a", "x", "has the alias *a", None, None),
        ("description: a\ndescription: b", "x", "'description' stands twice", None, None),
        ("- a", "x", "as its front matter, not settings", None, None),
        ("description: x", "{{a b}}", "no variable", None, None),
        ("description: x", "", "ends with a turn of the user|a message", None, None),
        ("description: x", "system:\nx", "its last is the system's", None, "turns"),
    ],
)
def test_what_is_wrong_is_an_error_that_names_the_file(
    write: Write, front: str, body: str, message: str, hint: str | None, param: str | None
) -> None:
    path = write(BODY.format(front, body))
    if body == "":
        load_prompt(path)  # an empty turn is one
        return
    with pytest.raises(LmstackError, match=re.escape(message)) as caught:
        load_prompt(path)
    assert caught.value.param == param
    assert str(path) in caught.value.message or "there is no file" in message
    assert hint is None or hint in str(caught.value.hint)


def test_links_do_not_lead_out_of_the_folder_either(write: Write, tmp_path: Path) -> None:
    secret = write('{"output": "secret"}', "outside/secret.jsonl")
    path = write(BODY.format("examples_file: link.jsonl", "x"), "inside/mood.md")
    (path.parent / "link.jsonl").symlink_to(secret)
    with pytest.raises(InputError, match="outside of the prompt's folder"):
        load_prompt(path)


def test_files_that_are_none_are_said_to_be(write: Write, tmp_path: Path) -> None:
    for path, kind, message in (
        (tmp_path / "no.md", NotFoundError, "there is no prompt"),
        (write("no front matter", "a.md"), FormatError, "has no front matter"),
        (write("---\na: b\n", "b.md"), FormatError, "has no front matter"),
        (write("x", "prompt.txt"), InputError, "is no prompt file"),
        (write("a", "a.yaml"), FormatError, "holds 'a', not settings"),
        (write("x" * ((1 << 20) + 1)), FormatError, "more than 1048576 bytes"),
        (tmp_path, InputError, "is no prompt file"),
    ):
        with pytest.raises(kind, match=message) as caught:
            load_prompt(path)
        assert caught.value.param == ("prompt" if kind is InputError else None)
    binary = tmp_path / "c.md"
    binary.write_bytes(b"---\n\xff")
    with pytest.raises(FormatError, match=r"not UTF-8 text \(byte 4\)"):
        load_prompt(binary)
    folder = tmp_path / "folder.md"
    folder.mkdir()
    with pytest.raises(StoreError):
        load_prompt(folder)


@pytest.mark.parametrize("row", [{"a": "b"}, ["output"], {"output": 3}, {"output": None}])
def test_a_row_that_is_no_example_is_one_of_the_examples(row: Any) -> None:
    with pytest.raises(InputError, match="row 7", check=about("examples")):
        example_of(row, "row 7")


def test_lines_of_examples_say_where_they_are_wrong(write: Write) -> None:
    path = write(BODY.format("examples_file: shots.jsonl", "x"))
    for text, message in (
        ('{"output": "a"}\n{"output"', "shots.jsonl:2 is not JSON"),
        ('["a"]', "shots.jsonl:1 holds ['a'], not an object"),
        ('{"output": "a", "output": "b"}', "the name 'output' is twice"),
    ):
        write(text, "shots.jsonl")
        with pytest.raises(FormatError, match=re.escape(message)):
            load_prompt(path)


def test_an_output_that_is_json_is_shown_as_json(write: Write) -> None:
    write('{"output": {"a": "é"}}\n', "shots.jsonl")
    prompt = load_prompt(write(BODY.format("examples_file: shots.jsonl", "x")))
    assert prompt.template().fill().messages[1].content == '{"a": "é"}'


def test_nearest_examples_need_an_embedder(write: Write) -> None:
    write(SHOTS, "shots.jsonl")
    text = YAML + "choose: nearest\nshots: 1\nembedder: all-minilm-l6-v2\n"
    prompt = load_prompt(write(text, "near.yaml"))
    with pytest.raises(InputError, match="has no embedder", check=about("embedder")):
        prompt.template()
    template = prompt.template(HashEmbedder())
    said = [m.content for m in template.fill(review="Great. Really").messages]
    assert said[2] == "positive"
    assert len(said) == 4
    fixed = load_prompt(write(YAML, "fixed.yaml"))
    assert prompt.digest != fixed.digest


def test_what_the_file_does_not_state_the_model_does(write: Write) -> None:
    info = ModelInfo("m", default_sampling={"temperature": 0.2, "top_k": 40, "max_tokens": 99})
    prompt = load_prompt(write(BODY.format("sampling: {max_tokens: 5}", "x")))
    sampling = prompt.sampling_for(info)
    assert (sampling.temperature, sampling.top_k, sampling.max_tokens) == (0.2, 40, 5)
    prompt = load_prompt(write(BODY.format("sampling: {temperature: 0.9}", "x")))
    sampling = prompt.sampling_for(info)
    assert (sampling.temperature, sampling.top_k, sampling.max_tokens) == (0.9, 0, None)


def test_a_file_with_a_search_of_its_own_takes_no_defaults_of_the_model(
    write: Write,
) -> None:
    info = ModelInfo("m", default_sampling={"top_p": 0.5})
    prompt = load_prompt(write(BODY.format("sampling: {num_beams: 2}", "x")))
    assert prompt.sampling_for(info).top_p == 1
    assert load_prompt(write(BODY.format("description: x", "x"))).sampling_for(info).top_p == 0.5


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "user", "text": "x", "name": "y"},
        {"role": "user"},
        {"role": "tool", "text": "x"},
        "x",
    ],
)
def test_a_turn_is_a_role_and_a_text_and_nothing_else(write: Write, turn: Any) -> None:
    path = write(json.dumps({"turns": [turn, {"role": "user", "text": "x"}]}), "mood.yaml")
    with pytest.raises(InputError, match="a turn is") as caught:
        load_prompt(path)
    assert caught.value.param == "turns"
    assert "roles are system, user, assistant" in str(caught.value.hint)


def test_the_label_and_the_reasoning_of_an_example_are_no_variables(write: Write) -> None:
    row = "{a: x, output: y, reasoning: since, label: z}"
    prompt = load_prompt(write(BODY.format(f"variables: {{a: }}\nexamples: [{row}]", "{{a}}")))
    [example] = prompt.examples
    assert (example.values, example.output) == ({"a": "x"}, "y")
    assert (example.reasoning, example.label) == ("since", "z")
    none = row.replace("since", "null").replace("z}", "null}")
    prompt = load_prompt(write(BODY.format(f"variables: {{a: }}\nexamples: [{none}]", "{{a}}")))
    assert (prompt.examples[0].reasoning, prompt.examples[0].label) == ("", None)


NEAR = "choose: nearest\nexamples: [{output: y}]\n"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("samples: 2", "samples: 3"),
        ("schema: {type: object}", "schema: {type: array}"),
        ("pattern: a", "pattern: b"),
        (f"{NEAR}shots: 2", f"{NEAR}shots: 3"),
        (f"{NEAR}balanced: true", f"{NEAR}balanced: false"),
        (f"{NEAR}embedder: a", f"{NEAR}embedder: b"),
        ("examples: [{output: y}]", "examples: [{output: y, label: b}]"),
        ("thinking: true", "thinking: {marker: 'So:'}"),
        ("sampling: {temperature: 1}", "sampling: {temperature: 1.5}"),
        ("sampling: {temperature: 1}", "sampling: {top_p: 1}"),
    ],
)
def test_each_setting_counts_in_the_version(write: Write, one: str, other: str) -> None:
    digests = [load_prompt(write(BODY.format(each, "x"))).digest for each in (one, other, one)]
    assert digests[0] == digests[2] != digests[1]


def test_nearest_examples_are_four_and_take_turns_unless_the_file_says_otherwise(
    write: Write,
) -> None:
    prompt = load_prompt(write(BODY.format(NEAR, "x")))
    assert (prompt.shots, prompt.balanced) == (4, True)
    assert load_prompt(write(BODY.format("examples: [{output: y}]", "x"))).shots is None


def names(found: list[PromptFile]) -> list[str]:
    return [prompt.name for prompt in found]


def test_a_folder_lists_prompts_and_what_is_wrong_with_others(write: Write, tmp_path: Path) -> None:
    write(MARKDOWN, "b.md")
    write("turns: [{role: user, text: hi}]", "a.yml")
    write("# About these prompts", "README.md")
    write("turns: {", "broken.yaml")
    write("---\nnonsense: 1\n---\nx", "odd.md")
    write("x", "notes.txt")
    found, broken = PromptFolder(tmp_path).read()
    assert names(found) == ["a", "b"]
    assert [(each.path.name, type(each.error)) for each in broken] == [
        ("broken.yaml", FormatError),
        ("odd.md", InputError),
    ]
    with pytest.raises(NotFoundError, match="there is no folder", check=about("prompts")):
        PromptFolder(tmp_path / "no").read()


def test_a_folder_that_is_called_like_a_prompt_is_a_broken_one(tmp_path: Path) -> None:
    (tmp_path / "a.md").mkdir()
    found, [broken] = PromptFolder(tmp_path).read()
    assert (found, broken.path, type(broken.error)) == ([], tmp_path / "a.md", StoreError)


def test_a_folder_that_cannot_be_read_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"reading .*file"):
        PromptFolder(tmp_path / "file").read()


@pytest.mark.parametrize(("text", "said"), [("{", "is not JSON"), ("[1]", "not a JSON Schema")])
def test_a_file_without_a_schema_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "s.json").write_text(text)
    (tmp_path / "p.yaml").write_text("turns: [{user: x}]\nschema_file: s.json\n")
    with pytest.raises(FormatError, match=rf"s\.json.*{said}"):
        load_prompt(tmp_path / "p.yaml")


def test_a_name_a_version_and_a_path_find_a_prompt(write: Write, tmp_path: Path) -> None:
    folder = PromptFolder(tmp_path)
    write(MARKDOWN)
    write(MARKDOWN.replace("You read", "Read").replace("---\n", "---\nname: mood\n", 1), "new.md")
    one, other = load_prompt(tmp_path / "mood.md"), load_prompt(tmp_path / "new.md")
    assert folder.find(one.version).path == one.path
    assert folder.find(other.version).path == other.path
    assert folder.find("new.md").path == other.path
    assert folder.find(str(tmp_path / "mood.md")).path == one.path
    with pytest.raises(InputError, match="has several versions", check=about("prompt")) as caught:
        folder.find("mood")
    assert one.version in caught.value.message
    assert other.version in caught.value.message
    with pytest.raises(
        NotFoundError, match="there is no prompt 'mood@zzz'", check=about("prompt")
    ) as missing:
        folder.find("mood@zzz")
    assert str(missing.value.hint).startswith("its versions: ")
    with pytest.raises(NotFoundError, check=about("prompt")) as missing:
        folder.find("modd")
    assert missing.value.hint == "did you mean 'mood'?"
    write("turns: {", "broken.yaml")
    with pytest.raises(FormatError, match="is not YAML"):
        folder.find("broken")


def test_what_finds_no_prompt_says_which_there_are(write: Write, tmp_path: Path) -> None:
    folder = PromptFolder(tmp_path)
    for place, hint in ((None, "prompts there: none"), ("mood.md", "prompts there: mood")):
        if place is not None:
            write(MARKDOWN, place)
        with pytest.raises(NotFoundError, match="there is no prompt 'qqqqqq'") as caught:
            folder.find("qqqqqq")
        assert (caught.value.hint, caught.value.param) == (hint, "prompt")
    write(MARKDOWN.replace("You read", "Read").replace("---\n", "---\nname: mood\n", 1), "new.md")
    with pytest.raises(InputError, match="has several versions") as several:
        folder.find("mood")
    assert several.value.param == "prompt"
    with pytest.raises(NotFoundError) as caught:
        PromptFolder(tmp_path / "none").read()
    assert caught.value.param == "prompts"


def test_a_file_here_comes_before_one_of_the_folder(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = write(MARKDOWN, "in/mood.md")
    monkeypatch.chdir(tmp_path)
    assert PromptFolder("in").find("mood.md").path == inside.relative_to(tmp_path)
    write(MARKDOWN, "mood.md")
    assert PromptFolder("in").find("mood.md").path == Path("mood.md")
    with pytest.raises(NotFoundError, match=r"there is no prompt none\.md"):
        PromptFolder("in").find("none.md")


def test_a_mark_of_the_byte_order_and_spaces_after_the_lines_change_nothing(
    write: Write, tmp_path: Path
) -> None:
    spaced = MARKDOWN.replace("---\n", f"---{' ' * 20}\n").replace("user:\n", "user: \t\n")
    write("\ufeff" + spaced, "other.md")
    [prompt] = PromptFolder(tmp_path).read()[0]
    assert prompt.digest == load_prompt(write(MARKDOWN)).digest


def test_two_turns_of_the_user_stay_two(write: Write) -> None:
    prompt = load_prompt(write(BODY.format("description: x", "one\n\nassistant:\nyes\nuser:\ntwo")))
    assert [(turn.role, turn.text) for turn in prompt.base.turns] == [
        ("user", "one"),
        ("assistant", "yes"),
        ("user", "two"),
    ]
    # Only lines that would be roles are escaped.
    [turn] = load_prompt(write(BODY.format("description: x", "\\users:\n\\alpha"))).base.turns
    assert turn.text == "\\users:\n\\alpha"


def test_a_copy_of_a_version_is_no_other_version(write: Write, tmp_path: Path) -> None:
    write(MARKDOWN.replace("---\n", "---\nname: mood\n", 1), "a.md")
    write(MARKDOWN)
    assert PromptFolder(tmp_path).find("mood").name == "mood"


def test_a_schema_may_stand_in_a_file(write: Write) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}
    write(json.dumps(schema), "a.json")
    inside = load_prompt(write(BODY.format(f"schema: {json.dumps(schema)}", "x")))
    beside = load_prompt(write(BODY.format("schema_file: a.json", "x"), "other.md"))
    assert inside.digest == beside.digest
