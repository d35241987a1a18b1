"""The options that say which files of a folder are read, where, and for how long it is followed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lmstack.rag import Rules

__all__ = ["Exclude", "GitIgnore", "Include", "RayAddress", "RayCopies", "Watch", "rules_of"]

Include = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Read only files that match, as in .gitignore; may be repeated. Kept with PATH.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Leave out files that match; kept with PATH."),
]
GitIgnore = Annotated[
    bool | None,
    typer.Option("--gitignore/--no-gitignore", help="Leave out what PATH's .gitignore files name."),
]
Watch = Annotated[
    bool,
    typer.Option("--watch", help="Then go on, and update whenever a file changes, until Ctrl-C."),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Read and embed on a Ray cluster, `local` for one of this machine. All its machines"
        " must have the files under the same path, and the model.",
    ),
]
RayCopies = Annotated[
    int,
    typer.Option(
        "--ray-copies", metavar="N", min=1, help="How many processes embed on the cluster."
    ),
]


def rules_of(
    include: list[str] | None, exclude: list[str] | None, gitignore: bool | None
) -> Rules | None:
    """None where no option says anything: those of before stay."""
    if include is None and exclude is None and gitignore is None:
        return None
    from lmstack.rag import Rules

    return Rules(tuple(include or ()), tuple(exclude or ()), bool(gitignore))
