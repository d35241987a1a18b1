"""Samples, data sets and the files that they are read from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.errors import about
from tests.evals.test_results import result_of, rows_with

from lmstack.core import FormatError, InputError, LmstackError, Message, NotFoundError, StoreError
from lmstack.evals.benchmarks.prompts import FewShot
from lmstack.evals.benchmarks.solvers import GenerationSolver
from lmstack.evals.metrics import make_scorer
from lmstack.evals.task import Dataset, Sample, Subject
from lmstack.evals.task_values import numbered_rows, read_text

ONE = Sample("a", "x")


@pytest.mark.parametrize(
    ("make", "message", "param"),
    [
        (lambda: Sample("", "x"), "a sample has no id", "id"),
        (lambda: Sample("a", "x", choices=("b",), gold=(1,)), "1 choices, and gold [1]", "gold"),
        (lambda: Sample("a", "x", choices=("b",), gold=(-1,)), "1 choices, and gold [-1]", "gold"),
        (lambda: Dataset("d", (), "made"), "the data set d has no samples", "dataset"),
        (
            lambda: Dataset("d", (Sample("b", "x"), ONE, ONE), "made"),
            "two samples of d have the id a",
            "id",
        ),
        (
            lambda: result_of(rows_with([1.0]) * 2),
            "the result of t has the sample 'q0' twice",
            None,
        ),
        (lambda: GenerationSolver(FewShot("{question}"), drafts=0), "0 drafts", "drafts"),
        (lambda: GenerationSolver(FewShot("{question}"), drafts=2), "would all be one", "drafts"),
        (lambda: make_scorer({"name": "bert_score"}), "no encoder", "scorer"),
        *(
            (
                lambda name=name, value=value: make_scorer(
                    {"name": "bert_score", name: value}, encoder=lambda *_: None
                ),
                message,
                name,
            )
            for name, value, message in (
                ("model", 3, "model is 3, not the name of a model"),
                ("layer", True, "layer is True, not the number of a layer"),
                ("layer", "9", "layer is '9', not the number of a layer"),
                ("idf", "yes", "idf is 'yes', not true or false"),
                ("baseline", "abc", "baseline is 'abc', not three numbers"),
                ("baseline", 3, "baseline is 3, not three numbers"),
            )
        ),
    ],
)
def test_what_is_wrong_is_named(make: Callable[[], Any], message: str, param: str | None) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert message in caught.value.message
    assert caught.value.param == param


def test_a_sample_and_its_digest_hold_all_of_it() -> None:
    turns = (Message("user", "one"), Message("assistant", "two"))
    full = Sample("a", turns, ("t",), ("b", "c"), (1,), "g", {"k": "é"})
    assert full.to_json() == {
        "id": "a",
        "input": [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}],
        **{"targets": ["t"], "choices": ["b", "c"], "gold": [1], "cluster": "g"},
        "metadata": {"k": "é"},
    }
    assert (full.text, ONE.text) == ("two", "x")
    digest = Dataset("d", (full, Sample("b", "x")), "made").digest
    assert digest == "sha256:1b808f4e2ad21818abf2e243bf52040dd8a5d1321205b2d5445696cb94d7e39d"
    assert Dataset("other", (full, Sample("b", "x")), "source").digest == digest
    assert Dataset("d", (Sample("b", "x"), full), "made").digest != digest


@pytest.mark.parametrize(
    ("name", "content", "error", "message", "hint"),
    [
        ("datb.jsonl", None, NotFoundError, "there is no .*, which should be rows", "data.jsonl?"),
        ("x.csv", None, NotFoundError, "there is no .*, which should be rows", "check the path"),
        ("y.jsonl", b"ab\xff", FormatError, r"is not UTF-8 text \(byte 2\)", ""),
        ("z.jsonl", b"x" * 9, InputError, "has more than 8 bytes", ""),
        (".", None, StoreError, "reading .* failed", ""),
    ],
)
def test_a_file_that_cannot_be_read_says_why(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    content: bytes | None,
    error: type[LmstackError],
    message: str,
    hint: str,
) -> None:
    monkeypatch.setattr("lmstack.evals.task_values.MAX_BYTES", 8)
    (tmp_path / "data.jsonl").write_bytes(b"\xef\xbb\xbf12345")
    assert read_text(tmp_path / "data.jsonl", "rows") == "12345"
    if content is not None:
        (tmp_path / name).write_bytes(content)
    monkeypatch.setattr("lmstack.evals.task_values.MAX_BYTES", 1 << 20 if name == "." else 8)
    with pytest.raises(error, match=message, check=about("data", None)) as caught:
        read_text(tmp_path / name, "rows")
    assert hint in str(caught.value.hint or "")


def test_rows_are_numbered_from_one_and_empty_ones_count(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("x\n \ny\n")
    (tmp_path / "a.txt").write_text("x--\n--y\nz")
    assert numbered_rows(tmp_path / "a.jsonl", "--") == [(1, "x"), (3, "y")]
    assert numbered_rows(tmp_path / "a.txt", "--") == [(1, "x"), (3, "y\nz")]
    assert numbered_rows(tmp_path / "a.txt", "") == [(1, "x--\n--y\nz")]


@pytest.mark.parametrize("face", ["chat", "likelihood", "index", "agent"])
def test_a_face_that_a_subject_lacks_is_named(face: str) -> None:
    with pytest.raises(InputError, match=r"^m ", check=about("model")):
        getattr(Subject("m", "d"), f"needed_{face}")()
    given = object()
    found = getattr(Subject("m", "d", **{face: given}), f"needed_{face}")()  # type: ignore[arg-type]
    assert found is given


def test_a_file_of_more_than_the_limit_is_about_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"12345678")
    monkeypatch.setattr("lmstack.evals.task_values.MAX_BYTES", 8)
    assert read_text(tmp_path / "a.jsonl", "data") == "12345678"
    monkeypatch.setattr("lmstack.evals.task_values.MAX_BYTES", 7)
    with pytest.raises(InputError, match="has more than 7 bytes", check=about("data")):
        read_text(tmp_path / "a.jsonl", "data")
