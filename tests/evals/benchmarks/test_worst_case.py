"""The worse of a sample as it is and perturbed counts."""

from __future__ import annotations

import asyncio
import json
import math

import pytest
from tests.errors import about
from tests.evals.benchmarks.models import chat_subject, output_of, replying, scores_of

from lmstack.core import InputError, Likelihood, Request, ScriptedModel
from lmstack.evals.benchmarks.perturb import lowercase
from lmstack.evals.benchmarks.prompts import FewShot
from lmstack.evals.benchmarks.solvers import GenerationSolver, LetterScorer
from lmstack.evals.benchmarks.worst_case import (
    _PERTURBED,
    WorstCaseScorer,
    _to_json,
    perturbed_outputs,
    plain_output,
    worse_of,
    worst_case,
)
from lmstack.evals.metrics import ExactMatch
from lmstack.evals.task import Dataset, Metric, ModelOutput, Sample, Task

SAMPLES = (
    Sample("upper", "Is It?", ("yes",)),
    Sample("lower", "is it?", ("yes",)),
)
TASK = Task(
    "words",
    Dataset("words", SAMPLES, "s"),
    GenerationSolver(FewShot("{question}")),
    ExactMatch(),
    (*ExactMatch().metrics, Metric("pair", ("exact_match", "exact_match"))),
)
WORST = worst_case(TASK, lowercase())


def yes_to(*prompts: str) -> ScriptedModel:
    def reply(request: Request) -> str:
        return "yes" if request.prompt in prompts else "no"

    return ScriptedModel([reply])


@pytest.mark.parametrize(
    ("known", "before", "perturbed"),
    [
        (("Is It?",), 1, 0),
        (("is it?",), 0, 1),
        (("Is It?", "is it?"), 1, 1),
        ((), 0, 0),
    ],
)
def test_the_minimum_counts_beside_both(
    known: tuple[str, ...], before: float, perturbed: float
) -> None:
    output = output_of(WORST, chat_subject(yes_to(*known)))
    scores = scores_of(WORST, SAMPLES[0], output)
    assert scores["exact_match"] == min(before, perturbed)
    assert (scores["before_exact_match"], scores["perturbed_exact_match"]) == (before, perturbed)


def test_a_text_with_nothing_to_change_is_asked_once() -> None:
    model = yes_to("is it?")
    output = output_of(WORST, chat_subject(model), 1)
    assert len(model.requests) == 1
    assert scores_of(WORST, SAMPLES[1], output)["exact_match"] == 1


def test_what_both_cost_is_counted_and_the_output_is_json() -> None:
    model = yes_to("Is It?")
    output = output_of(WORST, chat_subject(model))
    assert output.completion_tokens == 2
    again = ModelOutput(output.text, facts=json.loads(json.dumps(dict(output.facts))))
    assert scores_of(WORST, SAMPLES[0], again) == scores_of(WORST, SAMPLES[0], output)


def test_each_metric_has_its_twin_before_and_figures_of_several_columns_go() -> None:
    assert [metric.name for metric in WORST.metrics] == ["exact_match", "before_exact_match"]
    assert WORST.protocol["solver"]["perturbations"][0]["name"] == "lowercase"
    assert WORST.name == "words_lowercase"


def test_an_output_without_its_perturbed_twin_is_an_error() -> None:
    with pytest.raises(InputError, match="perturbed", check=about("facts")):
        asyncio.run(WORST.scorer(SAMPLES[0], ModelOutput("yes")))


def test_a_task_without_a_mean_is_refused() -> None:
    figures = (Metric("pair", ("a", "b")),)
    task = Task("t", TASK.dataset, TASK.solver, LetterScorer("(A)"), figures)
    with pytest.raises(InputError, match="no metric", check=about("task")):
        worst_case(task, lowercase())


def test_where_lower_is_better_the_maximum_counts() -> None:
    metric = Metric("exact_match", ("exact_match",), better="lower")
    task = worst_case(Task("t", TASK.dataset, TASK.solver, TASK.scorer, (metric,)), lowercase())
    output = output_of(task, chat_subject(replying("yes", "no")))
    assert scores_of(task, SAMPLES[0], output)["exact_match"] == 1


@pytest.mark.parametrize(
    ("values", "better", "worse"),
    [((1.0, 2.0), "higher", 1.0), ((1.0, 2.0), "lower", 2.0), ((1.0, math.nan), "lower", math.nan)],
)
def test_the_worse_of_two_scores(values: tuple[float, float], better: str, worse: float) -> None:
    assert worse_of(values, better) == pytest.approx(worse, nan_ok=True)


def test_what_each_of_the_two_took_and_whether_scores_cost() -> None:
    output = output_of(WORST, chat_subject(yes_to("Is It?")))
    plain, alone = plain_output(output), output_of(TASK, chat_subject(yes_to("Is It?")))
    assert (plain.prompt_tokens, plain.completion_tokens) == (
        alone.prompt_tokens,
        alone.completion_tokens,
    )
    assert output.prompt_tokens == 2 * alone.prompt_tokens
    assert 0 <= plain.seconds <= output.seconds < 60
    other = perturbed_outputs(SAMPLES[0], output)["lowercase"]
    assert (other.text, dict(other.facts)) == ("no", {})

    class Dear(ExactMatch):
        is_costly = True

    scorers = [WorstCaseScorer(each, {}) for each in (Dear(), ExactMatch())]
    assert [each.is_costly for each in scorers] == [True, False]
    likely = ModelOutput(
        "",
        (Likelihood(-1.5, 3, True),),
        facts={
            _PERTURBED: {
                "x": _to_json(ModelOutput("t", (Likelihood(-2.0, 2, False),), facts={"k": 1}))
            }
        },
    )
    assert perturbed_outputs(SAMPLES[0], likely) == {
        "x": ModelOutput("t", (Likelihood(-2.0, 2, False),), facts={"k": 1})
    }
