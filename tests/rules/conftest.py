"""What the rule tests look at: every source file parsed once, every file that git tracks."""

from __future__ import annotations

import ast
import gc
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"


@dataclass(frozen=True)
class Source:
    """A module: its dotted name, its file and its syntax tree."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node of the tree: most rules look at all of them."""
        return tuple(ast.walk(self.tree))

    @property
    def shown(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"


def module_name(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def sources() -> Mapping[str, Source]:
    found = {}
    gc.disable()  # it would look for garbage among the nodes again and again
    try:
        for path in sorted((SRC / "lmstack").rglob("*.py")):
            text = path.read_text()
            name = module_name(path)
            found[name] = Source(name, path, text, ast.parse(text, str(path)))
        gc.freeze()
    finally:
        gc.enable()
    return found


@pytest.fixture
def sample() -> Callable[..., Source]:
    """A module that is not there, to see that the rules find what they look for."""

    def make(text: str, name: str = "lmstack.core.sample") -> Source:
        path = SRC / Path(*name.split(".")) / "__init__.py"
        return Source(name, path if name.count(".") < 2 else path.parent, text, ast.parse(text))

    return make


@pytest.fixture(scope="session")
def tracked() -> list[Path]:
    """Files under version control; in an exported tree without git, all but build products."""
    listing = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False
    )
    if listing.returncode == 0 and listing.stdout:
        paths = [ROOT / name for name in listing.stdout.split("\0") if name]
        return [path for path in paths if path.is_file()]
    skipped = {".git", ".venv", "build", "__pycache__"}
    return [p for p in ROOT.rglob("*") if p.is_file() and not skipped & {*p.parts}]
