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
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mutmut.mutation.file_mutation import MutatedFile

__all__ = [
    "Fault",
    "faults_of",
    "put_into",
    "results_of",
    "sites_of",
    "with_fault",
    "without_words",
]

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

    @property
    def function(self) -> str:
        """Where it is, by the name that mutmut gives the function."""
        return self.name.rpartition(".")[2].partition("__mutmut_")[0]

    def shown(self) -> str:
        lines = [f"  - {line}" for line in self.was] + [f"  + {line}" for line in self.now]
        return "\n".join([f"{self.file}:{self.line}", *lines])


def sites_of(path: Path, root: Path) -> list[tuple[str, str]]:
    """Each fault of the file at ``path``, of words or not, as its function and its name.

    Nothing is written out, so this takes a fraction of the time of `faults_of`."""
    from mutmut.mutation.file_mutation import create_mutations, group_by_top_level_node
    from mutmut.utils.format_utils import get_mutant_name

    module, mutations, _, _ = create_mutations(str(path), path.read_text(encoding="utf-8"))
    grouped = group_by_top_level_node(mutations)
    found: list[tuple[str, str]] = []
    for mangled, node in _functions(module.body):
        names = (f"{mangled}__mutmut_{number + 1}" for number in range(len(grouped.get(node, ()))))
        found += ((mangled, get_mutant_name(path.relative_to(root), name)) for name in names)
    return found


def _functions(body: Sequence[Any], owner: str = "_") -> Iterator[tuple[str, Any]]:
    """The functions of a syntax tree, of libcst or of `ast`, by the names that mutmut gives them;
    methods too, but not the methods of classes in classes."""
    for node in body:
        kind = type(node).__name__
        name = getattr(node, "name", "")
        name = getattr(name, "value", name)
        if kind in ("FunctionDef", "AsyncFunctionDef"):
            yield f"x{owner}{name}", node
        elif kind == "ClassDef" and owner == "_":
            inner = node.body if isinstance(node.body, list) else node.body.body
            yield from _functions(inner, f"ǁ{name}ǁ")


def faults_of(path: Path, root: Path, functions: AbstractSet[str] | None = None) -> Iterator[Fault]:
    """The faults of the file at ``path`` that are not about words alone, in order.

    ``functions``: in these alone, by the names that mutmut gives them; in all if None."""
    from mutmut.utils.format_utils import get_mutant_name

    source, inner = path.read_text(encoding="utf-8"), path.relative_to(root)
    made = _mutated(path, functions)
    lines, spans = made.code.splitlines(), made.line_span_by_function_name
    places = {name: node.lineno for name, node in _functions(ast.parse(source).body)}

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


def _mutated(path: Path, functions: AbstractSet[str] | None) -> MutatedFile:
    from mutmut.mutation.file_mutation import mutate_file_contents

    source = path.read_text(encoding="utf-8")
    if functions is None:
        return mutate_file_contents(str(path), source)
    lines: set[int] = set()
    for name, node in _functions(ast.parse(source).body):
        if name in functions:
            lines.update(range(node.lineno, node.end_lineno + 1))
    return mutate_file_contents(str(path), source, lines)


def with_fault(path: Path, fault: Fault) -> str:
    """The file at ``path``, which is `Fault.file`, with the fault in it and nothing of mutmut."""
    lines = path.read_text(encoding="utf-8").splitlines()
    made = _mutated(path, {fault.function})
    span = made.line_span_by_function_name[fault.name.rpartition(".")[2]]
    written = made.code.splitlines()[span.start - 1 : span.end]
    # Comments and empty lines before a function belong to it in mutmut's tree.
    changed = dropwhile(lambda line: not line.lstrip().startswith(("def ", "async ", "@")), written)
    node = dict(_functions(ast.parse("\n".join(lines)).body))[fault.function]
    first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
    lines[first - 1 : node.end_lineno] = [_MANGLED.sub(r"\1", line) for line in changed]
    return "\n".join(lines) + "\n"


def put_into(place: Path, path: Path, root: Path, functions: AbstractSet[str]) -> None:
    """Write the file at ``path`` with all faults of ``functions`` where mutmut looks for it: it
    takes a file that is newer than its source as it is. By itself it would write the faults of
    all functions, which takes minutes and makes each test slower."""
    from mutmut.utils.format_utils import get_mutant_name

    inner = path.relative_to(root)
    made, written = _mutated(path, functions), place / "mutants" / inner
    written.parent.mkdir(parents=True, exist_ok=True)
    written.write_text(made.code, encoding="utf-8")
    hashes = made.hash_by_function_name.items()
    facts = {
        "exit_code_by_key": {get_mutant_name(inner, name): None for name in made.mutant_names},
        "hash_by_function_name": dict(hashes),
        "type_check_error_by_key": {},
        "durations_by_key": {},
        "estimated_durations_by_key": {},
    }
    written.with_name(f"{written.name}.meta").write_text(json.dumps(facts))


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
    """What became of the faults that mutmut ran in ``place``: killed, survived or timeout.

    One whose run somebody interrupted (2) is left out, and so runs again; `ordered` has tests that
    cannot be collected end as tests that fail."""
    from mutmut.stats import status_by_exit_code

    known = {"killed": "killed", "timeout": "timeout", "segfault": "killed"}
    not_run = 255  # pytest failed, and not a test: mutmut calls that a timeout
    none_yet = ("not checked", "check was interrupted by user")
    found: dict[str, str] = {}
    for path in (place / "mutants" / "src").rglob("*.meta"):
        codes: Mapping[str, Any] = json.loads(path.read_text())["exit_code_by_key"]
        for name, code in codes.items():
            if (status := status_by_exit_code[code]) not in none_yet:
                found[name] = "survived" if code == not_run else known.get(status, "survived")
    return found
