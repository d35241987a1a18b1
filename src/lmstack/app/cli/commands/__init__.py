"""The commands, one group a file. Each file has ``register(app)``; bodies reach the rest of
lmstack through `wiring`."""

from __future__ import annotations

import typer

from lmstack.app.cli.commands import (
    agent,
    ask,
    audit,
    data,
    doctor,
    embed,
    eval,
    feedback,
    index,
    mcp,
    model,
    prompt,
    release,
    run,
    scaling,
    search,
    tokenizer,
    train,
    up,
)

__all__ = ["register_all"]


def register_all(app: typer.Typer) -> None:
    """In the order in which the overview shows them."""
    for module in (
        *(ask, search, index),
        *(model, run, embed, tokenizer),
        *(up, mcp, agent),
        *(train, data, scaling),
        *(eval, prompt, release),
        *(doctor, audit, feedback),
    ):
        module.register(app)
