"""Rows come whole, or an error names the file and the line."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.errors import about

from lmstack.core import FormatError, InputError, IntegrityError, NotFoundError
from lmstack.evals.benchmarks.bbh import bbh_samples, bbh_shots
from lmstack.evals.benchmarks.bias import bias_lists
from lmstack.evals.benchmarks.data_files import (
    csv_rows,
    file_bytes,
    file_text,
    json_rows,
    text_field,
    yaml_file,
)
from lmstack.evals.benchmarks.gpqa import gpqa_samples
from lmstack.evals.benchmarks.gsm8k import gsm8k_samples
from lmstack.evals.benchmarks.humaneval import humaneval_samples
from lmstack.evals.benchmarks.mmlu import mmlu_samples
from lmstack.evals.benchmarks.mt_bench import JudgePrompts, mt_bench_samples
from lmstack.evals.benchmarks.passages import boolq_samples, hellaswag_samples, text_samples
from lmstack.evals.benchmarks.perturb import (
    contractions,
    dialect,
    gender_pronouns,
    misspellings,
    typos,
)
from lmstack.evals.benchmarks.prompts import yaml_shots
from lmstack.evals.benchmarks.truthfulqa import mc1_samples, mc2_samples, written_samples

READERS: tuple[Callable[..., object], ...] = (
    *(text_samples, mmlu_samples, hellaswag_samples, boolq_samples, contractions, misspellings),
    *(typos, dialect, gender_pronouns, JudgePrompts.read, bias_lists, mc1_samples, mc2_samples),
    *(written_samples, file_bytes, json_rows, csv_rows, yaml_file, file_text, yaml_shots),
    *(bbh_shots, humaneval_samples, gsm8k_samples, gpqa_samples),
    partial(mt_bench_samples, references=None),
    partial(bbh_samples, subtask="s"),
)


@pytest.mark.parametrize("read", READERS)
def test_a_file_that_is_not_the_pinned_one_is_not_read(read: Callable[..., object]) -> None:
    with pytest.raises(IntegrityError, match=f"not {'0' * 64}"):
        read(b"{}", sha256="0" * 64)


def test_texts_are_rows_or_one_file_and_none_is_empty(tmp_path: Path) -> None:
    rows = tmp_path / "texts.jsonl"
    rows.write_text('{"text": "one"}\n{"text": " "}\n{"text": "three"}\n')
    found = [(sample.id, sample.input) for sample in text_samples(rows)]
    assert found == [("text/0", "one"), ("text/2", "three")]
    rows.write_text('{"text": "one"}\n{"txt": "two"}\n')
    with pytest.raises(InputError, match="row 2 has None under 'text'", check=about("text")):
        text_samples(rows)
    whole = tmp_path / "text.txt"
    whole.write_text('{"text": "one"}\n')
    assert [sample.input for sample in text_samples(whole)] == ['{"text": "one"}\n']


short = st.text(max_size=6)
rows_of_text = st.lists(st.dictionaries(short, short | st.integers()), min_size=1, max_size=4)


@given(rows_of_text, st.booleans())
def test_what_was_written_as_jsonl_or_json_is_read(
    rows: list[dict[str, str | int]], lines: bool
) -> None:
    text = "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows, ensure_ascii=False)
    assert json_rows(text.encode()) == rows
    assert json_rows(gzip.compress(text.encode())) == rows


def test_a_line_separator_inside_of_a_text_ends_no_line() -> None:
    text = '{"a": "x\u2028y"}\n{"a": "\x0c"}\n'.replace("\x0c", "\\f")
    assert [row["a"] for row in json_rows(text.encode())] == ["x\u2028y", "\f"]


def test_rows_inside_of_an_object_are_found() -> None:
    data = json.dumps({"canary": "...", "examples": [{"input": "1"}]}).encode()
    assert json_rows(data, within="examples") == [{"input": "1"}]


def test_a_wrong_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n\n{"a": \n')
    with pytest.raises(FormatError, match=r"rows\.jsonl:3 is not JSON"):
        json_rows(path)


@pytest.mark.parametrize("data", [b"[1, 2]", b"3", b'{"a": 1}\n[2]'])
def test_what_is_no_object_is_an_error(data: bytes) -> None:
    with pytest.raises(FormatError):
        json_rows(data)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"\x1f\x8b\x00", gzip.compress(b"{}", mtime=0)[:-4]])
def test_other_bytes_are_an_error_of_the_format(data: bytes) -> None:
    with pytest.raises(FormatError):
        json_rows(data)


def test_another_hash_is_refused_and_the_right_one_is_of_the_file_as_it_is() -> None:
    data = gzip.compress(b"{}", mtime=0)
    assert file_bytes(data, hashlib.sha256(data).hexdigest()) == b"{}"
    with pytest.raises(IntegrityError, match="SHA-256"):
        file_bytes(data, "0" * 64)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"gone\.jsonl"):
        json_rows(tmp_path / "gone.jsonl")


def test_csv_fields_may_hold_commas_quotes_and_lines() -> None:
    data = b'q,a\r\n"one, ""two""\nthree",4\r\n'
    assert csv_rows(data) == [{"q": 'one, "two"\nthree', "a": "4"}]
    assert csv_rows(b"x,y\n", names=("q", "a")) == [{"q": "x", "a": "y"}]


@pytest.mark.parametrize("data", [b"q,a\n1\n", b"q,a\n1,2,3\n"])
def test_a_csv_row_of_another_length_is_an_error(data: bytes) -> None:
    with pytest.raises(FormatError, match="row 1"):
        csv_rows(data)


def test_yaml_that_is_no_mapping_is_an_error() -> None:
    assert yaml_file(b"a: b") == {"a": "b"}
    with pytest.raises(FormatError, match="not a mapping"):
        yaml_file(b"- a")


def test_a_missing_field_is_named_with_those_that_are_there() -> None:
    with pytest.raises(InputError, match=r"row 1 .* 'q'.* question", check=about("q")):
        text_field({"question": "x"}, "q", "row 1")
