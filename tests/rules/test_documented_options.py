"""Every `lmstack` command line on the pages is one that the program reads.

Commands, options, and the values that options take are checked, and nothing is run: that takes
hours and is `tests/e2e/test_documented_commands.py`. What an argument names need not be there.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.e2e.documented import sequences
from typer.main import get_command

from lmstack.app.cli.output import Output
from lmstack.app.cli.program import build

OPERATOR = re.compile(r"[|&;<>()]+")


@pytest.fixture(scope="module")
def root_command() -> Any:
    return get_command(build())


def lines_of(text: str) -> Iterator[list[str]]:
    """The words after ``lmstack`` in each command of a line of a shell; redirections are left
    out."""
    lexer = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words: list[str] = []
    skips = False
    for word in [*lexer, ";"]:
        if skips:
            skips = False
        elif not OPERATOR.fullmatch(word):
            words.append(word)
        elif word[0] in "<>":
            skips = True
        else:
            if words[:1] == ["lmstack"]:
                yield words[1:]
            words = []


def problem(root_command: Any, words: list[str]) -> str:
    """Why the program does not read ``words``; "" where it does."""
    command, context, rest = root_command, None, list(words)
    try:
        while True:
            context = command.make_context(command.name, rest, parent=context, obj=Output())
            names = [*context._protected_args, *context.args]
            if not names or not hasattr(command, "commands"):
                return ""
            _, command, rest = command.resolve_command(context, names)
    except typer.Exit:  # --help, --version
        return ""
    except Exception as error:
        return f"lmstack {shlex.join(words)}: {type(error).__name__} {error}"


def test_every_documented_command_line_is_read(root: Path, root_command: Any) -> None:
    lines = [
        (page.name, words)
        for page in sequences(root)
        for command in page.commands
        for words in lines_of(command.text)
    ]
    assert len(lines) > 150
    wrong = [f"{page}: {found}" for page, words in lines if (found := problem(root_command, words))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("lmstack eval run boolq --limit 50 > out.txt", True),
        ("lmstack eval run boolq --limit fifty", False),
        ("lmstack eval run boolq --no-such", False),
        ("cat x | lmstack run chat && lmstack evil", False),
        ("lmstack --help", True),
    ],
)
def test_a_line_that_is_not_read_is_found(root_command: Any, text: str, read: bool) -> None:
    found = [wrong for words in lines_of(text) if (wrong := problem(root_command, words))]
    assert bool(found) != read
