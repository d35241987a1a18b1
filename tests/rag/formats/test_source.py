"""Code is its file, unchanged; Python's functions are sections; nobody's code is refused."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import lmstack.rag.formats.load
from lmstack.rag.formats.load import ProblemError, parse_document

PYTHON = '''import x

# Says why.
@cached
def first():
    """
def not_this(): pass
    """
    text = "def nor_this"

    class Inner:
        def method(self): ...


async def last(): ...
'''


def test_python_has_a_section_for_each_function_and_class():
    document = parse_document("a.py", PYTHON.encode())
    assert [s.path for s in document.sections] == [
        (),
        ("first",),
        ("first", "Inner"),
        ("first", "Inner", "method"),
        ("last",),
    ]
    assert document.text == PYTHON
    assert document.title == "a.py"


def test_decorators_and_comments_go_with_what_they_stand_above():
    document = parse_document("a.py", PYTHON.encode())
    section = document.sections[1]
    assert document.text[section.start :].startswith("# Says why.\n@cached\ndef first")


def test_sections_of_real_code_are_those_of_its_syntax_tree():
    path = Path(lmstack.rag.formats.load.__file__)
    names = [
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    found = [s.title for s in parse_document("load.py", path.read_bytes()).sections if s.level]
    assert sorted(found) == sorted(names)


@pytest.mark.parametrize("text", ["def f(:\n  '''", "class\n", '"""' * 5, "'", "\\", "def"])
def test_broken_python_is_read_all_the_same(text):
    assert parse_document("a.py", text.encode()).text == text


def test_blocks_are_parted_by_blank_lines():
    document = parse_document("a.go", b"package x\n\nfunc a() {\n}\n\n\nfunc b() {}\n")
    assert [document.text[b.start : b.end].strip() for b in document.blocks] == [
        "package x",
        "func a() {\n}",
        "func b() {}",
    ]
    assert {b.kind for b in document.blocks} == {"code"}


def test_minified_code_is_refused():
    with pytest.raises(ProblemError, match="minified"):
        parse_document("a.js", b"var a=1;" * 2_000)
