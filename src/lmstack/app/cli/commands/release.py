"""`lmstack release`: what is served under an alias, and who decided that."""

from __future__ import annotations

import typer

from lmstack.app.cli.command import group
from lmstack.app.cli.commands import (
    release_list,
    release_promote,
    release_rollback,
    release_traffic,
)

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    releases = group(
        "Decide what is served under an alias.\n\nAn alias stands for a release: a model in a form,"
        " with its adapter, prompt and documents, that passed a gate and was signed. `lmstack up"
        " ALIAS` serves it.",
        example="lmstack release promote smollm2-135m-instruct --to prod --gate gate.yaml --first\n"
        "lmstack release list prod\nlmstack release rollback prod",
    )
    for module in (release_promote, release_rollback, release_list, release_traffic):
        module.register(releases)
    app.add_typer(releases, name="release")
