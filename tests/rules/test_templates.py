"""HTML, SVG and CSS stand in files of the package, and no value gets into them unescaped."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from lmstack.app.report.pages import environment

# Not those that are letters in angle brackets elsewhere: <s> and <b> of vocabularies.
TAGS = (
    *("article", "body", "button", "circle", "code", "details", "dd", "div", "dl", "dt", "figure"),
    *("footer", "form", "h1", "h2", "h3", "h4", "head", "header", "html", "img", "input", "label"),
    *("li", "line", "link", "main", "meta", "ol", "option", "p", "path", "polygon", "polyline"),
    *("pre", "rect", "script", "section", "select", "span", "style", "summary", "svg", "table"),
    *("tbody", "td", "text", "textarea", "th", "thead", "title", "tr", "ul"),
)
MARKUP = re.compile(rf"</?(?:{'|'.join(TAGS)})(?=[\s/>]|$)", re.IGNORECASE)
UNESCAPED = re.compile(r"\|\s*safe\b|autoescape|Markup\(|def __html__")
# Files that may, each with the reason.
ESCAPES = {
    "src/lmstack/app/report/pages.py": "escapes; puts styles and scripts of the package in a page",
    "src/lmstack/app/report/charts/shapes.py": "a chart is what its own template wrote",
}


def docstrings(tree: ast.AST) -> set[int]:
    """Ids of the nodes that are no values: docstrings, and strings that stand alone."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def markup_in(source: Any) -> Iterator[str]:
    said = docstrings(source.tree)
    for node in source.nodes:
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in said and (found := MARKUP.search(node.value)):
            yield f"{source.shown}:{node.lineno} {found[0]}"


@pytest.mark.parametrize(
    "text",
    [
        "x = '<div>'",
        "x = '<p class=\"soft\">' + y",
        "x = f'<td>{y}'",
        "x = f'<svg viewBox=\"{y}\">'",
        "x = 'end</table>'",
        "x = '<li'",
    ],
)
def test_markup_in_a_string_is_seen(sample: Any, text: str) -> None:
    assert list(markup_in(sample(text)))


@pytest.mark.parametrize("text", ["'''A <div>.'''", "x = '<s>'", "x = 'a <task> b'"])
def test_what_is_no_markup_is_not(sample: Any, text: str) -> None:
    assert list(markup_in(sample(text))) == []


def test_no_markup_stands_in_python(sources: Mapping[str, Any]) -> None:
    wrong = [each for source in sources.values() for each in markup_in(source)]
    assert not wrong, "\n".join(wrong)


@pytest.fixture(scope="module")
def templates(root: Path) -> list[Path]:
    return sorted((root / "src/lmstack/app").glob("**/templates/*"))


def test_no_value_gets_into_a_page_unescaped(
    templates: list[Path], sources: Mapping[str, Any], root: Path
) -> None:
    assert len(templates) > 10
    python = [s.path for s in sources.values() if s.name.startswith("lmstack.app")]
    found = {p for p in (*templates, *python) if UNESCAPED.search(p.read_text())}
    assert {path.relative_to(root).as_posix() for path in found} == set(ESCAPES)
    assert environment().autoescape is True


def test_every_template_is_one_that_can_be_read_and_a_wrong_name_is_an_error(
    templates: list[Path], root: Path
) -> None:
    made = environment()
    for path in templates:
        made.get_template(path.relative_to(root / "src/lmstack/app").as_posix())
    with pytest.raises(Exception, match="'misspelt' is undefined"):
        made.from_string("{{ misspelt }}").render()


def test_templates_and_what_they_use_are_in_the_package(root: Path) -> None:
    package = tomllib.loads((root / "pyproject.toml").read_text())
    patterns = package["tool"]["setuptools"]["package-data"]["lmstack"]
    base = root / "src/lmstack"
    packed = {path for pattern in patterns for path in base.glob(pattern)}
    kinds = {".html", ".svg", ".css", ".js"}
    files = {path for path in base.rglob("*") if path.suffix in kinds}
    assert files <= packed
    for path in files:
        assert (resources.files("lmstack") / path.relative_to(base).as_posix()).is_file()


def test_colours_stand_in_the_file_of_tokens_alone(root: Path) -> None:
    styles = set((root / "src/lmstack/app").rglob("*.css"))
    tokens = root / "src/lmstack/app/report/tokens.css"
    hexes = re.compile(r"#[0-9a-f]{3,8}\b", re.IGNORECASE)
    wrong = {
        f"{path.name}: {found}"
        for path in styles - {tokens}
        for rule in path.read_text().split("}")
        for found in hexes.findall(rule.partition("{")[2])
    }
    assert wrong == set()
