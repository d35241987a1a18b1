"""How a command is declared: one decorator adds the options every command has.

    @command(app, "search", example='lmstack search "ports" --index docs.index')
    def search(out: Output, query: ..., k: ... = 10) -> None:
        ''' One line for the overview.

        More for --help. '''

The function gets the `Output` that those options chose. Its body reaches every other module
through `wiring`, which imports them when called, so `lmstack --help` loads none.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

from lmstack.app.cli.help import HelpCommand, HelpGroup
from lmstack.app.cli.output import Output

__all__ = ["command", "group", "group_callback"]

F = TypeVar("F", bound=Callable[..., None])

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")]
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Say more; twice for the log.")
]


def group(help_text: str, example: str = "", usual: str | None = None) -> typer.Typer:
    """A typer app in our clothes. Called without a command it shows its help, unless
    `group_callback` gives it something better to do. ``usual``: the command that is meant where
    the first word names none."""
    app = typer.Typer(
        cls=type("UsualGroup", (HelpGroup,), {"usual": usual}) if usual else HelpGroup,
        help=help_text,
        epilog=example or None,
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
        invoke_without_command=True,
    )
    group_callback(app)(_show_help)
    return app


def _show_help(out: Output, ctx: typer.Context) -> None:
    out.line(ctx.get_help())


def command(
    app: typer.Typer,
    name: str,
    *,
    example: str,
    returns: bool = True,
    many: tuple[str, ...] = (),
) -> Callable[[F], F]:
    """Register ``function(out, ...)`` on ``app``. ``returns``: it has a result, so `--json`.
    ``many``: options that take all the words up to the next option."""

    def register(function: F) -> F:
        app.command(
            name,
            cls=type("ManyCommand", (HelpCommand,), {"many": many}) if many else HelpCommand,
            help=inspect.getdoc(function),
            epilog=example,
        )(_with_common_options(function, returns))
        return function

    return register


def group_callback(app: typer.Typer, *, returns: bool = False) -> Callable[[F], F]:
    """Register ``function(out, ...)``: what the group does when no command is named. A parameter
    ``ctx`` is given typer's context."""

    def register(function: F) -> F:
        app.callback(invoke_without_command=True)(
            _with_common_options(function, returns, is_group=True)
        )
        return function

    return register


def _with_common_options(
    function: Callable[..., None], returns: bool, *, is_group: bool = False
) -> Callable[..., None]:
    taken = dict(inspect.signature(function, eval_str=True).parameters)
    wants_context = taken.pop("ctx", None) is not None
    own = list(taken.values())[1:]
    common = [("quiet", Quiet, False), ("verbose", Verbose, 0)]
    if returns:
        common.insert(0, ("as_json", AsJson, False))
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("ctx", keyword, annotation=typer.Context),
        *(p.replace(kind=keyword) for p in own),
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
