"""What an owner rules for paths: which files of a source are left out, and who may see a document.

Patterns are those of `gitignore(5)`, matched by `pathspec`, in three places: a ``.lmstackignore``
in any folder, for what is below it; the ``.gitignore`` files of the folders, if so asked; and the
`SourceRules` given for a source when it was added. A pattern further down wins over one further
up, and ``.lmstackignore`` over ``.gitignore`` beside it; what a `SourceRules` excludes no file
brings back. As in git, nothing inside a folder that is left out is looked at. Fails closed: a
folder whose patterns cannot be read is not looked into.

A caller sees a document only if it holds all of its access labels; the owner (no label set at
all) sees everything. Labels come from rules for a path and everything under it, and from the
document's own ``access`` field; their union counts. An ``access`` field that cannot be read
gives the document a label that nobody can hold. Which caller holds what is the application's
business.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import sqlalchemy as sa
from pathspec import GitIgnoreSpec

from lmstack.core import Config, InputError, shown
from lmstack.rag.catalogue.schema import label_rules
from lmstack.rag.documents import LoadConfig, ProblemError
from lmstack.rag.filters import Fields
from lmstack.rag.formats.load import read_file

__all__ = [
    "IGNORE_FILE",
    "UNREADABLE",
    "Patterns",
    "SourceRules",
    "check_labels",
    "labels_of",
    "may_see",
    "patterns_of",
    "read_rules",
]

IGNORE_FILE = ".lmstackignore"
_GIT_FILE = ".gitignore"
# The group in pathspec's expressions for the slash after a folder.
_SLASH = "ps_d"
_LIMITS = LoadConfig(max_file_bytes=1_000_000)


@dataclass(frozen=True)
class SourceRules(Config):
    """What is read of one source. Patterns are relative to it. ``include``: only files that match
    one (all, if there is none); ``exclude`` wins. ``gitignore``: its .gitignore files hold too."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    gitignore: bool = False

    def __post_init__(self) -> None:
        for name in ("include", "exclude"):
            patterns = tuple(getattr(self, name))
            object.__setattr__(self, name, patterns)
            try:
                GitIgnoreSpec.from_lines(patterns)
            except ValueError as error:
                raise InputError(
                    f"{shown(patterns)} holds a pattern that cannot be read: {error}",
                    hint="write it as in .gitignore: *.log, drafts/, /top/**/old",
                    param=name,
                ) from None

    @cached_property
    def included(self) -> GitIgnoreSpec:
        return GitIgnoreSpec.from_lines(self.include)

    @cached_property
    def excluded(self) -> GitIgnoreSpec:
        return GitIgnoreSpec.from_lines(self.exclude)

    def __str__(self) -> str:
        words = [f"only {pattern}" for pattern in self.include]
        words += [f"not {pattern}" for pattern in self.exclude]
        words += [f"not what {_GIT_FILE} names"] * self.gitignore
        return ", ".join(words)


class Patterns:
    """The patterns that hold in one folder of a source. Immutable; `below` gives those of a
    folder in it."""

    def __init__(
        self,
        root: str,
        rules: SourceRules,
        folder: str = "",
        above: tuple[tuple[str, GitIgnoreSpec], ...] = (),
    ) -> None:
        """``folder`` in ``root``, with ``/``; ``above`` holds the patterns of its parents.
        Raises `ProblemError` if its own cannot be read."""
        self._root, self._rules, self._folder = root, rules, folder
        own = []
        for name in (_GIT_FILE, IGNORE_FILE) if rules.gitignore else (IGNORE_FILE,):
            spec = _read(Path(root, folder, name))
            if spec is not None:
                own.append((folder, spec))
        self._chain = (*above, *own)

    def below(self, folder: str) -> Patterns:
        return Patterns(self._root, self._rules, folder, self._chain)

    def leaves_out(self, path: str, *, is_folder: bool) -> bool:
        """``path`` in the source, with ``/``, in the folder of these patterns."""
        name = f"{path}/" if is_folder else path
        if self._rules.exclude and self._rules.excluded.match_file(name):
            return True
        for folder, spec in reversed(self._chain):
            verdict = _verdict(spec, name[len(folder) + 1 :] if folder else name)
            if verdict is not None:
                return verdict
        if is_folder or not self._rules.include:
            return False
        return not self._rules.included.match_file(name)


def _verdict(spec: GitIgnoreSpec, name: str) -> bool | None:
    """What the last pattern says that names ``name`` itself. `GitIgnoreSpec.check_file` lets a
    pattern for a folder speak for all inside it; here the folders above were judged already, and
    one that was brought back must not bring back what is in it."""
    for pattern in reversed(list(spec.patterns)):
        if pattern.include is None or pattern.regex is None:
            continue
        if any(_names(match, name) for match in pattern.regex.finditer(name)):
            return bool(pattern.include)
    return None


def _names(match: re.Match[str], name: str) -> bool:
    """Whether pathspec's expression found ``name`` and not a folder above it. The expression of
    ``a/**`` ends with the slash, and names only what comes after; others have a group for the
    slash after a folder."""
    if _SLASH not in match.re.groupindex:
        return match.end() < len(name)
    return match[_SLASH] is None or match.end(_SLASH) == len(name)


def _read(path: Path) -> GitIgnoreSpec | None:
    try:
        text = read_file(path, _LIMITS).data.decode("utf-8")
        return GitIgnoreSpec.from_lines(text.splitlines())
    except ProblemError as error:
        if error.kind == "vanished":
            return None
        reason = error.message
    except ValueError as error:
        reason = f"is no list of patterns: {error}"
    raise ProblemError(
        "closed",
        f"the folder is not looked into: its {path.name} {reason}; documents known of it are kept",
        f"mend {path.name}",
    )


def patterns_of(root: str, rules: SourceRules, inner: str) -> Patterns | None:
    """Those that hold in the folder of ``inner`` (a path in the source ``root``), None if it is
    left out, or ``inner`` itself. Raises `ProblemError` as `Patterns` does."""
    patterns = Patterns(root, rules)
    parts = [] if inner == "." else inner.split("/")
    for count in range(1, len(parts) + 1):
        path = "/".join(parts[:count])
        is_folder = count < len(parts) or Path(root, path).is_dir()
        if patterns.leaves_out(path, is_folder=is_folder):
            return None
        if is_folder:
            patterns = patterns.below(path)
    return patterns


# Not a label by the rule below, so that no caller can hold it.
UNREADABLE = "!"
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@:-]{0,63}")


def check_labels(labels: Iterable[str]) -> frozenset[str]:
    """Labels as given by a person; `InputError` for one that is none."""
    found = frozenset(labels)
    for label in sorted(found):
        if not _LABEL.fullmatch(label):
            raise InputError(
                f"{shown(label)} is no access label",
                hint="a label is 1 to 64 letters, digits and _ . @ : -, like hr or board-2026",
                param="label",
            )
    return found


def labels_of(path: str, fields: Fields, rules: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """All labels of the document at the absolute ``path``."""
    found = _own_labels(fields)
    for place, labels in rules.items():
        if path == place or path.startswith(place.rstrip("/") + "/"):
            found |= labels
    return found


def _own_labels(fields: Fields) -> frozenset[str]:
    """Those of the ``access`` field: a text (several with commas) or a list of texts."""
    found: set[str] = set()
    for name, own in fields.items():
        if name.lower() != "access":
            continue
        if isinstance(own, str):
            own = tuple(part.strip() for part in own.split(","))
        readable = isinstance(own, tuple) and all(map(_LABEL.fullmatch, own))
        found.update(own if readable and isinstance(own, tuple) else {UNREADABLE})
    return frozenset(found)


def may_see(held: frozenset[str] | None, labels: Iterable[str]) -> bool:
    """Whether a caller that holds ``held`` (None: the owner) sees a document with ``labels``."""
    return held is None or held.issuperset(labels)


def read_rules(connection: sa.Connection) -> dict[str, frozenset[str]]:
    """The labels given by hand, by absolute path."""
    rows = connection.execute(sa.select(label_rules))
    return {row.path: frozenset(json.loads(row.labels)) for row in rows}
