"""Writes tests/rules/public_surface.txt: every public name of every package, one a line.

    python tests/rules/write_surface.py

Run it when a name is added or taken away on purpose, and look at the difference.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
SURFACE = Path(__file__).with_name("public_surface.txt")


def surface() -> str:
    """The names in `__all__` of each `__init__.py`, as `package.name`, sorted."""
    lines = []
    for path in (ROOT / "src/lmstack").rglob("__init__.py"):
        package = ".".join(path.parent.relative_to(ROOT / "src").parts)
        for node in ast.parse(path.read_text()).body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            if any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets):
                lines += [f"{package}.{name}" for name in ast.literal_eval(node.value)]
    return "\n".join(sorted(lines)) + "\n"


if __name__ == "__main__":
    SURFACE.write_text(surface())
    print(f"wrote {SURFACE.relative_to(ROOT)}")
