"""Results in the card of a model: merged beside what else is there, the digest untouched."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.app.page.evaluation_results import made_result

from lmstack.evals.model_results import TASKS, CardResult, record_result, results_of
from lmstack.evals.results import TaskResult
from lmstack.registry import ModelFolder, Store
from lmstack.registry.card import content_digest

MEASURED = {"form": "int8", "perplexity": 12.5, "tokens": 900}


@pytest.fixture
def model(home: Path) -> ModelFolder:
    """One in the store, of which nothing but the card is read."""
    folder = home / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    facts = {"config.json": {"sha256": hashlib.sha256(b"{}").hexdigest(), "size": 2}}
    card = {
        "name": "tiny",
        "kind": "generate",
        "digest": content_digest(facts),  # type: ignore[arg-type]
        "licence": "none",
        "source": "made",
        "files": facts,
        "created": "",
        "evaluation": MEASURED,
    }
    (folder / "card.json").write_text(json.dumps(card))
    return ModelFolder.read(folder)


def result_for(model: ModelFolder, task: str = "t", form: str = "", **more: Any) -> TaskResult:
    given = {"samples": 8, "subject_digest": model.digest + form}
    return made_result(task, model.name, 0.2, **(given | more))


def test_a_result_is_added_beside_what_was_measured_and_the_digest_stays(
    model: ModelFolder,
) -> None:
    result = result_for(model)
    found = record_result("tiny", result)
    assert found is not None
    again = Store().verify("tiny")
    assert again.digest == model.digest
    assert {k: v for k, v in again.card.evaluation.items() if k != TASKS} == MEASURED
    [entry] = results_of(again.card)
    figure = result.figures()["acc"]
    assert (entry.value, entry.low, entry.high) == (figure.value, figure.low, figure.high)
    assert (entry.result, entry.data, entry.date) == (
        result.digest,
        result.dataset_digest,
        result.date,
    )
    assert entry.protocol.startswith("sha256:")
    assert [path.name for path in model.path.iterdir() if path.name.startswith(".")] == []


def test_the_same_question_again_takes_the_former_place_and_others_do_not(
    model: ModelFolder,
) -> None:
    first = result_for(model)
    later = replace(first, date="2026-12-01T00:00:00+00:00")
    part = result_for(model, samples=3, of=8)
    others = [result_for(model, "u"), result_for(model, form="+int8"), part]
    for each in (first, *others, later):
        record_result("tiny", each)
    found = results_of(Store().resolve("tiny").card)
    assert [(e.task, e.form, e.samples, e.is_partial) for e in found] == [
        ("t", "", 3, True),
        ("t", "", 8, False),
        ("t", "int8", 8, False),
        ("u", "", 8, False),
    ]
    assert found[1].date == later.date
    assert found[0].counted == "the first 3 of 8 samples"


def test_two_at_once_lose_nothing(model: ModelFolder) -> None:
    results = [result_for(model, f"t{n}") for n in range(12)]
    threads = [threading.Thread(target=record_result, args=("tiny", each)) for each in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results_of(Store().resolve("tiny").card)) == len(results)


def test_what_is_not_the_models_is_not_in_its_card(model: ModelFolder, tmp_path: Path) -> None:
    before = (model.path / "card.json").read_bytes()
    result = result_for(model)
    assert record_result("tiny", replace(result, subject_digest="sha256:" + "0" * 64)) is None
    assert record_result("openai:tiny", result) is None
    assert record_result("nowhere", result) is None
    outside = tmp_path / "outside"
    outside.mkdir()
    for path in model.path.iterdir():
        (outside / path.name).write_bytes(path.read_bytes())
    assert record_result(str(outside), result) is None
    assert (model.path / "card.json").read_bytes() == before


@pytest.mark.parametrize("damaged", [None, 5, "x", [1], [{"task": "t"}], {"a": 1}])
def test_a_card_that_was_edited_by_hand_has_no_results_and_takes_new_ones(
    model: ModelFolder, damaged: Any
) -> None:
    path = model.path / "card.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps({**card, "evaluation": {TASKS: damaged}}))
    assert results_of(Store().resolve("tiny").card) == []
    record_result("tiny", result_for(model))
    assert len(results_of(Store().resolve("tiny").card)) == 1


def test_an_entry_survives_the_card(model: ModelFolder) -> None:
    entry = CardResult.of_result(result_for(model, failed=range(8)))
    assert (entry.value, entry.failed, entry.figure, entry.interval) == (None, 8, "-", "")
    assert CardResult.from_json(json.loads(json.dumps(entry.to_json()))) == entry
