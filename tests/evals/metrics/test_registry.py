"""Scorers by name: each has a whole protocol, and its metrics are of scores that it gives."""

from __future__ import annotations

import asyncio
import inspect
import json
from dataclasses import replace

import numpy as np
import pytest
from tests.errors import about
from tests.evals.metrics.outputs import asked, likely, wrote
from tests.evals.metrics.test_bertscore import ENCODER, HashedEncoder

from lmstack.core import InputError
from lmstack.evals.metrics import (
    SCORERS,
    BertScore,
    CitedGold,
    ExactMatch,
    PassAtK,
    make_scorer,
    scorer_names,
)
from lmstack.evals.metrics.bertscore import token_idf
from lmstack.evals.metrics.calibration import calibration_metrics
from lmstack.evals.metrics.scoring import average, best_of, of_each, places, share

NEEDED = {"extracted_match": {"strict": "x", "lenient": "x"}}
KNOWN = CitedGold(answerable=True, parts=(("the answer",),), sources=("a.md",))
SAMPLE = asked("the answer", choices=("yes", "no"), gold=(0,), metadata={"gold": KNOWN.to_json()})
CITED = {"abstained": False, "confidence": None, "passages": [], "citations": [], "evidence": []}
FACTS = {
    "passed": [True, False],
    "ranking": ["the answer"],
    **CITED,
    "read": 5,
    "end": "answered",
    "steps": 1,
    "calls": [],
}
OUTPUT = likely(-1.0, -2.0, facts=FACTS)


@pytest.mark.parametrize("name", SCORERS)
def test_a_protocol_is_json_with_name_version_and_all_parameters(name: str) -> None:
    scorer = make_scorer({"name": name, **NEEDED.get(name, {})})
    protocol = json.loads(json.dumps(scorer.protocol))
    assert protocol["name"] == name
    assert protocol["version"] >= 1
    assert set(inspect.signature(SCORERS[name]).parameters) <= set(protocol)


@pytest.mark.parametrize("name", SCORERS)
def test_metrics_are_of_scores_that_are_given(name: str) -> None:
    scorer = make_scorer({"name": name, **NEEDED.get(name, {})})
    sample = replace(SAMPLE, targets=('"the answer"',)) if name == "json" else SAMPLE
    scores = asyncio.run(scorer(sample, OUTPUT))
    assert scorer.metrics
    for metric in scorer.metrics:
        assert set(metric.columns) <= set(scores), metric.name
    names = [metric.name for metric in scorer.metrics]
    assert len(set(names)) == len(names)


def test_confidence_of_multiple_choice_is_what_calibration_reads() -> None:
    scores = asyncio.run(make_scorer("multiple_choice")(SAMPLE, OUTPUT))
    assert all(set(metric.columns) <= set(scores) for metric in calibration_metrics())


def test_parameters_are_those_of_yaml() -> None:
    assert make_scorer("exact_match") == ExactMatch()
    assert make_scorer({"name": "pass_at_k", "k": [10, 1]}) == PassAtK((1, 10))
    found = make_scorer({"name": "exact_match", "regexes_to_ignore": [","]})
    assert found == ExactMatch(regexes_to_ignore=(",",))


def test_several_scorers_stand_side_by_side() -> None:
    both = make_scorer(["squad", {"name": "usage", "price": {"input": 1}}])
    scores = asyncio.run(both(SAMPLE, wrote("answer", seconds=2.0)))
    assert {"f1", "seconds"} <= set(scores)
    assert [each["name"] for each in both.protocol["scorers"]] == ["squad", "usage"]
    assert {"f1", "median_seconds"} <= {metric.name for metric in both.metrics}
    with pytest.raises(InputError, match="two scorers of one task", check=about("scorer")):
        asyncio.run(make_scorer(["squad", "squad"])(SAMPLE, wrote("x")))


def test_bert_score_needs_an_encoder() -> None:
    with pytest.raises(InputError, match="no encoder", check=about("scorer")):
        make_scorer("bert_score")
    asked_for = []

    def opened(model: str | None, layer: int | None) -> HashedEncoder:
        asked_for.append((model, layer))
        return ENCODER

    plain = make_scorer({"name": "bert_score", "baseline": [0.1, 0.1, 0.1]}, encoder=opened)
    assert plain == BertScore(ENCODER, None, (0.1, 0.1, 0.1))
    weighted = make_scorer({"name": "bert_score", "idf": True}, encoder=opened, samples=[SAMPLE])
    assert "idf[" in weighted.protocol["signature"]
    make_scorer({"name": "bert_score", "model": "tiny", "layer": 3}, encoder=opened)
    assert asked_for == [(None, None), (None, None), ("tiny", 3)]
    for name, wrong in (("model", 3), ("layer", "3"), ("layers", 3)):
        with pytest.raises(InputError, match=name, check=about("layer", "layers", "model")):
            make_scorer({"name": "bert_score", name: wrong}, encoder=opened)
    assert "bert_score" in scorer_names()


@pytest.mark.parametrize(
    ("wanted", "said", "hint"),
    [
        ("exact_mach", "there is no scorer 'exact_mach'", "did you mean 'exact_match'?"),
        (
            {"name": "exact_match", "ignorecase": True},
            "no setting 'ignorecase'",
            "did you mean 'ignore_case'?",
        ),
        (
            {"name": "bert_score", "idff": True},
            "bert_score has no setting 'idff'",
            "known: model, layer, idf, baseline",
        ),
        ({"k": 1}, "the scorer {'k': 1} has no name", "write name: and one of"),
        ([], "the scorer is [], not", "known: "),
        (7, "the scorer is 7, not", "known: "),
    ],
)
def test_what_is_unknown_names_the_nearest(wanted: object, said: str, hint: str) -> None:
    with pytest.raises(InputError, check=about("idff", "ignorecase", "scorer")) as error:
        make_scorer(wanted)
    assert (error.value.hint or "").startswith(hint)
    assert said in error.value.message


@pytest.mark.parametrize("values", ["1", [], 1.5, {"a": 1}])
def test_places_are_a_list_of_numbers(values: object) -> None:
    with pytest.raises(InputError, match=r"ks is .* not a list", check=about("ks")):
        places("ks", values)


@pytest.mark.parametrize("value", [0, -1, 10_001, True, "a"])
def test_each_place_is_a_number_from_one(value: object) -> None:
    with pytest.raises(InputError, match="ks", check=about("ks")):
        places("ks", [1, value])
    assert places("ks", [10_000, 1, 1]) == (1, 10_000)
    assert places("ks", 3) == (3,)
    assert places("ks", [5], 5) == (5,)
    with pytest.raises(InputError, check=about("ks")):
        places("ks", 6, 5)


def test_figures_of_many_tables_have_the_shape_of_the_tables() -> None:
    rows = np.arange(24.0).reshape(2, 3, 2, 2)
    found = of_each(rows, lambda table: float(table.sum()))
    assert (found == rows.sum((-1, -2))).all()
    assert of_each(rows[0, 0], lambda table: 3.0).shape == ()
    plain, part = average("a"), share("b")
    assert (plain.better, plain.decimals, plain.is_share) == ("higher", 3, False)
    assert (part.better, part.is_share, part.columns) == ("higher", True, ("b",))
    assert (average("a", "lower", 1).better, share("b", "lower").better) == ("lower", "lower")
    assert best_of(lambda text, target: float(len(target)), "x", ["aa", "a"]) == 2.0


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"model": 3}, "model"),
        ({"layer": "x"}, "layer"),
        ({"layer": True}, "layer"),
        ({"idf": 1}, "idf"),
        ({"baseline": "abc"}, "baseline"),
        ({"baseline": 0.5}, "baseline"),
        ({"modl": "x"}, "modl"),
    ],
)
def test_settings_of_bert_score_are_checked(more: dict[str, object], param: str) -> None:
    with pytest.raises(InputError, check=about(param)):
        make_scorer({"name": "bert_score", **more}, encoder=lambda *_: ENCODER)
    with pytest.raises(InputError, match="no encoder", check=about("scorer")):
        make_scorer("bert_score")


def test_settings_of_bert_score_reach_it() -> None:
    opened: list[tuple[object, ...]] = []

    def encoder(*wanted: object) -> HashedEncoder:
        opened.append(wanted)
        return ENCODER

    samples = [asked("a b"), asked("a c")]
    plain = make_scorer("bert_score", encoder=encoder, samples=samples)
    assert (plain.idf, plain.baseline) == (None, None)  # type: ignore[union-attr]
    chosen = {"name": "bert_score", "model": "m", "layer": 3, "idf": True, "baseline": [0.1] * 3}
    found = make_scorer([chosen], encoder=encoder, samples=samples).scorers[0]  # type: ignore[union-attr]
    assert found.baseline == (0.1, 0.1, 0.1)
    assert found.idf == token_idf(ENCODER.token_vectors(["a b", "a c"]))
    assert opened == [(None, None), ("m", 3)]


@pytest.mark.parametrize("wanted", [{}, {"name": 3}, {"file": 3}, [], 3, {"k": 1}])
def test_a_scorer_without_a_name_is_refused(wanted: object) -> None:
    with pytest.raises(InputError, check=about("scorer")):
        make_scorer(wanted)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no scorer 'zzzzzz'", check=about("scorer")) as error:
        make_scorer("zzzzzz")
    assert error.value.hint is not None
    assert error.value.hint.startswith("known: agent_run, bert_score, bleu")
