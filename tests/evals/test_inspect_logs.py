"""inspect_ai's log: documents written by hand in its format, and ours there and back."""

from __future__ import annotations

import json
import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from tests.evals.tasks import ACCURACY, scripted, sums, task_of
from tests.evals.test_results import LENGTH, result_of, rows_with

from lmstack.core import FormatError, NotFoundError, StoreError
from lmstack.evals.inspect_logs import (
    field_of,
    from_inspect,
    read_inspect_log,
    to_inspect,
    write_inspect_log,
)
from lmstack.evals.results import ANSWER_CHARS, SampleResult
from lmstack.evals.run import run
from lmstack.evals.task import Dataset, Sample
from lmstack.evals.task_comparison import compare_results

USAGE = {"mock/model": {"input_tokens": 11, "output_tokens": 3, "total_tokens": 14}}


def test_a_log_has_the_name_that_inspect_gives_it(tmp_path: Path) -> None:
    result = result_of(rows_with([1.0]), task="a/b")
    digest = result.digest.removeprefix("sha256:")[:8]
    path = write_inspect_log(result, tmp_path)
    assert path == tmp_path / f"2026-01-02T03-04-05+00-00_a_b_{digest}.json"
    assert read_inspect_log(str(path)).samples[0].scores == result.samples[0].scores


def logged(number: int, value: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "epoch": 1,
        "input": [{"id": f"random-{value}", "role": "user", "content": f"Question {number}?"}],
        "target": "4",
        "messages": [],
        "output": {
            "model": "mock/model",
            "choices": [
                {
                    "message": {
                        "role": "assistant",
                        "content": [
                            {"type": "reasoning", "reasoning": "..."},
                            {"type": "text", "text": f"answer {number}"},
                        ],
                    },
                    "stop_reason": "max_tokens",
                }
            ],
        },
        "scores": {"match": {"value": value, "answer": "4"}},
        "metadata": {},
        "model_usage": USAGE,
        "total_time": 1.5,
        **more,
    }


def log_of(*samples: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "run_id": "r",
            "created": "2026-01-02T03:04:05+00:00",
            "task": "sums",
            "task_id": "t",
            "task_version": 3,
            "task_args": {"level": 2},
            "dataset": {"name": "sums", "location": "sums.csv", "samples": len(samples)},
            "model": "mock/model",
            "config": {"epochs": 1},
            "packages": {"inspect_ai": "0.3.200"},
            "scorers": [{"name": "match"}],
        },
        "plan": {
            "name": "plan",
            "steps": [{"solver": "generate", "params": {}}],
            "config": {"temperature": 0.0},
        },
        "results": {"total_samples": len(samples), "completed_samples": len(samples), "scores": []},
        "stats": {"started_at": "", "completed_at": "", "model_usage": USAGE},
        "samples": list(samples),
        **more,
    }


def test_a_log_is_read_as_a_result() -> None:
    result = from_inspect(log_of(logged(1, "C"), logged(2, "I"), logged(3, "P")))
    assert (result.task, result.version, result.subject) == ("sums", 3, "mock/model")
    assert [row.scores for row in result.samples] == [{"match": v} for v in (1.0, 0.0, 0.5)]
    assert result.figures()["match"].value == 0.5
    row = result.samples[0]
    assert (row.id, row.answer, row.finish_reason) == ("1", "answer 1", "length")
    assert (row.prompt_tokens, row.completion_tokens, row.seconds) == (11, 3, 1.5)
    assert result.protocol == {
        "imported_from": "inspect_ai",
        "task": "sums",
        "version": 3,
        "arguments": {"level": 2},
        "solver": [{"solver": "generate", "params": {}}],
        "config": {"temperature": 0.0},
        "scorers": [{"name": "match"}],
        "epochs": 1,
    }
    assert (result.dataset, result.source, result.dataset_samples) == ("sums", "sums.csv", 3)
    assert (result.subject_digest, result.date) == ("name:mock/model", "2026-01-02T03:04:05+00:00")
    assert result.versions == {"inspect_ai": "0.3.200"}
    assert result.is_complete


def test_what_a_log_leaves_out_is_unknown() -> None:
    log = log_of({"id": "a", "scores": {"match": True, "other": 2}})
    log["eval"] = {
        "created": "then",
        "task": "sums",
        "task_version": "1.2-beta",
        "dataset": {},
        "model": "m",
    }
    del log["plan"]
    result = from_inspect(log)
    assert (result.dataset, result.source, result.dataset_samples) == ("dataset", "unknown", 1)
    assert (result.version, result.versions) == (0, {})
    assert result.protocol == {
        "imported_from": "inspect_ai",
        "task": "sums",
        "version": "1.2-beta",
        "arguments": None,
        "solver": None,
        "config": None,
        "scorers": None,
        "epochs": 1,
    }
    scores = {"match": 1.0, "other": 2.0}
    assert result.samples == (SampleResult("a", scores=scores),)
    assert [metric.is_share for metric in result.metrics] == [True, False]


def test_tokens_are_those_of_all_models_and_a_cluster_is_that_of_the_metadata() -> None:
    usage = {"a": {"input_tokens": 1, "output_tokens": 10}, "b": {"input_tokens": 2}}
    sample = logged(1, "C", model_usage=usage, metadata={"cluster": "passage"})
    sample["output"]["choices"][0].update(message={"content": "one"}, stop_reason="stop")
    [row] = from_inspect(log_of(sample)).samples
    assert (row.prompt_tokens, row.completion_tokens, row.cluster) == (3, 10, "passage")
    assert (row.answer, row.finish_reason) == ("one", "stop")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *(("C", 1.0), ("I", 0.0), ("P", 0.5), ("N", 0.0), ("Yes", 1.0), ("false", 0.0)),
        *(("2.5", 2.5), (True, 1.0), (3, 3.0), (0.25, 0.25)),
    ],
)
def test_values_are_as_inspect_sees_them(value: Any, number: float) -> None:
    assert from_inspect(log_of(logged(1, value))).samples[0].scores == {"match": number}


def test_a_value_of_several_has_a_column_for_each() -> None:
    value = {"precision": 0.5, "recall": None}
    scores = from_inspect(log_of(logged(1, value))).samples[0].scores
    assert scores["match.precision"] == 0.5
    assert math.isnan(scores["match.recall"])
    assert from_inspect(log_of(logged(1, [1, 0]))).samples[0].scores == {
        "match.0": 1.0,
        "match.1": 0.0,
    }


def test_a_value_that_is_no_number_is_refused() -> None:
    with pytest.raises(FormatError, match="match is 'good', which is no number"):
        from_inspect(log_of(logged(1, "good")))


def test_an_error_and_a_missing_score_are_failures() -> None:
    error = {"message": "timeout", "traceback": "...", "traceback_ansi": "..."}
    samples = [
        logged(1, "C"),
        logged(2, "C", error=error),
        logged(3, "C", scores=None),
        logged(4, "C", error={"traceback": "..."}),
    ]
    rows = from_inspect(log_of(*samples)).samples
    assert [row.failed for row in rows] == ["", "timeout", "not scored", "an error"]
    assert [row.scores for row in rows] == [{"match": 1.0}, {}, {}, {}]


def test_a_log_that_was_cut_is_not_complete() -> None:
    log = log_of(logged(1, "C"), status="cancelled")
    log["eval"]["dataset"]["samples"] = 10
    assert not from_inspect(log).is_complete


def test_epochs_of_a_sample_are_a_cluster() -> None:
    log = log_of(*(logged(n, "C", epoch=e) for e in (1, 2) for n in (1, 2)))
    log["eval"]["config"]["epochs"] = 2
    log["eval"]["dataset"]["samples"] = 2
    result = from_inspect(log)
    assert [(row.id, row.cluster) for row in result.samples] == [
        ("1#1", "1"),
        ("2#1", "2"),
        ("1#2", "1"),
        ("2#2", "2"),
    ]
    assert result.is_complete


def test_two_logs_of_the_same_data_can_be_compared_and_of_others_not() -> None:
    one = log_of(logged(1, "C"), logged(2, "I"))
    two = log_of(logged(1, "C"), logged(2, "C"))
    two["eval"]["model"] = "mock/other"
    found = compare_results(from_inspect(one), from_inspect(two)).first
    assert found.gained == ("2",)
    assert from_inspect(one).dataset_digest == from_inspect(two).dataset_digest
    for change in (
        {"id": 3},
        {"epoch": 2},
        {"input": "Question 1?"},
        {"input": [{"role": "system", "content": "Question 1?"}]},
        {"input": [{"role": "user", "content": "Question 3?"}]},
        {"target": "5"},
        {"choices": ["4", "5"]},
    ):
        other = deepcopy(two)
        other["samples"][0].update(change)
        assert from_inspect(two).dataset_digest != from_inspect(other).dataset_digest, change


def test_an_answer_that_is_an_attachment_is_found() -> None:
    sample = logged(1, "C", attachments={"abc": "a long answer"})
    sample["output"]["choices"][0]["message"]["content"] = "attachment://abc"
    assert from_inspect(log_of(sample)).samples[0].answer == "a long answer"
    del sample["attachments"]
    assert from_inspect(log_of(sample)).samples[0].answer == "attachment://abc"


def test_of_a_long_answer_its_beginning_is_kept() -> None:
    sample = logged(1, "C")
    sample["output"]["choices"][0]["message"]["content"] = "ab" * ANSWER_CHARS
    assert from_inspect(log_of(sample)).samples[0].answer == "ab" * (ANSWER_CHARS // 2)


@pytest.mark.parametrize("value", ["C", None])
def test_what_was_read_survives_being_written_again(tmp_path: Path, value: Any) -> None:
    error = None if value else {"message": "timeout", "traceback": "", "traceback_ansi": ""}
    result = from_inspect(log_of(logged(1, value, error=error), logged(2, "I", error=error)))
    path = write_inspect_log(result, tmp_path)
    assert read_inspect_log(path) == result


async def test_our_result_survives_its_log(tmp_path: Path) -> None:
    result = await run(task_of(sums(5, cluster=lambda n: f"c{n // 2}")), scripted()[0])
    path = write_inspect_log(result, tmp_path, sums(5))
    again = read_inspect_log(path)
    assert json.dumps(again.to_json()) == json.dumps(result.to_json())
    log = json.loads(path.read_text())
    assert (log["samples"][3]["input"], log["samples"][3]["target"]) == ("What is 3 + 1?", ["4"])


def test_failures_and_nan_survive() -> None:
    rows = [*rows_with([1.0, math.nan]), SampleResult("bad", failed="no connection")]
    result = result_of(rows, ACCURACY, LENGTH)
    log = json.loads(json.dumps(to_inspect(result)))
    assert json.dumps(from_inspect(log).to_json()) == json.dumps(result.to_json())
    assert log["results"]["completed_samples"] == 2
    assert set(log["samples"][2]["error"]) == {"message", "traceback", "traceback_ansi"}


def test_our_log_says_all_that_a_result_knows() -> None:
    rows = [
        SampleResult("a", "c", {"correct": 1.0}, "", "Yes.", "length", 7, 2, 0.5),
        SampleResult("b", failed="no connection"),
    ]
    protocol = {"solver": {"solver": "generate", "cue": "A:"}}
    result = result_of(rows, ACCURACY, protocol=protocol, dataset_samples=9)
    samples = (Sample("a", "Is it?", ("Yes.",), ("Yes.", "No.")), Sample("other", "?"))
    log = to_inspect(result, Dataset("d", samples, "made"))
    own = result.to_json()
    del own["samples"]
    assert log["eval"] == {
        "run_id": result.digest[7:29],
        "created": "2026-01-02T03:04:05+00:00",
        "task": "t",
        "task_id": "t",
        "task_version": 1,
        "dataset": {
            "name": "d",
            "location": "made",
            "samples": 9,
            "sample_ids": ["a", "b"],
            "shuffled": False,
        },
        "model": "m",
        "config": {"limit": 2, "epochs": 1},
        "packages": {"lmstack": "0.1.0"},
        "metadata": {"lmstack": own},
    }
    step = {"solver": "generate", "params": protocol["solver"]}
    assert log["plan"] == {"name": "plan", "steps": [step], "config": {}}
    metric = {"name": "accuracy", "value": 1.0, "params": {}}
    assert log["results"] == {
        "total_samples": 2,
        "completed_samples": 1,
        "scores": [
            {"name": "lmstack", "scorer": "lmstack", "params": {}, "metrics": {"accuracy": metric}}
        ],
    }
    usage = {"m": {"input_tokens": 7, "output_tokens": 2, "total_tokens": 9}}
    assert log["stats"] == {
        "started_at": "",
        "completed_at": "2026-01-02T03:04:05+00:00",
        "model_usage": usage,
    }
    message = {"role": "assistant", "content": "Yes.", "source": "generate"}
    one, two = log["samples"]
    assert one == {
        "id": "a",
        "epoch": 1,
        "input": "Is it?",
        "target": ["Yes."],
        "messages": [],
        "output": {
            "model": "m",
            "choices": [{"message": message, "stop_reason": "max_tokens"}],
        },
        "scores": {"correct": {"value": 1.0}},
        "metadata": {"cluster": "c"},
        "model_usage": usage,
        "total_time": 0.5,
        "choices": ["Yes.", "No."],
    }
    assert (two["input"], two["target"], two["metadata"]) == ("", [], {})
    assert two["output"]["choices"][0]["stop_reason"] == "unknown"
    assert two["error"]["message"] == "no connection"
    assert "choices" not in two
    assert to_inspect(result_of(rows, protocol={"solver": "mine"}))["plan"]["steps"] == [
        {"solver": "solver", "params": {}}
    ]
    assert (log["version"], log["status"]) == (2, "success")
    dated = to_inspect(result_of(rows, date="2026-01-02T03:04:05+02:00"))
    assert dated["eval"]["created"] == "2026-01-02T03:04:05+02:00"


def test_our_log_has_what_inspect_requires() -> None:
    """Of its models, the fields without a default."""
    log = to_inspect(result_of(rows_with([1.0, 0.0])))
    assert {"created", "task", "dataset", "model", "config"} <= set(log["eval"])
    for sample in log["samples"]:
        assert {"id", "epoch", "input", "target"} <= set(sample)
    for score in log["results"]["scores"]:
        assert {"name", "scorer"} <= set(score)
        assert all({"name", "value"} <= set(metric) for metric in score["metrics"].values())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 1}, "format version 1"),
        ({"samples": []}, "no samples"),
        ({"samples": None}, "no samples"),
        ({"eval": 3}, "eval of the log is 3"),
        ({"samples": [{"epoch": 1}]}, "id"),
        ({"samples": [{"id": 1, "scores": [1]}]}, "scores of the log"),
    ],
)
def test_what_is_no_whole_log_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(FormatError, match=said):
        from_inspect(log_of(logged(1, "C")) | change)


@pytest.mark.parametrize("log", [{}, [], None, {"results": {}}])
def test_something_else_is_refused(log: Any) -> None:
    with pytest.raises(FormatError, match="no log of inspect_ai"):
        from_inspect(log)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"none\.json"):
        read_inspect_log(tmp_path / "none.json")
    with pytest.raises(FormatError, match="binary log"):
        read_inspect_log(tmp_path / "log.eval")
    (tmp_path / "log.json").write_text("{")
    with pytest.raises(FormatError, match="not JSON"):
        read_inspect_log(tmp_path / "log.json")


def test_what_a_sample_leaves_out_is_nought_or_unknown() -> None:
    bare = {"id": "a", "scores": {"match": 1}}
    [row] = from_inspect(log_of(bare)).samples
    assert row == SampleResult("a", scores={"match": 1.0}, finish_reason="")
    usage = {"m": {}, "n": {"input_tokens": 2, "output_tokens": 3}}
    for output in ({}, {"choices": []}, {"choices": [{"message": {}}]}):
        sample = {**bare, "model_usage": usage, "output": output}
        [row] = from_inspect(log_of(sample)).samples
        assert (row.prompt_tokens, row.completion_tokens, row.answer) == (2, 3, "")
        assert row.finish_reason == ""
    content = [{"type": "text", "text": "a"}, {"type": "image"}, "b", {"type": "text", "text": "c"}]
    choice = {"message": {"content": content}, "stop_reason": "stop"}
    [row] = from_inspect(log_of({**bare, "output": {"choices": [choice]}})).samples
    assert row.answer == "ac"
    nested = {**bare, "scores": {"a": {"value": "I"}, "b": {"explanation": "?"}}}
    [row] = from_inspect(log_of(nested)).samples
    assert row.scores["a"] == 0.0
    assert math.isnan(row.scores["b"])


@pytest.mark.parametrize("name", [True, None, "", 1.5])
def test_the_id_of_a_sample_is_a_number_or_a_name(name: Any) -> None:
    with pytest.raises(FormatError, match="the id of a sample"):
        from_inspect(log_of(logged(1, "C", id=name)))
    assert from_inspect(log_of(logged(1, "C", id=0))).samples[0].id == "0"


def test_a_metric_is_a_share_where_all_its_scores_are() -> None:
    log = log_of(logged(1, {"a": 0.5, "b": -0.1, "c": 1.1}), logged(2, {"a": None, "b": 1, "d": 1}))
    metrics = from_inspect(log).metrics
    assert [(each.name, each.is_share) for each in metrics] == [
        ("match.a", True),
        ("match.b", False),
        ("match.c", False),
        ("match.d", True),
    ]
    assert all(each.columns == (each.name,) for each in metrics)


def test_turns_that_are_none_are_told_apart_from_those_that_are() -> None:
    def digest(asked: Any) -> str:
        return from_inspect(log_of(logged(1, "C", input=asked))).dataset_digest

    one = {"role": "user", "content": [{"type": "text", "text": "x"}]}
    digests = [digest(each) for each in ("x", [one], [{**one, "role": "system"}], [3], [3, one])]
    assert len(set(digests)) == 5
    assert digest([{"role": "user", "content": "x"}]) == digests[1]


@pytest.mark.parametrize("own", [3, [], {"task": 3}])
def test_a_log_of_ours_that_was_changed_is_refused(own: Any) -> None:
    log = log_of(logged(1, "C"))
    log["eval"]["metadata"] = {"lmstack": own}
    with pytest.raises(FormatError):
        from_inspect(log)


def test_more_samples_than_the_data_has_are_all_counted() -> None:
    log = log_of(logged(1, "C"), logged(2, "C"))
    log["eval"]["dataset"]["samples"] = 1
    assert from_inspect(log).dataset_samples == 2
    del log["version"]
    with pytest.raises(FormatError, match="version None; 2 is read"):
        from_inspect(log)
    del log["status"]
    with pytest.raises(FormatError, match="no log of inspect_ai"):
        from_inspect(log)


def test_fields_of_a_log_are_of_their_kinds() -> None:
    data = {"a": 3, "b": None, "c": True, "d": 1.5}
    assert (field_of(data, "a", int), field_of(data, "a", float)) == (3, 3.0)
    assert isinstance(field_of(data, "a", float), float)
    assert field_of(data, "b", int, 7) == field_of(data, "x", int, 7) == 7
    assert field_of(data, "c", bool) is True
    for name, kind, said in (
        ("c", int, "c of the log is True, not int"),
        ("c", float, "c of the log is True, not float"),
        ("d", int, "d of the log is 1.5, not int"),
        ("b", str, "b of the log is None, not str"),
    ):
        with pytest.raises(FormatError, match=said):
            field_of(data, name, kind)
    with pytest.raises(FormatError, match="the log has 3 where an object with 'a' should be"):
        field_of(3, "a", int)


def test_a_folder_is_no_log_and_a_binary_log_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="reading") as error:
        read_inspect_log(tmp_path)
    assert str(tmp_path) in error.value.message
    with pytest.raises(FormatError, match="binary log"):
        read_inspect_log(tmp_path / "log.eval")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(FormatError, match=r"deep\.json is not JSON"):
        read_inspect_log(tmp_path / "deep.json")


def test_noughts_and_ones_are_shares() -> None:
    metrics = from_inspect(log_of(logged(1, {"a": 0, "b": 1}), logged(2, {"a": 0, "b": 1}))).metrics
    assert [each.is_share for each in metrics] == [True, True]
