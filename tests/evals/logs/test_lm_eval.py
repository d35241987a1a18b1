"""The harness's results and samples: documents written by hand in its format, and ours there and
back."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
from tests.errors import about
from tests.evals.tasks import ACCURACY, scripted, sums, task_of
from tests.evals.test_results import LENGTH, result_of, rows_with

from lmstack.core import FormatError, InputError, NotFoundError
from lmstack.evals.logs import (
    from_lm_eval,
    read_lm_eval_log,
    read_logs,
    to_lm_eval,
    write_lm_eval_log,
)
from lmstack.evals.logs.log_json import read_text
from lmstack.evals.results import ANSWER_CHARS, SampleResult
from lmstack.evals.run import run
from lmstack.evals.task_comparison import compare_results

RESULTS: dict[str, Any] = {
    "results": {"arc": {"alias": "arc", "acc,none": 0.5, "acc_stderr,none": 0.1}},
    "group_subtasks": {"arc": []},
    "configs": {
        "arc": {
            "task": "arc",
            "dataset_path": "allenai/ai2_arc",
            "dataset_name": "ARC-Easy",
            "doc_to_text": "Question: {{question}}\nAnswer:",
            "metadata": {"version": 1.0, "pretrained": "org/model"},
        }
    },
    "versions": {"arc": 1.0},
    "n-shot": {"arc": 5},
    "higher_is_better": {"arc": {"acc": True, "brier": False}},
    "n-samples": {"arc": {"original": 3, "effective": 3}},
    "config": {"model": "hf", "model_args": "pretrained=org/model", "limit": None},
    "date": 1767323045.0,
    "lm_eval_version": "0.4.13",
    "model_name": "org/model",
    "chat_template": None,
    "total_evaluation_time_seconds": "12.5",
}


def line(number: int, **more: Any) -> dict[str, Any]:
    metrics = {k: v for k, v in more.items() if k not in ("filter", "doc_hash", "filtered_resps")}
    return {
        "doc_id": number,
        "doc": {"question": f"{number}?"},
        "target": "1",
        "arguments": {"gen_args_0": {"arg_0": "Question", "arg_1": " a"}},
        "resps": [[["-1.0", "False"]]],
        "filtered_resps": [["-1.0", "False"]],
        "filter": "none",
        "metrics": list(metrics),
        "doc_hash": f"hash{number}",
        "prompt_hash": "p",
        "target_hash": "t",
        **more,
    }


def test_the_log_of_a_run_is_read_by_the_files_of_its_tasks(tmp_path: Path) -> None:
    results = tmp_path / "results_2026-01-02T03-04-05.json"
    several = RESULTS | {"results": {"arc": RESULTS["results"]["arc"], "a/b": {}, "group": {}}}
    results.write_text(json.dumps(several))
    with pytest.raises(
        NotFoundError, match=r"no samples beside .*samples_TASK_2026-01-02T03-04-05"
    ):
        read_logs(results)
    rows = "".join(json.dumps(line(n, acc=1.0, brier=0.2)) + "\n" for n in range(2))
    for name in ("arc_2026-01-02T03-04-05", "a_b_2026-01-02T03-04-05", "arc_2026-01-02T03-04-06"):
        (tmp_path / f"samples_{name}.jsonl").write_text(rows if name.startswith("arc") else "")
    assert [found.task for found in read_logs(results, ["arc"])] == ["arc"]
    with pytest.raises(InputError, match="no samples of group", check=about("task")) as caught:
        read_logs(results, ["arc", "group"])
    assert caught.value.hint == "it has arc, a/b"
    results.write_text(json.dumps({"results": []}))
    for text in ('{"results": []}', "[1]", "{}"):
        results.write_text(text)
        with pytest.raises(FormatError, match="neither of inspect_ai nor of lm-evaluation-harness"):
            read_logs(results)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, NotFoundError, "there is no log"),
        (b"{}\xff", FormatError, r"is not JSON text \(byte 2\)"),
        (b"x" * 9, FormatError, "has more than 8 bytes"),
    ],
)
def test_a_log_that_cannot_be_read_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, error: Any, message: str
) -> None:
    monkeypatch.setattr("lmstack.evals.logs.log_json.MAX_BYTES", 8)
    path = tmp_path / "log.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=message):
        read_text(path)
    path.write_bytes(b'{"a": 1}')
    assert read_text(path) == '{"a": 1}'


def test_results_and_samples_are_read_as_a_result() -> None:
    lines = [line(1, acc=1.0, brier=0.2), line(0, acc=0.0, brier=0.7), line(2, acc=1.0, brier=0.1)]
    result = from_lm_eval(RESULTS, lines)
    assert [row.id for row in result.samples] == ["0", "1", "2"]
    assert result.figures()["acc"].value == pytest.approx(2 / 3)
    assert result.metric("brier").better == "lower"
    assert (result.subject, result.dataset, result.source) == (
        "org/model",
        "ARC-Easy",
        "allenai/ai2_arc",
    )
    assert (result.date, result.seconds) == ("2026-01-02T03:04:05Z", 12.5)
    assert result.protocol == {
        "imported_from": "lm-evaluation-harness",
        "task": "arc",
        "version": 1.0,
        "config": {
            "task": "arc",
            "dataset_path": "allenai/ai2_arc",
            "dataset_name": "ARC-Easy",
            "doc_to_text": "Question: {{question}}\nAnswer:",
        },
        "shots": 5,
        "gen_kwargs": None,
        "is_chat": False,
        "system_instruction": None,
        "fewshot_as_multiturn": None,
        "left_out": [],
    }
    assert (result.version, result.dataset_samples) == (1, 3)
    assert (result.subject_digest, result.versions) == ("name:org/model", {"lm_eval": "0.4.13"})
    assert result.is_complete


def test_all_that_decides_prompts_is_in_the_protocol() -> None:
    more = {
        "config": {"gen_kwargs": {"until": ["."]}},
        "chat_template": "{{ messages }}",
        "system_instruction_sha": "abc",
        "fewshot_as_multiturn": True,
        "transformers_version": "5.0",
    }
    result = from_lm_eval(RESULTS | more, [line(0, acc=1.0)])
    names = ("gen_kwargs", "is_chat", "system_instruction", "fewshot_as_multiturn")
    assert [result.protocol[name] for name in names] == [{"until": ["."]}, True, "abc", True]
    assert result.versions == {"lm_eval": "0.4.13", "transformers": "5.0"}


def test_what_the_results_leave_out_is_unknown() -> None:
    result = from_lm_eval({"results": {"arc": {}}}, [line(0, acc=1.0)])
    assert (result.subject, result.subject_digest) == ("unknown", "name:unknown")
    assert (result.version, result.date, result.seconds, result.versions) == (0, "", 0.0, {})
    assert (result.dataset, result.source, result.dataset_samples) == ("arc", "unknown", 1)
    assert (result.protocol["version"], result.protocol["shots"]) == (None, None)
    parts = {"configs": {"arc": {"dataset_path": "a/b"}}, "config": {"model_args": "x=y"}}
    partly = from_lm_eval({"results": {"arc": {}}, **parts}, [line(0, acc=1.0)])
    assert (partly.dataset, partly.source, partly.subject) == ("a/b", "a/b", "x=y")


def test_filters_have_columns_of_their_own() -> None:
    lines = [
        line(0, filter="strict", exact_match=0.0, filtered_resps=["[invalid]"]),
        line(0, filter="flexible", exact_match=1.0, filtered_resps=["4"]),
    ]
    result = from_lm_eval(RESULTS, lines)
    assert result.samples[0].scores == {"exact_match,strict": 0.0, "exact_match,flexible": 1.0}
    assert [metric.name for metric in result.metrics] == [
        "exact_match,strict",
        "exact_match,flexible",
    ]
    assert result.samples[0].answer == "[invalid]"


def test_pairs_are_columns_and_texts_are_named_as_left_out() -> None:
    result = from_lm_eval(RESULTS, [line(0, word_perplexity=[-5.0, 3], bleu=["a", "b"], acc=1)])
    assert result.samples[0].scores == {
        "word_perplexity.0": -5.0,
        "word_perplexity.1": 3.0,
        "acc": 1.0,
    }
    assert result.protocol["left_out"] == ["bleu"]
    assert [metric.name for metric in result.metrics] == ["acc"]
    assert result.samples[0].failed == ""
    long = ["ab" * ANSWER_CHARS]
    [none] = from_lm_eval(RESULTS, [line(0, bleu=["a", "b"], filtered_resps=long)]).samples
    assert (none.scores, none.failed) == ({}, "no metric of it is a number")
    assert none.answer == "ab" * (ANSWER_CHARS // 2)


def test_a_share_is_from_nought_to_one() -> None:
    lines = [line(0, acc=1.0, words=3.0, nan=math.nan), line(1, acc=0.0, words=0.5, nan=0.5)]
    metrics = from_lm_eval(RESULTS, lines).metrics
    assert [(each.name, each.is_share) for each in metrics] == [
        ("acc", True),
        ("words", False),
        ("nan", True),
    ]


def test_samples_of_older_harnesses_are_read() -> None:
    old = line(0, acc=1.0)
    for name in ("filter", "metrics", "doc_hash", "prompt_hash", "target_hash"):
        del old[name]
    assert from_lm_eval(RESULTS, [old]).samples[0].scores == {"acc": 1.0}


def test_two_models_on_the_same_documents_can_be_compared() -> None:
    other = RESULTS | {"model_name": "org/other"}
    found = compare_results(
        from_lm_eval(RESULTS, [line(0, acc=1.0), line(1, acc=0.0), line(2, acc=0.0)]),
        from_lm_eval(other, [line(0, acc=1.0), line(1, acc=1.0), line(2, acc=0.0)]),
    )
    assert found.first.gained == ("1",)
    digest = from_lm_eval(RESULTS, [line(0, acc=1.0)]).dataset_digest
    assert from_lm_eval(other, [line(0, acc=0.0)]).dataset_digest == digest
    old = {name: value for name, value in line(0, acc=1.0).items() if name != "doc_hash"}
    digests = {digest, from_lm_eval(RESULTS, [old]).dataset_digest}
    for base, change in (
        (line(0, acc=1.0), {"doc_id": 1}),
        (line(0, acc=1.0), {"doc_hash": "x"}),
        (line(0, acc=1.0), {"target_hash": "x"}),
        (old, {"doc": {"question": "another"}}),
        (old, {"target": "2"}),
    ):
        digests.add(from_lm_eval(RESULTS, [base | change]).dataset_digest)
    assert len(digests) == 7


def test_a_limit_makes_it_incomplete() -> None:
    assert not from_lm_eval(RESULTS, [line(0, acc=1.0)]).is_complete


def test_the_task_is_named_where_there_are_several() -> None:
    several = RESULTS | {"results": {"arc": {}, "boolq": {}}}
    with pytest.raises(InputError, match="no task is named", check=about("task")):
        from_lm_eval(several, [line(0, acc=1.0)])
    with pytest.raises(InputError, match="no results of 'piqa'", check=about("task")):
        from_lm_eval(several, [line(0, acc=1.0)], "piqa")
    assert from_lm_eval(several, [line(0, acc=1.0)], "arc").task == "arc"


def test_what_was_read_survives_being_written_again(tmp_path: Path) -> None:
    lines = [line(0, acc=1.0, filtered_resps=["é"]), line(1, acc=0.0)]
    result = from_lm_eval(RESULTS, lines)
    written = write_lm_eval_log(result, tmp_path)
    assert [path.name for path in written] == [
        "results_2026-01-02T03-04-05.json",
        "samples_arc_2026-01-02T03-04-05.jsonl",
    ]
    assert '"é"' in written[1].read_text(encoding="utf-8")
    assert read_lm_eval_log(*written) == result


async def test_our_result_survives_its_log(tmp_path: Path) -> None:
    result = await run(task_of(sums(5, cluster=lambda n: f"c{n // 2}")), scripted()[0])
    results, samples = write_lm_eval_log(result, tmp_path)
    assert samples.name.startswith("samples_sums_")
    again = read_lm_eval_log(results, samples)
    assert json.dumps(again.to_json()) == json.dumps(result.to_json())


def test_failures_and_nan_survive() -> None:
    rows = [*rows_with([1.0, math.nan]), SampleResult("bad", failed="no connection")]
    result = result_of([rows[2], *rows[:2]], ACCURACY, LENGTH)
    found, lines = json.loads(json.dumps(to_lm_eval(result)))
    assert json.dumps(from_lm_eval(found, lines).to_json()) == json.dumps(result.to_json())
    assert found["n-samples"] == {"t": {"original": 3, "effective": 2}}
    assert [each["doc_id"] for each in lines] == [1, 2]


def test_our_log_has_the_harness_names_and_figures() -> None:
    protocol = {"solver": {"shots": {"count": 3}}}
    rows = rows_with([1.0, 0.0, 1.0, 1.0], ["ç", "", "", ""])
    result = result_of(rows, ACCURACY, LENGTH, protocol=protocol, dataset_samples=9)
    found, lines = to_lm_eval(result)
    values = found.pop("results")["t"]
    assert values.pop("accuracy_stderr,none") == pytest.approx(0.25)
    assert values.pop("length_stderr,none") == pytest.approx(math.sqrt(5 / 12))
    assert values == {"alias": "t", "accuracy,none": 0.75, "length,none": 1.5}
    config = found.pop("configs")["t"]
    assert (config["task"], config["metadata"]["version"]) == ("t", 1.0)
    assert found == {
        "group_subtasks": {"t": []},
        "versions": {"t": 1.0},
        "n-shot": {"t": 3},
        "higher_is_better": {"t": {"accuracy": True, "length": False}},
        "n-samples": {"t": {"original": 9, "effective": 4}},
        "config": {"model": "lmstack", "model_args": "model=m", "limit": None},
        "git_hash": None,
        "date": 1767323045.0,
        "model_source": "lmstack",
        "model_name": "m",
        "total_evaluation_time_seconds": "2.5",
    }
    nothing = hashlib.sha256(b"").hexdigest()
    doc = {"id": "q0", "cluster": "ç"}
    # The harness hashes a document in this form.
    written = '{\n  "id": "q0",\n  "cluster": "ç"\n}'.encode()
    assert lines[0] == {
        "doc_id": 0,
        "doc": doc,
        "target": "",
        "arguments": {"gen_args_0": {"arg_0": ""}},
        "resps": [[""]],
        "filtered_resps": [""],
        "filter": "none",
        "metrics": ["correct", "length"],
        "doc_hash": hashlib.sha256(written).hexdigest(),
        "prompt_hash": nothing,
        "target_hash": nothing,
        "correct": 1.0,
        "length": 0.0,
        "lmstack": {**rows[0].to_json(), "scores": {}},
    }
    assert set(line(0, correct=1.0, length=0.0)) <= set(lines[0])


@pytest.mark.parametrize("protocol", [{}, {"solver": "mine"}, {"solver": {"shots": None}}])
def test_without_examples_there_are_no_shots(protocol: dict[str, Any]) -> None:
    found, _ = to_lm_eval(result_of(rows_with([1.0]), protocol=protocol))
    assert found["n-shot"] == {"t": 0}
    assert found["results"]["t"]["accuracy_stderr,none"] == "N/A", "of one sample"


def test_a_sample_taken_away_is_noticed() -> None:
    found, lines = to_lm_eval(result_of(rows_with([1.0, 0.0])))
    with pytest.raises(FormatError, match="1 of its 2 samples"):
        from_lm_eval(found, lines[1:])


@pytest.mark.parametrize(
    ("results", "lines"),
    [([], []), ({"samples": []}, []), (RESULTS, []), (RESULTS, [3]), (RESULTS, [{"acc": 1}])],
)
def test_something_else_is_refused(results: Any, lines: list[Any]) -> None:
    with pytest.raises(FormatError):
        from_lm_eval(results, lines)


def test_a_line_that_is_not_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps(RESULTS))
    (tmp_path / "s.jsonl").write_text(json.dumps(line(0, acc=1.0)) + "\n{\n")
    with pytest.raises(FormatError, match=r"s\.jsonl:2 is not JSON"):
        read_lm_eval_log(tmp_path / "r.json", tmp_path / "s.jsonl")


@pytest.mark.parametrize("missing", ["order", "failed"])
def test_our_log_without_its_order_or_failures_is_refused_as_a_log(missing: str) -> None:
    rows = [*rows_with([1.0]), SampleResult("bad", failed="no connection")]
    found, lines = to_lm_eval(result_of(rows))
    del found["configs"]["t"]["metadata"]["lmstack"][missing]
    with pytest.raises(FormatError, match="samples"):
        from_lm_eval(found, lines)


def test_results_are_written_for_people(tmp_path: Path) -> None:
    result = result_of(rows_with([1.0], ["é"]), subject="né")
    results, _ = write_lm_eval_log(result, tmp_path)
    found, _ = to_lm_eval(result)
    assert results.read_text(encoding="utf-8") == json.dumps(found, indent=2, ensure_ascii=False)
