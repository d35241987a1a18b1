"""A prompt is its template filled in, and its protocol changes with whatever changes it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.errors import about

from lmstack.core import FormatError, InputError
from lmstack.evals.benchmarks.prompts import FewShot, yaml_shots
from lmstack.evals.task import Sample

SHOTS = tuple(Sample(f"s{n}", f"q{n}", (f"a{n}",)) for n in range(4))
PROMPT = FewShot("Q: {question}\nA:", header="H {topic}\n\n", count=3, shots={"": SHOTS})
ASKED = Sample("x", "why", ("because",), metadata={"topic": "T"})


def test_header_shots_and_question_come_in_this_order() -> None:
    assert PROMPT.text(ASKED, 2) == "H T\n\nQ: q0\nA: a0\n\nQ: q1\nA: a1\n\nQ: why\nA:"
    assert PROMPT.text(ASKED, 0) == "H T\n\nQ: why\nA:"
    assert PROMPT.text(ASKED) == PROMPT.text(ASKED, 3)


@given(st.text())
def test_braces_in_a_question_are_text(question: str) -> None:
    for text in (question, "{topic}", "{}", "{0}"):
        assert FewShot("{question}").text(Sample("x", text)) == text


def test_places_in_the_metadata_choose_the_shots() -> None:
    chosen = replace(ASKED, metadata={"topic": "T", "shots": [3, 1, 0]})
    assert [shot.id for shot in PROMPT.shots_of(chosen)] == ["s3", "s1", "s0"]


def test_a_group_has_its_own_shots_and_one_without_them_is_an_error() -> None:
    prompt = FewShot("{question}", count=1, shots={"one": SHOTS[:1], "two": SHOTS[1:2]})
    of_group = [Sample("x", "", metadata={"group": name}) for name in ("one", "two", "six")]
    assert [prompt.shots_of(each)[0].id for each in of_group[:2]] == ["s0", "s1"]
    with pytest.raises(InputError, match="six", check=about("shots")):
        prompt.shots_of(of_group[2])


@pytest.mark.parametrize(
    "change",
    [
        {"item": "{question}?"},
        {"header": "{topic}"},
        {"target": "{target}!"},
        {"delimiter": ""},
        {"between": "\n"},
        {"count": 2},
        {"shots": {"": SHOTS[::-1]}},
        {"shots": {"": (*SHOTS[:3], replace(SHOTS[3], metadata={"worked": "w"}))}},
        {"source": "elsewhere"},
    ],
)
def test_whatever_changes_a_prompt_changes_its_protocol(change: dict[str, object]) -> None:
    assert replace(PROMPT, **change).protocol != PROMPT.protocol  # type: ignore[arg-type]
    assert replace(PROMPT).protocol == PROMPT.protocol


@pytest.mark.parametrize("item", ["{missing}", "{choices[0]}", "{question[a]}", "{question.up}"])
def test_a_template_that_a_sample_does_not_fit_is_an_error(item: str) -> None:
    with pytest.raises(InputError, match="does not fit", check=about("prompt")):
        FewShot(item).text(ASKED)


def test_fewer_examples_than_shots_are_an_error() -> None:
    with pytest.raises(InputError, match="1 worked examples for 2 shots", check=about("shots")):
        FewShot("{question}", count=2, shots={"": SHOTS[:1]})


def test_worked_examples_are_read_from_a_task_file() -> None:
    text = b"task: t\nfewshot_config:\n  samples:\n  - question: q\n    target: w\n"
    (shot,) = yaml_shots(text)
    assert (shot.text, shot.metadata["worked"]) == ("q", "w")
    with pytest.raises(FormatError, match="no samples"):
        yaml_shots(b"task: t")


def test_whose_examples_they_are_is_a_part_of_the_protocol() -> None:
    one, two = SHOTS[:2], SHOTS[2:]
    prompt = FewShot("{question}", count=1, shots={"one": one, "two": two})
    dealt = replace(prompt, shots={"one": two, "two": one})
    assert prompt.protocol["shots"] != dealt.protocol["shots"]
    alike = replace(prompt, shots={"one": one, "two": one})  # with the same ids
    assert alike.protocol["shots"] != prompt.protocol["shots"]


def test_a_sample_of_a_group_without_examples_takes_those_of_all() -> None:
    prompt = FewShot("{question}", count=1, shots={"": SHOTS[:1], "two": SHOTS[1:2]})
    for group, shot in (("two", "s1"), ("six", "s0"), ("", "s0")):
        asked = replace(ASKED, metadata={"group": group})
        assert [each.id for each in prompt.shots_of(asked)] == [shot]
    chosen = replace(PROMPT, count=2)
    places = replace(ASKED, metadata={"topic": "T", "shots": [3, 1, 0]})
    assert [shot.id for shot in chosen.shots_of(places)] == ["s3", "s1"]
    assert [shot.id for shot in chosen.shots_of(ASKED)] == ["s0", "s1"]
    assert replace(PROMPT, count=0).shots_of(ASKED) == ()


def test_what_a_template_may_name() -> None:
    sample = Sample("x", "why", ("a", "b"), ("no", "yes"), (1,), metadata={"question": "?", "k": 1})
    text = FewShot("{question}|{choices[0]}|{target}|{letter}|{k}").text(sample)
    assert text == "why|no|a|B|1"
    bare = Sample("x", "why")
    for name in ("target", "letter"):
        with pytest.raises(InputError, match=name, check=about("prompt")) as error:
            FewShot(f"{{{name}}}").text(bare)
        assert error.value.hint == "it has choices, question, and 0 choices"


def test_shots_are_turns_where_they_are_asked_for() -> None:
    whole = PROMPT.messages(ASKED, 1)
    assert [(m.role, m.content) for m in whole] == [
        ("system", "H T\n\n"),
        ("user", "Q: q0\nA: a0\n\nQ: why\nA:"),
    ]
    turns = PROMPT.messages(ASKED, 1, shots_as_turns=True)
    assert [(m.role, m.content) for m in turns][1:] == [
        ("user", "Q: q0\nA:"),
        ("assistant", "a0"),
        ("user", "Q: why\nA:"),
    ]
    assert len(PROMPT.messages(ASKED, shots_as_turns=True)) == 8
    assert PROMPT.messages(ASKED) == PROMPT.messages(ASKED, 3)


def test_the_protocol_of_a_prompt_names_shots_where_there_are_some() -> None:
    bare = FewShot("{question}", header="H", source="s").protocol
    assert bare == {"header": "H", "item": "{question}", "num_shots": 0, "source": "s"}
    more = FewShot("{question}", count=4, shots={"": SHOTS}).protocol
    assert set(more) - set(bare) == {"target", "delimiter", "between", "shots", "when_too_long"}
    assert (more["target"], more["delimiter"], more["between"]) == ("{target}", " ", "\n\n")
    with pytest.raises(InputError, match="4 worked examples for 5 shots, of g"):
        FewShot("{question}", count=5, shots={"g": SHOTS})
    none = FewShot("{question}", count=1)
    with pytest.raises(InputError, match="no worked examples", check=about("shots")) as error:
        none.text(ASKED)
    assert error.value.hint == "there are those of none"


@pytest.mark.parametrize(
    ("row", "param"),
    [
        ({"target": "w"}, "question"),
        ({"question": "q"}, "target"),
        ({"input": 1, "target": "w"}, "input"),
    ],
)
def test_a_worked_example_without_a_field_is_named(row: dict[str, object], param: str) -> None:
    text = yaml.safe_dump({"fewshot_config": {"samples": [{"input": "q", "target": "w"}, row]}})
    with pytest.raises(InputError, match="worked example 2", check=about(param)):
        yaml_shots(text.encode())
    for none in ({"samples": []}, {"samples": {}}, []):
        with pytest.raises(FormatError, match="no samples under fewshot_config"):
            yaml_shots(yaml.safe_dump({"fewshot_config": none}).encode())


def test_worked_examples_have_ids_and_either_field() -> None:
    rows = [{"input": "a", "question": "b", "target": "w"}, {"question": "c", "target": "v"}]
    found = yaml_shots(yaml.safe_dump({"fewshot_config": {"samples": rows}}).encode())
    assert [(s.id, s.input, dict(s.metadata)) for s in found] == [
        ("shot/0", "a", {"worked": "w"}),
        ("shot/1", "c", {"worked": "v"}),
    ]
