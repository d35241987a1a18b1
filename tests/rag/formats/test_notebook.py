"""A notebook reads as its page does: headings, code, what was printed."""

from __future__ import annotations

import json

import pytest

from lmstack.rag.formats.load import ProblemError, parse_document


def notebook(*cells):
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}).encode()


def markdown(text):
    return {"cell_type": "markdown", "source": text.splitlines(keepends=True)}


def code(text, *outputs):
    return {"cell_type": "code", "source": text, "outputs": list(outputs)}


def test_cells_are_blocks_and_headings_are_sections():
    document = parse_document(
        "a.ipynb",
        notebook(
            markdown("# Tides\n\nHigh and low.\n"),
            code("print(48)", {"output_type": "stream", "text": ["48\n"]}),
            markdown("## Table\n"),
            code(
                "t",
                {
                    "output_type": "execute_result",
                    "data": {"text/plain": "x  1", "text/html": "<b>"},
                },
                {"output_type": "error", "ename": "KeyError", "evalue": "'y'"},
            ),
        ),
    )
    assert document.text == (
        "# Tides\n\nHigh and low.\n\n\nprint(48)\n\n48\n\n## Table\n\n\nt\n\nx  1\n\nKeyError: 'y'"
    )
    assert [(b.kind, document.text[b.start : b.end].strip()) for b in document.blocks] == [
        ("heading", "# Tides"),
        ("paragraph", "High and low."),
        ("code", "print(48)"),
        ("code", "48"),
        ("heading", "## Table"),
        ("code", "t"),
        ("code", "x  1"),
        ("code", "KeyError: 'y'"),
    ]
    assert [s.path for s in document.sections] == [("Tides",), ("Tides", "Table")]
    assert document.title == "Tides"


def test_huge_output_is_cut_and_said_to_be():
    document = parse_document("a.ipynb", notebook(code("x", {"text": "9" * 1_000_000})))
    assert len(document.text) < 11_000
    assert document.fields["warnings"] == ("outputs cut",)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{", "not JSON"),
        (b"[]", "no cells"),
        (b'{"cells": 1}', "no cells"),
        (b'{"cells": ' + b"[" * 200_000, "nested too deep"),
    ],
)
def test_what_is_no_notebook_is_named(data, says):
    with pytest.raises(ProblemError, match=says):
        parse_document("a.ipynb", data)


@pytest.mark.parametrize("cell", [None, {}, {"cell_type": "code", "source": 5, "outputs": [1, {}]}])
def test_odd_cells_cost_only_themselves(cell):
    assert "Words" in parse_document("a.ipynb", notebook(cell, markdown("Words"))).text
