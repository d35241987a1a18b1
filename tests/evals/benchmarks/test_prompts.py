"""A prompt is its template filled in, and its protocol changes with whatever changes it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.errors import about

from lmstack.core import FormatError, InputError
from lmstack.evals.benchmarks.prompts import FewShot, yaml_shots
from lmstack.evals.dataset import Sample

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
