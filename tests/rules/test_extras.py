"""Where an optional package is missing, the extra that an error names exists and brings it."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from lmstack.train.tracking import TRACKERS

# What is named by an expression, and the values that it has.
COMPUTED: dict[str, tuple[str, ...]] = {
    "self.library": TRACKERS,
    "self.sdk": ("openai", "anthropic"),
}


@pytest.fixture(scope="module")
def extras(root: Path) -> dict[str, list[str]]:
    """What users may install, and what each brings."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return {k: v for k, v in project["optional-dependencies"].items() if k != "dev"}


def required(source: Any) -> Iterator[tuple[str, str, str]]:
    """The place, module and extra of every call of `core.require`."""
    imports = [node for node in source.tree.body if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if (node.module or "").startswith("lmstack.core")]
    names = {alias.name for node in ours for alias in node.names}
    for node in source.nodes if "require" in names else ():
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require":
            place = f"{source.shown}:{node.lineno}"
            assert len(node.args) == 2, f"{place}: require takes a module and an extra"
            module, extra = map(_values, node.args)
            if extra == module:
                yield from ((place, each, each) for each in module)
            else:
                yield from ((place, each, one) for each in module for one in extra)


def _values(node: ast.AST) -> tuple[str, ...]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return (node.value,)
    if isinstance(node, ast.IfExp):
        return _values(node.body) + _values(node.orelse)
    if isinstance(node, ast.JoinedStr):  # what follows the first part are modules of its package
        return _values(node.values[0])
    return COMPUTED.get(ast.unparse(node), (ast.unparse(node),))


def _brought(requirements: list[str]) -> set[str]:
    """The names of all distributions that ``requirements`` need, as far as they are installed."""
    found: set[str] = set()
    left = [(Requirement(text), "") for text in requirements]
    while left:
        requirement, extra = left.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name in found or (
            requirement.marker and not requirement.marker.evaluate({"extra": extra})
        ):
            continue
        found.add(name)
        try:
            needs = requires(requirement.name) or []
        except PackageNotFoundError:
            continue
        wanted = sorted(requirement.extras) or [""]
        left += [(Requirement(text), each) for text in needs for each in wanted]
    return found


def test_every_package_that_is_required_comes_with_the_extra_that_is_named(
    sources: Mapping[str, Any], extras: dict[str, list[str]]
) -> None:
    calls = [call for source in sources.values() for call in required(source)]
    assert len(calls) > 40
    assert [call for call in calls if call[2] not in extras] == []
    brought = {extra: _brought(extras[extra]) for extra in {call[2] for call in calls}}
    distributions = packages_distributions()
    wrong = []
    for place, module, extra in calls:
        package = module.partition(".")[0]
        # One that is not installed here is known by its name alone.
        names = {re.sub(r"[-_.]+", "-", n).lower() for n in distributions.get(package, [package])}
        if not names & brought[extra]:
            wrong.append(f"{place}: lmstack[{extra}] does not bring {module}")
    assert not wrong, "\n".join(wrong)


def test_a_wrong_extra_is_found(sample: Any) -> None:
    text = "from lmstack.core import require\nrequire('mcp.types', 'MCP')\nrequire(f'a{x}', 'b')"
    assert [call[1:] for call in required(sample(text))] == [("mcp.types", "MCP"), ("a", "b")]
    with pytest.raises(AssertionError, match="takes a module and an extra"):
        list(required(sample("from lmstack.core import require\nrequire('mcp')")))
    assert list(required(sample("from lmstack.serve import require\nrequire('mcp')"))) == []
    assert "anyio" in _brought(["mcp"])
    assert "anyio" not in _brought(["matplotlib"])
