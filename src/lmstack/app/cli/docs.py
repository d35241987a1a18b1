"""`python -m lmstack.app.cli.docs` writes docs/cli.md from the commands; `--check` only compares.

The page repeats what `--help` prints, word for word, so a help text that changes makes the
check fail until the page is written again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from typer.main import get_command

from lmstack.app.cli.help import SECTIONS, help_text, overview
from lmstack.app.cli.program import build

__all__ = ["main", "page"]

PATH = Path("docs/cli.md")
INTRODUCTION = """\
# Command line

Every command has `--help` with an example. Those that return something take `--json`. Progress
and notes go to standard error, results to standard output; colour only where a terminal shows it
and `NO_COLOR` is unset. This page is written by `python -m lmstack.app.cli.docs`.

| Exit code | Meaning |
|---|---|
| 0 | done; an abstention is an answer too |
| 1 | it could not be done; `error:` says what, `try:` what to do |
| 2 | the command line is wrong |
| 70 | a fault of lmstack; the message names the crash report |
| 130 | stopped by Ctrl-C |
| 141 | the program that read the output ended |
| 143 | `lmstack up` was ended by SIGTERM (`kill`) |

With `--json` an error is one object on standard output:
`{"error": {"message", "hint", "code", "param"}}`.

Tab completes commands and options after `eval "$(_LMSTACK_COMPLETE=source_bash lmstack)"`
(`source_zsh` and `source_fish` for those shells).
"""


def page() -> str:
    """The text of docs/cli.md."""
    root: Any = get_command(build())
    parts = [INTRODUCTION, _fenced(overview(root))]
    for section, names in SECTIONS.items():
        parts.append(f"## {section}\n")
        for name in names:
            parts += _command_parts(root.commands[name], f"lmstack {name}", "###")
    return "\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    text = page()
    if given == ["--check"]:
        fresh = PATH.exists() and PATH.read_text(encoding="utf-8") == text
        if not fresh:
            print(f"{PATH} is stale; run: python -m lmstack.app.cli.docs", file=sys.stderr)
        return 0 if fresh else 1
    PATH.write_text(text, encoding="utf-8")
    return 0


def _command_parts(command: Any, path: str, heading: str) -> Iterator[str]:
    yield f"{heading} {path}\n"
    yield _fenced(help_text(command, path))
    for name, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield from _command_parts(child, f"{path} {name}", heading + "#")


def _fenced(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```\n"


if __name__ == "__main__":
    sys.exit(main())
