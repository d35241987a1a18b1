"""Which files of a source its owner wants left out: patterns as in ``.gitignore``.

Three places, all in the language of `gitignore(5)`, matched by `pathspec`: a ``.lmstackignore`` in
any folder, for what is below it; the ``.gitignore`` files of the folders, if so asked; and the
`SourceRules` given for a source when it was added. A pattern further down wins over one further up,
and ``.lmstackignore`` over ``.gitignore`` beside it; what a `SourceRules` excludes no file brings
back. As in git, nothing inside a folder that is left out is looked at. Fails closed: a folder whose
patterns cannot be read is not looked into.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pathspec import GitIgnoreSpec

from lmstack.core import Config, InputError, shown
from lmstack.rag.documents import ProblemError
from lmstack.rag.formats.load import read_file
from lmstack.rag.formats.parsed import LoadConfig

__all__ = ["IGNORE_FILE", "Patterns", "SourceRules", "patterns_of"]

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
