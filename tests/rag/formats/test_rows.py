"""CSV and JSON lines: the text is the file, a row is a block that knows its header."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.rag.formats.load import ProblemError, parse_document


def rows(document):
    return [document.text[b.start : b.end] for b in document.blocks]


def test_row_is_a_block_and_knows_its_header():
    document = parse_document(
        "a.csv", b"\xef\xbb\xbfname,metres\r\nSkerryvore,48\r\nBell Rock,35\r\n"
    )
    assert rows(document) == ["name,metres", "Skerryvore,48", "Bell Rock,35"]
    assert {document.text[slice(*b.header)] for b in document.blocks} == {"name,metres"}
    assert document.fields == {"rows": 2, "columns": ("name", "metres")}


@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
def test_delimiter_is_told_from_the_lines(sign):
    second = "c" if sign == "," else "c, d"
    text = f"a b{sign}{second}\n1{sign}2\n3{sign}4\n"
    assert parse_document("a.csv", text.encode()).fields["columns"][0] == "a b"


def test_table_of_numbers_has_no_header():
    document = parse_document("a.csv", b"1,2\n3,4\n")
    assert {b.header for b in document.blocks} == {None}
    assert document.fields == {"rows": 2}


@given(
    st.lists(
        st.lists(st.text(alphabet='ab "\n,x', max_size=8), min_size=2, max_size=3),
        min_size=1,
        max_size=6,
    )
)
@settings(deadline=None)
def test_rows_are_those_of_the_csv_module(table):
    file = io.StringIO()
    csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(table)
    document = parse_document("a.csv", file.getvalue().encode())
    assert [next(csv.reader(io.StringIO(row, newline=""))) for row in rows(document)] == table


def test_quotation_mark_that_never_ends_costs_no_row():
    document = parse_document("a.csv", b'a,b\n"x,1\ny,2\nz,3\n')
    assert rows(document) == ["a,b", '"x,1', "y,2", "z,3"]


def test_line_of_three_megabytes_is_one_row():
    data = b"a,b\n" + b"x" * 3_000_000 + b",1\n"
    assert [len(row) for row in rows(parse_document("a.csv", data))] == [3, 3_000_002]


def test_record_of_json_is_a_block():
    document = parse_document("a.jsonl", b'{"a": 1}\n\n{"a": "x\\ny"}\n')
    assert rows(document) == ['{"a": 1}', '{"a": "x\\ny"}']
    assert document.text == '{"a": 1}\n\n{"a": "x\\ny"}\n'


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"a": 1}\nno\n', "record 2 is not JSON"),
        (b"[" * 100_000, "record 1 is nested too deep"),
        (b"1\n2\n", "bare value"),
    ],
)
def test_what_is_no_record_is_named(data, says):
    with pytest.raises(ProblemError, match=says) as caught:
        parse_document("a.jsonl", data)
    assert caught.value.kind == "format"
