"""Rows of data files are spans of the file, shown with the names of their cells."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.rag.answer.units import read_rows, shown
from lmstack.rag.documents import ProblemError
from lmstack.rag.formats.load import parse_document


def _shown_each(name: str, text: str, start: int = 0) -> list[str]:
    document = parse_document(name, text.encode())
    units = read_rows(document, start, len(document.text))
    return [shown(document.text[start:], [unit]) for unit in units]


@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
def test_a_row_names_its_cells_wherever_the_header_stands(sign: str) -> None:
    text = "item,weight kg,shelf\nsmoker,0.8,D1\nhive,17.5,\n".replace(",", sign)
    rows = ["item: smoker; weight kg: 0.8; shelf: D1", "item: hive; weight kg: 17.5"]
    assert _shown_each("a.csv", text)[1:] == rows
    assert _shown_each("a.csv", text, text.index("hive")) == rows[1:]


def test_the_header_is_shown_by_itself_only() -> None:
    text = "item,shelf\nsmoker,D1\n"
    document = parse_document("a.csv", text.encode())
    units = read_rows(document, 0, len(text))
    assert shown(text, units[:1]) == "item,shelf"
    assert shown(text, units) == "- item: smoker; shelf: D1"


def test_a_quoted_cell_may_hold_the_delimiter_and_a_line_end() -> None:
    text = 'item,note\nhive,"tall, and\nheavy ""very"""\n'
    assert _shown_each("a.csv", text)[1:] == ['item: hive; note: tall, and heavy "very"']


def test_a_row_that_does_not_fit_the_header_stays_as_it_is() -> None:
    assert _shown_each("a.csv", "a,b\n1,2\n1,2,3\n")[1:] == ["a: 1; b: 2", "1,2,3"]
    assert _shown_each("a.csv", "1,2\n3,4\n") == ["1,2", "3,4"]


def test_a_record_names_its_members() -> None:
    text = (
        '{"order": "A-1", "total": 289.0, "items": ["hive", "smoker"], "to": {"town": "Porto"}, '
        '"gift": null, "lines": [{"sku": 1}, {"sku": 2}], "paid": true}\n["a", 2]\n'
    )
    assert _shown_each("a.jsonl", text) == [
        "order: A-1; total: 289.0; items: hive, smoker; to.town: Porto; lines.sku: 1; "
        "lines.sku: 2; paid: true",
        "a, 2",
    ]


def test_part_of_a_record_stays_as_it_is() -> None:
    text = '{"order": "A-1", "town": "Porto"}\n'
    assert _shown_each("a.jsonl", text, 10) == [text[10:].strip()]


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(["a.csv", "a.jsonl"]),
    st.text(alphabet='ab1,;"\n {}[]:', max_size=80),
    st.data(),
)
def test_units_are_spans_in_order(name: str, text: str, data: st.DataObject) -> None:
    text = "a,b\n" + text if name == "a.csv" else '{"a": 1}\n' + text
    try:
        document = parse_document(name, text.encode())
    except ProblemError:
        return
    start = data.draw(st.integers(0, len(document.text)))
    units = read_rows(document, start, len(document.text))
    ends = [0, *(unit.end for unit in units)]
    assert all(before <= unit.start < unit.end for before, unit in zip(ends, units, strict=False))
    assert all(unit.end <= len(document.text) - start for unit in units)
