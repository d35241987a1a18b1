"""The faults that mutmut can put into a file, and what became of those that were run.

Reads what mutmut keeps and makes; decides nothing. Faults that change only words for people
(messages, hints, lines of a log) are left out: how a thing is said is judged by reading it.
"""

from __future__ import annotations

import ast
import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Fault", "faults_of", "results_of", "without_words"]

# A text with a space in it, and lines of which only that is left (or nothing, where mutmut took
# the text away), or which say something; hints, also after what they belong to.
_PROSE = re.compile(r'[fr]?"(?:[^"\\]|\\.)* (?:[^"\\]|\\.)*"')
_HINT = re.compile(r', hint=(?:"…"|None)|, (?=\))')
_SAID = re.compile(r'(?:\w+\()?"…"[),]*|[)\]},]*|None,|(?:hint|help|description)=.*|log\.\w+\(.*')
_MANGLED = re.compile(r"x(?:_|ǁ\w+?ǁ)(\w+?)__mutmut_(?:orig|\d+)")


@dataclass(frozen=True)
class Fault:
    """``was`` and ``now``: the lines that differ; ``name`` is mutmut's."""

    name: str
    file: str
    line: int
    was: tuple[str, ...]
    now: tuple[str, ...]

    @property
    def key(self) -> tuple[object, ...]:
        """What names it whatever stands around it."""
        return self.file, self.was, self.now

    def shown(self) -> str:
        lines = [f"  - {line}" for line in self.was] + [f"  + {line}" for line in self.now]
        return "\n".join([f"{self.file}:{self.line}", *lines])


def faults_of(path: Path, root: Path) -> Iterator[Fault]:
    """All faults of the file at ``path`` that are not about words alone, in order."""
    from mutmut.mutation.file_mutation import mutate_file_contents
    from mutmut.utils.format_utils import get_mutant_name

    source, inner = path.read_text(encoding="utf-8"), path.relative_to(root)
    made = mutate_file_contents(str(path), source)
    lines, spans = made.code.splitlines(), made.line_span_by_function_name
    places = _places(source)

    def function(name: str) -> list[str]:
        span = spans[name]
        return [_MANGLED.sub(r"\1", line) for line in lines[span.start - 1 : span.end]]

    for name in made.mutant_names:
        mangled = name.partition("__mutmut_")[0]
        before, after = function(f"{mangled}__mutmut_orig"), function(name)
        at, was, now = _difference(before, after)
        if without_words(was) != without_words(now):
            line = places.get(mangled, 1) + at
            yield Fault(get_mutant_name(inner, name), str(inner), line, was, now)


def _places(source: str) -> dict[str, int]:
    """The lines of functions, by the names that mutmut gives them."""
    found: dict[str, int] = {}
    for node in ast.parse(source).body:
        for each in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                owner = f"ǁ{node.name}ǁ" if isinstance(node, ast.ClassDef) else "_"
                found[f"x{owner}{each.name}"] = each.lineno
    return found


def _difference(
    before: Sequence[str], after: Sequence[str]
) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    """The place of the first line that differs, and the lines that do."""
    was: list[str] = []
    now: list[str] = []
    first: int | None = None
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for kind, start, end, other, last in matcher.get_opcodes():
        if kind != "equal":
            first = start if first is None else first
            was += (line.strip() for line in before[start:end])
            now += (line.strip() for line in after[other:last])
    return first or 0, tuple(was), tuple(now)


def without_words(lines: Sequence[str]) -> list[str]:
    """What is left of lines without what is only read by people."""
    plain = (_HINT.sub("", _PROSE.sub('"…"', line)) for line in lines)
    return [line for line in plain if not _SAID.fullmatch(line)]


def results_of(place: Path) -> dict[str, str]:
    """What became of the faults that mutmut ran in ``place``: killed, survived or timeout."""
    from mutmut.stats import status_by_exit_code

    known = {"killed": "killed", "timeout": "timeout", "segfault": "killed"}
    not_run = 255  # pytest failed, and not a test: mutmut calls that a timeout
    found: dict[str, str] = {}
    for path in (place / "mutants" / "src").rglob("*.meta"):
        codes: Mapping[str, Any] = json.loads(path.read_text())["exit_code_by_key"]
        for name, code in codes.items():
            if code is not None and (status := status_by_exit_code[code]) != "not checked":
                found[name] = "survived" if code == not_run else known.get(status, "survived")
    return found
