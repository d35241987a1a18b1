"""The commands, programs and outputs that README, docs/ and the help show, read from the pages.

A *sequence* is what a reader does in one sitting, in order: all commands of one page, or the
examples of one command in docs/cli.md. Commands come from `sh` blocks, from `$ ` lines in `text`
blocks (with the output that stands below them), from `python` blocks, and from inline code that
is a whole command line of lmstack, Python, pip or make. Inline code that only names a command
(`lmstack index add`) is none. A file that a page shows, below a line that names it and ends with a
colon, is there for the page's commands.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Command", "Sequence", "sequences"]

# Logs of what was decided and measured, not pages to follow.
LOGS = ("docs/decisions.md", "docs/first_questions.md")
PROGRAM = r"(?:lmstack|pip|python3?|make|torchrun|\.venv/bin/\w+)"
INLINE = rf"(?<!`)`({PROGRAM} [^`\n…]+)`(?!`)"
BLOCK = re.compile(rf"^```(\w*)\n(.*?)^```|{INLINE}", re.MULTILINE | re.DOTALL)
BEGINS = re.compile(rf"^ *{PROGRAM} ", re.MULTILINE)
TYPED = ("sh", "text", "python")
SHOWN_FILE = re.compile(
    r"^[^\n`]*`([\w./-]+\.(?:md|yaml|json|jsonl))`[^\n`]*:\n\n"
    r"```(?:markdown|yaml|json)\n(.*?)^```",
    re.MULTILINE | re.DOTALL,
)
EXAMPLE = re.compile(r"^#{3,5} (.+?)$|^Example\n((?:  .*\n)+)", re.M)
# A file that a command of a page makes: ``cat > FILE <<'EOF'``, to the line EOF.
MADE = re.compile(r"cat > (\S+) <<'EOF'\n(.*\n)EOF", re.DOTALL)
NAME_ALONE = re.compile(r"lmstack( [a-z][a-z-]*)*")


@dataclass(frozen=True)
class Command:
    """``text``: as typed. ``output``: the lines that the page shows below it, or None."""

    text: str
    output: tuple[str, ...] | None = None


@dataclass
class Sequence:
    """``name``: of the page, with the command's name for docs/cli.md. ``files``: texts by path."""

    name: str
    commands: list[Command] = field(default_factory=list)
    programs: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    @property
    def made(self) -> dict[str, str]:
        """Files that the commands write down themselves, by path."""
        found = (MADE.fullmatch(command.text) for command in self.commands)
        return {match[1]: match[2] for match in found if match}


def sequences(root: Path) -> list[Sequence]:
    """Of every page below ``root``, those without a command or program left out."""
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    found = []
    for page in pages:
        name, text = page.relative_to(root).as_posix(), page.read_text(encoding="utf-8")
        if name == "docs/cli.md":
            found += _of_help(name, text)
        elif name not in LOGS:
            found.append(_of_page(name, text))
    return [each for each in found if each.commands or each.programs]


def _of_page(name: str, text: str) -> Sequence:
    sequence = Sequence(name, files=dict(SHOWN_FILE.findall(text)))
    for language, block, inline in BLOCK.findall(text):
        assert language in TYPED or not BEGINS.search(block), (
            f"{name} has a command in a block of the language {language!r}, which no test types"
        )
        if language == "sh":
            sequence.commands += (Command(line) for line in _lines(block))
        elif language == "text":
            sequence.commands += _shown(block)
        elif language == "python":
            sequence.programs.append(block)
        else:
            sequence.commands += _whole(inline)
    return sequence


def _whole(inline: str) -> Iterator[Command]:
    if inline and not NAME_ALONE.fullmatch(inline):
        yield Command(inline)


def _of_help(name: str, text: str) -> Iterator[Sequence]:
    said = [command for inline in re.findall(INLINE, text) for command in _whole(inline)]
    yield Sequence(name, said)
    title = name
    for heading, example in EXAMPLE.findall(text):
        title = heading or title
        if example:
            lines = [line.strip() for line in example.splitlines()]
            yield Sequence(f"{name}: {title}", [Command(line) for line in lines])


def _lines(block: str) -> Iterator[str]:
    """Commands of a `sh` block: one a line, or several lines while a quote or `\\` is open."""
    command = ""
    for line in block.splitlines():
        command = f"{command}\n{line}" if command else line
        if _complete(command):
            if command.strip() and not command.lstrip().startswith("#"):
                yield command
            command = ""
    assert not command, f"a quote is never closed: {command}"


def _complete(command: str) -> bool:
    if "<<'EOF'" in command:
        return command.endswith("\nEOF")
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return False
    return not command.endswith("\\")


def _shown(block: str) -> Iterator[Command]:
    """Commands after `$ ` in a block that also shows what they print."""
    for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
        lines = part.rstrip("\n").split("\n")
        count = next(n for n in range(1, len(lines) + 1) if _complete("\n".join(lines[:n])))
        yield Command("\n".join(lines[:count]), tuple(lines[count:]))
