"""The commands, one group a file. Each file has ``register(app)``; bodies reach the rest of
lmstack through `wiring`."""

from __future__ import annotations

import typer

from lmstack.app.cli.commands import (
    agent,
    aliases,
    ask,
    audit,
    bench,
    compare,
    convert,
    data,
    doctor,
    embed,
    eval,
    feedback,
    index,
    inspect,
    mcp,
    model,
    models,
    plan,
    promote,
    prompt,
    quantize,
    rollback,
    run,
    scaling,
    search,
    tokenizer,
    tokens,
    train,
    up,
)

__all__ = ["register_all"]


def register_all(app: typer.Typer) -> None:
    """In the order in which the overview shows them."""
    for module in (
        ask,
        search,
        embed,
        run,
        agent,
        prompt,
        up,
        mcp,
        plan,
        bench,
        models,
        model,
        inspect,
        convert,
        quantize,
        tokens,
        tokenizer,
        data,
        train,
        compare,
        scaling,
        eval,
        promote,
        rollback,
        aliases,
        index,
        doctor,
        audit,
        feedback,
    ):
        module.register(app)
