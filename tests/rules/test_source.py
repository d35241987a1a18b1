"""The shape of the source: sizes, docstrings, public names, and what may not be in it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

FILE_SOFT, FILE_HARD = 400, 600
FUNCTION_SOFT, FUNCTION_HARD = 40, 80
CORE_LINES = 1_600
# How many may be over the soft sizes: a habit, not an accident.
FILES_OVER_SOFT, FUNCTIONS_OVER_SOFT = 0.10, 0.03

# What may be over the hard sizes, and why. `path` or `path::function`.
TOO_LONG: dict[str, str] = {}

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
# Files that run code by whoever starts the program, as a script is, each with the reason.
RUNS_CODE = {"src/lmstack/core/own_code.py": "what a recipe or a task file names by its file"}
FORBIDDEN_METHODS = {("torch", "load"), ("torch", "save"), ("os", "system"), ("yaml", "load")}


Sizes = tuple[dict[str, int], dict[str, int]]


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, node
            yield from functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")
        else:
            yield from functions(node, prefix)


@pytest.fixture(scope="module")
def sizes(sources: Mapping[str, Any]) -> Sizes:
    """Lines of each file and of each function."""
    files = {source.shown: len(source.text.splitlines()) for source in sources.values()}
    bodies = {
        f"{source.shown}::{name}": node.end_lineno - node.lineno + 1
        for source in sources.values()
        for name, node in functions(source.tree)
    }
    return files, bodies


def test_no_file_and_no_function_is_over_the_hard_size(sizes: Sizes) -> None:
    files, bodies = sizes
    over = {name: n for name, n in files.items() if n > FILE_HARD}
    over |= {name: n for name, n in bodies.items() if n > FUNCTION_HARD}
    wrong = sorted(f"{n} lines: {name}" for name, n in over.items() if name not in TOO_LONG)
    assert not wrong, "\n".join(wrong)


def test_every_exception_from_the_sizes_is_still_needed(sizes: Sizes) -> None:
    files, bodies = sizes
    needed = {name for name, n in files.items() if n > FILE_HARD}
    needed |= {name for name, n in bodies.items() if n > FUNCTION_HARD}
    assert set(TOO_LONG) <= needed
    assert all(len(reason) > 20 for reason in TOO_LONG.values())


@pytest.mark.parametrize("kind", ["files", "functions"])
def test_few_are_over_the_soft_size(sizes: Sizes, kind: str) -> None:
    files, bodies = sizes
    measured, soft, share = {
        "files": (files, FILE_SOFT, FILES_OVER_SOFT),
        "functions": (bodies, FUNCTION_SOFT, FUNCTIONS_OVER_SOFT),
    }[kind]
    over = sorted(((n, name) for name, n in measured.items() if n > soft), reverse=True)
    assert len(over) <= share * len(measured), "\n".join(f"{n} lines: {name}" for n, name in over)


def test_the_page_keeps_to_the_sizes_too(root: Path) -> None:
    folder = root / "src/lmstack/app/page/static"
    kinds = (".js", ".css", ".html")
    files = [p for p in folder.rglob("*") if p.suffix in kinds]
    wrong = [f"{p.name}" for p in files if len(p.read_text().splitlines()) > FILE_HARD]
    assert not wrong


def test_core_stays_small(sources: Mapping[str, Any]) -> None:
    lines = sum(
        len(s.text.splitlines()) for s in sources.values() if s.name.startswith("lmstack.core")
    )
    assert lines < CORE_LINES


def test_every_file_says_what_it_covers(sources: Mapping[str, Any]) -> None:
    wrong = [s.shown for s in sources.values() if not (ast.get_docstring(s.tree) or "").strip()]
    assert not wrong, "\n".join(wrong)


def public_names(source: Any) -> list[str] | None:
    for node in source.tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets):
            return list(ast.literal_eval(node.value))
    return None


def test_every_file_lists_its_public_names(sources: Mapping[str, Any]) -> None:
    wrong = [
        s.shown
        for s in sources.values()
        if public_names(s) is None and s.path.name != "__main__.py"
    ]
    assert not wrong, "\n".join(wrong)


def test_public_names_are_sorted_and_named_once(sources: Mapping[str, Any]) -> None:
    wrong = [s.shown for s in sources.values() if len(set(n := public_names(s) or [])) != len(n)]
    assert not wrong, "\n".join(wrong)


def forbidden(source: Any) -> Iterator[str]:
    for node in source.nodes:
        what = None
        if isinstance(node, ast.Import):
            what = next((a.name for a in node.names if a.name in FORBIDDEN_MODULES), None)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            what = node.module if node.module in FORBIDDEN_MODULES else None
            if node.module == "torch" and any(a.name in ("load", "save") for a in node.names):
                what = "torch.load"
        elif isinstance(node, ast.Call):
            what = _forbidden_call(node)
        if what:
            yield f"{source.shown}:{node.lineno} {what}"


def _forbidden_call(node: ast.Call) -> str | None:
    function = node.func
    true = {
        keyword.arg
        for keyword in node.keywords
        if isinstance(keyword.value, ast.Constant) and keyword.value.value is True
    }
    if wrong := true & {"shell", "allow_pickle"}:
        return f"{min(wrong, key=str)}=True"
    if isinstance(function, ast.Name):
        return function.id if function.id in FORBIDDEN_CALLS else None
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        pair = (function.value.id, function.attr)
        checked = pair == ("torch", "load") and "weights_only" in true
        return ".".join(pair) if pair in FORBIDDEN_METHODS and not checked else None
    return None


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import dill",
        "eval('1')",
        "exec(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=safe)",
        "from torch import load",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
    ],
)
def test_every_way_to_run_code_is_seen(sample: Any, text: str) -> None:
    assert list(forbidden(sample(text)))


@pytest.mark.parametrize(
    "text",
    [
        "model.eval()",
        "re.compile('a')",
        "np.load(path)",
        "json.load(f)",
        "torch.load(path, weights_only=True)",
    ],
)
def test_what_only_looks_like_it_passes(sample: Any, text: str) -> None:
    assert not list(forbidden(sample(text)))


def test_nothing_runs_code_from_data(sources: Mapping[str, Any]) -> None:
    found = {source.shown: list(forbidden(source)) for source in sources.values()}
    wrong = [line for shown, lines in found.items() for line in lines if shown not in RUNS_CODE]
    assert not wrong, "\n".join(wrong)
    for shown in RUNS_CODE:
        assert [line.split()[-1] for line in found[shown]] == ["exec", "compile"]


def test_nothing_is_left_for_later(sources: Mapping[str, Any]) -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    wrong = [
        f"{source.shown}:{number} {line.strip()}"
        for source in sources.values()
        for number, line in enumerate(source.text.splitlines(), 1)
        if marks.search(line)
    ]
    wrong += [
        f"{source.shown}:{node.lineno} {ast.unparse(node)}"
        for source in sources.values()
        for node in source.nodes
        if isinstance(node, ast.Raise) and node.exc and "NotImplemented" in ast.unparse(node.exc)
    ]
    assert not wrong, "\n".join(wrong)


def test_an_empty_body_is_a_protocol_or_abstract(sources: Mapping[str, Any]) -> None:
    wrong = []
    for source in sources.values():
        protocols = {
            node.name: node
            for node in source.nodes
            if isinstance(node, ast.ClassDef)
            and any("Protocol" in ast.unparse(base) for base in node.bases)
        }
        for name, node in functions(source.tree):
            owner = name.rpartition(".")[0].rpartition(".")[2]
            marked = any(
                mark in ast.unparse(d)
                for d in node.decorator_list
                for mark in ("abstract", "overload")
            )
            if _is_empty(node) and owner not in protocols and not marked:
                wrong.append(f"{source.shown}:{node.lineno} {name}")
    assert not wrong, "\n".join(wrong)


def _is_empty(node: Any) -> bool:
    """Nothing but an ellipsis, besides a docstring. `pass` is a deliberate no-op."""
    body = [
        n for n in node.body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))
    ]
    ellipsis = any(
        isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant) and n.value.value is ...
        for n in node.body
    )
    return not body and ellipsis
