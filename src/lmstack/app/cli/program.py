"""The `lmstack` command: assembles the groups, runs one command, turns every failure into lines.

    parse (typer) -> command(out, ...) -> wiring -> the modules

`run` is the only place that catches; see `failure.py` for the exit codes. Commands live one
group a file in `commands/`. Does not cover what happens before this file is loaded (`cli`).
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

import lmstack
from lmstack.app import wiring
from lmstack.app.cli.command import assembled, command, group
from lmstack.app.cli.commands import declare_all
from lmstack.app.cli.failure import (
    EXIT_BROKEN_PIPE,
    EXIT_CRASH,
    EXIT_INTERRUPTED,
    Failure,
    describe,
    is_usage_error,
    place,
    write_report,
)
from lmstack.app.cli.help import SECTIONS
from lmstack.app.cli.output import Output, OutputError
from lmstack.app.formats import is_colourful, printable
from lmstack.core import LmstackError

__all__ = ["build", "run"]


group(
    "",
    " ".join(name for names in SECTIONS.values() for name in names),
    "Answers about your documents, from models on your own machine.\n\nlmstack --help",
)


@command("", "--version: Print the version.")
def root(out: Output, ctx: typer.Context, version: bool = False) -> None:
    """What lmstack can do."""
    if version:
        value = lmstack.__version__
        out.result({"version": value}) if out.as_json else out.line(f"lmstack {value}")
    else:
        out.line(ctx.get_help())


def build() -> typer.Typer:
    """The typer app with every command."""
    declare_all()
    return assembled()


@functools.cache
def _root() -> Any:
    """What parses a command line. It takes tens of milliseconds to make and keeps no state, and a
    failure needs it twice."""
    return get_command(build())


def run(given: list[str], started: float) -> int:
    """Run one command line; the exit code. ``started``: when it was, by `time.monotonic`."""
    if given[:1] == ["help"]:
        given = [*given[1:], "--help"]
    out = Output(tuple(given), as_json="--json" in given, started=started)
    try:
        code = _invoke(given, out)
        out.flush()
        return code
    except BrokenPipeError:
        _drop_stdout()
        return EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        return _interrupted(out)
    except Exception as error:
        if _is_interrupt(error):
            return _interrupted(out)
        return _failed(_of_output(error, out), given, out)


def _is_interrupt(error: Exception) -> bool:
    """Whether a library made another error of a Ctrl-C that landed in it: pydantic does while it
    builds a class, and names the cause in words only."""
    return str(error).rstrip().endswith("KeyboardInterrupt:")


def _invoke(arguments: list[str], out: Output) -> int:
    command = _root()
    if "_LMSTACK_COMPLETE" in os.environ:
        return _complete(command)
    try:
        with command.make_context("lmstack", arguments, obj=out) as context:
            command.invoke(context)
    except typer.Exit as stop:
        return stop.exit_code
    except typer.Abort as stop:
        raise KeyboardInterrupt from stop
    return 0


def _complete(command: Any) -> int:
    """What a shell asks when a person presses Tab, and the script that makes it ask."""
    import typer.completion

    typer.completion.completion_init()  # type: ignore[attr-defined]
    command.main([], prog_name="lmstack")
    return 0


def _interrupted(out: Output) -> int:
    if out.interrupted:
        kept, command = (printable(text, one_line=True) for text in out.interrupted)
        print(f"\nstopped: {kept}\ngo on:   {command}", file=sys.stderr)
    else:
        print("\nstopped: nothing was changed", file=sys.stderr)
    return EXIT_INTERRUPTED


def _failed(error: Exception, arguments: list[str], out: Output) -> int:
    typed = _typed(arguments)
    failure = describe(error, typed) or _crashed(error, typed)
    try:
        if out.as_json and not isinstance(error, OutputError):
            out.result(failure.to_json())
            out.flush()
        else:
            _print_failure(failure)
    except (BrokenPipeError, OutputError):
        _drop_stdout()
    if isinstance(error, OutputError):
        _drop_stdout()
    if out.verbose and not is_usage_error(error) and failure.report is None:
        out.detail(f"raised as {place(error)}")
    return failure.exit_code


def _of_output(error: Exception, out: Output) -> Exception:
    """typer writes help and versions by itself: a full disk under them is told like ours."""
    if isinstance(error, OSError) and not error.filename:
        try:
            out.flush()
        except OutputError as found:
            return found
    return error


def _print_failure(failure: Failure) -> None:
    label = "\x1b[31merror:\x1b[0m" if is_colourful(sys.stderr) else "error:"
    first, *rest = (printable(line, one_line=True) for line in failure.lines())
    print("\n".join([label + first.removeprefix("error:"), *rest]), file=sys.stderr)


def _typed(arguments: list[str]) -> str:
    """The names of commands in what was typed, and nothing else of it."""
    names = ["lmstack"]
    node = _root()
    for word in arguments:
        if word.startswith("-"):
            continue
        node = getattr(node, "commands", {}).get(word)
        if node is None:
            break
        names.append(word)
    return " ".join(names)


def _crashed(error: Exception, typed: str) -> Failure:
    """A fault of ours: where it happened, and a report without what was asked."""
    home = _home()
    report = write_report(error, typed, home) if home else None
    where = place(error)
    message = f"lmstack failed; this is a fault of lmstack, not yours ({where})"
    hint = f"report it with {report}" if report else "lmstack doctor (no report could be written)"
    return Failure(
        message, hint, EXIT_CRASH, "internal_error", report=str(report) if report else None
    )


def _home() -> Path | None:
    """Where crash reports go; whatever is wrong with the home folder, a fault is still told."""
    try:
        return wiring.home()
    except LmstackError:
        return None


def _drop_stdout() -> None:
    """Nobody reads any more: keep the interpreter from complaining when it flushes at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
