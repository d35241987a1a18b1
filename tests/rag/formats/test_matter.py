"""What a document says of itself has one form, and access labels fail closed."""

from __future__ import annotations

import contextlib

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.rag.formats.load import ProblemError, parse_document
from lmstack.rag.formats.matter import iso_date, matter_span, read_matter

MATTER = """---
# about this page
title: "Leave: how much"
Authors: [Ada Byron, 'Bob']
created: 2 March 2024
updated: 2024-04-05T06:07:08Z
tags:
  - hr
  - "leave, paid"
access: [hr, board]
supersedes: leave-2023.md
version: 1.10
pages: 12
ratio: 0.5
draft: false
note: a line # with a comment
folded: >
  one
  two
nested:
  a: 1
---

# Leave
"""


def fields(text):
    return parse_document("a.md", text.encode()).fields


def test_front_matter_has_usual_names_and_types():
    document = parse_document("a.md", MATTER.encode())
    assert document.title == "Leave: how much"
    assert document.fields == {
        "author": "Ada Byron, Bob",
        "date": "2024-03-02",
        "modified": "2024-04-05",
        "tags": ("hr", "leave, paid"),
        "access": ("hr", "board"),
        "supersedes": ("leave-2023.md",),
        "version": "1.10",
        "pages": 12,
        "ratio": 0.5,
        "draft": False,
        "note": "a line",
        "folded": "one two",
    }
    assert document.text == MATTER
    assert [s.title for s in document.sections] == ["", "Leave"]


def test_toml_is_front_matter_too():
    text = '+++\ntitle = "T"\ndate = 2024-02-03\naccess = ["hr"]\n[more]\nx = 1\n+++\nBody.\n'
    document = parse_document("a.md", text.encode())
    assert document.title == "T"
    assert document.fields == {"date": "2024-02-03", "access": ("hr",)}
    assert document.blocks[0].kind == "matter"


@pytest.mark.parametrize(
    "value",
    [
        "{hr: true}",
        "&a [hr]",
        "*a",
        "!!set {hr}",
        "[[hr], board]",
        "[hr",
        "\n  hr: true",
        "|",
        "''",
    ],
)
def test_access_that_cannot_be_read_closes_the_document(value):
    text = f"---\ntitle: x\naccess: {value}\n---\nSalaries.\n"
    with pytest.raises(ProblemError, match="access labels"):
        parse_document("a.md", text.encode())


def test_access_in_broken_toml_closes_the_document():
    with pytest.raises(ProblemError, match="access labels"):
        parse_document("a.md", b'+++\naccess = ["hr"\n+++\nSalaries.\n')


@pytest.mark.parametrize("text", ["---\ntitle: x\naccess: hr\n\nSalaries.\n", "+++\naccess='hr'\n"])
def test_access_in_front_matter_without_an_end_closes_the_document(text):
    with pytest.raises(ProblemError, match="access labels"):
        parse_document("a.md", text.encode())


@pytest.mark.parametrize("value", ["hr, board", "[hr, board]", "\n- hr\n- board", "'hr; board'"])
def test_labels_may_be_a_list_or_a_line(value):
    assert fields(f"---\naccess: {value}\n---\nx\n")["access"] == ("hr", "board")


def test_rule_and_prose_are_no_front_matter():
    text = "---\n\nSome words. Note that: this is prose.\n\n---\n"
    assert fields(text) == {}
    assert matter_span(text)[0] == 0


_SCALAR = st.text(st.characters(codec="ascii", categories=["L", "N", "Zs"]), max_size=12)
_STRIPPED = _SCALAR.map(str.strip)
_NAMES = st.from_regex(r"x[a-z_]{1,8}", fullmatch=True)


@given(
    st.dictionaries(_NAMES, _SCALAR.map(str.strip) | st.lists(_SCALAR.map(str.strip), max_size=3))
)
@settings(deadline=None)
def test_what_yaml_dumps_is_read_back(values):
    content = yaml.safe_dump(values, default_flow_style=False)
    read = read_matter("yaml", content)
    for name, value in values.items():
        if isinstance(value, list):
            assert read.get(name, ()) == tuple(filter(None, (" ".join(v.split()) for v in value)))
        elif value and value.strip("0123456789") and value.lower() not in ("true", "false"):
            assert read[name] == " ".join(value.split())


@given(st.text(max_size=200), st.sampled_from(["---\na: 1\n", "+++\n"]))
@settings(deadline=None)
def test_any_front_matter_is_read_or_refused(content, opening):
    data = f"{opening}{content}\n{opening[:3]}\nx".encode("utf-8", "ignore")
    with contextlib.suppress(ProblemError):
        assert parse_document("a.md", data).text == data.decode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-02-03", "2024-02-03"),
        ("2024-02-03T10:00:00+02:00", "2024-02-03"),
        ("2024-02", "2024-02-01"),
        ("3 February 2024", "2024-02-03"),
        ("Feb 3, 2024", "2024-02-03"),
        ("03.02.2024", "2024-02-03"),
        ("Sat, 03 Feb 2024 10:00:00 GMT", "2024-02-03"),
        ("2024-13-01", ""),
        ("03/02/2024", ""),
        ("soon", ""),
    ],
)
def test_dates_have_one_form_and_ambiguous_ones_none(text, expected):
    assert iso_date(text) == expected
