"""One noun, one meaning: no two public classes share a name."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

SRC = Path(__file__).parents[2] / "src" / "lmstack"
# What is done, and the objective that trains a model to do it: the same thing on both sides.
SHARED = {"Reranking", "TokenClassification", "Translation"}


def public_classes(tree: ast.Module) -> set[str]:
    """Names in `__all__` of classes that are defined here."""
    listed = {
        name
        for node in tree.body
        if isinstance(node, ast.Assign)
        and [getattr(target, "id", "") for target in node.targets] == ["__all__"]
        and isinstance(node.value, ast.List)
        for name in map(ast.literal_eval, node.value.elts)
    }
    return listed & {node.name for node in tree.body if isinstance(node, ast.ClassDef)}


def test_public_classes_of_one_module_are_seen():
    code = '__all__ = ["Answer", "ask"]\nclass Answer: ...\nclass Other: ...\ndef ask(): ...'
    assert public_classes(ast.parse(code)) == {"Answer"}


def test_no_two_public_classes_share_a_name():
    places = defaultdict(list)
    for path in sorted(SRC.rglob("*.py")):
        for name in public_classes(ast.parse(path.read_text("utf-8"))):
            places[name].append(str(path.relative_to(SRC)))
    assert len(places) > 1000
    assert {name: found for name, found in places.items() if len(found) > 1}.keys() == SHARED
