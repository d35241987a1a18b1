"""How a command is declared: beside its function, in the words that `--help` prints.

    @command(
        "search",
        '''
        QUERY: What to look for.
        --mode MODE: By words and meaning (hybrid), meaning only (dense), words only (lexical).
        -k, --passages N 1..1000: How many passages.

        lmstack search "ports" --docs docs
        ''',
    )
    def search(out: Output, query: str, mode: Mode = "hybrid", k: int = 10, docs: Docs = None) ...
        ''' One line for the overview.

        More for --help. '''

Each line says one parameter of the function, in their order: the names of an option, how its value
is called, its limits, and what it is for. Parameters whose annotation says it already, such as
``Docs``, have no line. The last paragraph are the examples. A line that is indented goes on with
the one before.

The function gets the `Output` that the options of every command chose. Its body reaches every other
module through `wiring`, which imports them when called, so `lmstack --help` loads none.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_origin

import typer

from lmstack.app.cli.help import HelpCommand, HelpGroup
from lmstack.app.cli.output import Output

__all__ = ["COMMANDS", "assembled", "command", "group", "option"]

F = TypeVar("F", bound=Callable[..., None])

_LINE = re.compile(
    r"(?P<names>-[^\s,:]+(?:, -[^\s,:]+)*)?(?: ?(?P<metavar>[^\s:]+))?"
    r"(?: (?P<least>[\d.-]*?)\.\.(?P<most>[\d.]*))?:(?: (?P<help>.+))?"
)


@dataclass(frozen=True)
class Command:
    """``text``: paragraphs of the lines of the parameters that no annotation says, and, but for
    a group, one of examples."""

    function: Callable[..., None]
    text: list[list[str]]
    returns: bool
    many: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    help: str
    examples: str
    commands: list[str]
    usual: str | None


# By the words after `lmstack`.
COMMANDS: dict[str, Command] = {}
GROUPS: dict[str, Group] = {}


def command(
    path: str, text: str, *, returns: bool = True, many: tuple[str, ...] = ()
) -> Callable[[F], F]:
    """Declare ``function(out, ...)`` as ``lmstack PATH``, with the options and examples of
    ``text``. Of a group, which has its own examples, it is what is done where no command is named;
    a parameter ``ctx`` is given typer's context. ``returns``: it has a result, so `--json`.
    ``many``: options that take all the words up to the next option."""

    def declare(function: F) -> F:
        COMMANDS[path] = Command(function, _paragraphs(text), returns, many)
        return function

    return declare


def group(path: str, commands: str, text: str, *, usual: str | None = None) -> None:
    """Declare the commands below ``lmstack PATH``, in the order in which they are shown. ``text``:
    the help, and the examples. ``usual``: the command that is meant where the first word names
    none."""
    *help_text, examples = _paragraphs(text)
    paragraphs = "\n\n".join(" ".join(lines) for lines in help_text)
    GROUPS[path] = Group(paragraphs, "\n".join(examples), commands.split(), usual)


def option(line: str, **more: Any) -> Any:
    """An option, or an argument, as ``line`` says it."""
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError(f"this says no parameter: {line!r}")
    says: dict[str, Any] = {name: found[name] for name in ("metavar", "help")} | more
    for name, limit in (("min", found["least"]), ("max", found["most"])):
        if limit:
            says[name] = float(limit) if "." in limit else int(limit)
    if found["names"]:
        return typer.Option(*found["names"].split(", "), **says)
    return typer.Argument(**says)


def assembled(path: str = "") -> typer.Typer:
    """The group ``path``, with all below it, as typer reads it."""
    made = GROUPS[path]
    app = typer.Typer(
        cls=type("UsualGroup", (HelpGroup,), {"usual": made.usual}) if made.usual else HelpGroup,
        help=made.help,
        epilog=made.examples,
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
        invoke_without_command=True,
    )
    own = COMMANDS.get(path, Command(_show_help, [], returns=False))
    app.callback(invoke_without_command=True)(_as_typer_reads(own, own.text, is_group=True))
    for name in made.commands:
        inner = f"{path} {name}".strip()
        if inner in GROUPS:
            app.add_typer(assembled(inner), name=name)
            continue
        found = COMMANDS[inner]
        *lines, examples = found.text
        app.command(
            name,
            cls=type("ManyCommand", (HelpCommand,), {"many": found.many}),
            help=inspect.getdoc(found.function),
            epilog="\n".join(examples),
        )(_as_typer_reads(found, lines))
    return app


def _show_help(out: Output, ctx: typer.Context) -> None:
    out.line(ctx.get_help())


def _paragraphs(text: str) -> list[list[str]]:
    """The lines of each, where one that is indented goes on with the one before."""
    found = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        lines: list[str] = []
        for line in paragraph.splitlines():
            if line.startswith(" "):
                lines[-1] += f" {line.strip()}"
            else:
                lines.append(line)
        found.append(lines)
    return found


AsJson = Annotated[bool, option("--json: Print the result as JSON.")]
Quiet = Annotated[bool, option("--quiet, -q: No progress, no notes.")]
Verbose = Annotated[int, option("--verbose, -v: Say more; twice for the log.", count=True)]


def _own_parameters(
    function: Callable[..., None], text: list[list[str]]
) -> list[inspect.Parameter]:
    """Of ``function``, after the `Output`; those that no annotation says get their lines."""
    lines = iter([line for paragraph in text for line in paragraph])
    found = []
    signature = inspect.signature(function, eval_str=True)
    for each in list(signature.parameters.values())[1:]:
        if each.name != "ctx":
            annotation = each.annotation
            if get_origin(annotation) is not Annotated:
                annotation = Annotated[annotation, option(next(lines))]
            found.append(each.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=annotation))
    if left := list(lines):
        raise ValueError(f"{function.__name__} has no parameter for {left}")
    return found


def _as_typer_reads(
    declared: Command, text: list[list[str]], *, is_group: bool = False
) -> Callable[..., None]:
    """A function whose signature says all options, those that every command has too."""
    function = declared.function
    wants_context = "ctx" in inspect.signature(function).parameters
    common = [("quiet", Quiet, False), ("verbose", Verbose, 0)]
    if declared.returns:
        common.insert(0, ("as_json", AsJson, False))
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("ctx", keyword, annotation=typer.Context),
        *_own_parameters(function, text),
        *(inspect.Parameter(n, keyword, default=d, annotation=a) for n, a, d in common),
    ]

    def run(
        ctx: typer.Context,
        quiet: bool,
        verbose: int,
        as_json: bool = False,
        **arguments: Any,
    ) -> None:
        out = ctx.find_object(Output) or Output()
        choose(out, as_json=as_json, quiet=quiet, verbose=verbose)
        if is_group and ctx.invoked_subcommand is not None:
            return
        function(out, **({"ctx": ctx} if wants_context else {}), **arguments)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    run.__name__ = function.__name__
    return run


def choose(out: Output, *, as_json: bool, quiet: bool, verbose: int) -> None:
    """Options given before or after the command's name add up."""
    out.as_json |= as_json
    out.quiet |= quiet
    out.verbose += verbose
    if out.verbose:
        level = logging.DEBUG if out.verbose > 1 else logging.INFO
        logging.basicConfig(format="%(name)s: %(message)s")
        logging.getLogger("lmstack").setLevel(level)
