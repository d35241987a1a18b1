"""`lmstack release list`: what each alias stands for, whether it may be served, and its history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmstack.app.cli.command import command, group
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, printable, short_digest

if TYPE_CHECKING:
    from lmstack.registry.aliases import AliasEvent

__all__ = ["aliases"]


group(
    "release",
    "promote rollback list traffic",
    """
    Decide what is served under an alias.

    An alias stands for a release: a model in a form, with its adapter, prompt and documents, that
    passed a gate and was signed. `lmstack up ALIAS` serves it.

    lmstack release promote smollm2-135m-instruct --to prod --gate gate.yaml --first
    lmstack release list prod
    lmstack release rollback prod
    """,
)


@command(
    "release list",
    """
    ALIAS: Only this one, with its history.

    lmstack release list
    lmstack release list prod
    """,
)
def aliases(out: Output, alias: str | None = None) -> None:
    """List the aliases, the releases that they stand for, and what happened to them.

    An alias that must not be served is listed with the reason."""
    if alias is not None:
        _history(out, alias)
        return
    from lmstack.release.releases import alias_states

    found = alias_states()
    if out.as_json:
        out.result([state.to_json() for state in found])
        return
    if not found:
        out.note(
            "there are no aliases yet; try: lmstack release promote MODEL --to prod --gate FILE"
        )
        return
    rows = [("ALIAS", "RELEASE", "DIGEST", "SINCE")]
    for state in found:
        release = state.release
        title = "nothing" if release is None else release.title
        rows.append((state.alias, title, "" if release is None else release.short, state.since))
    out.lines(columns([tuple(printable(c, one_line=True) for c in row) for row in rows]))
    for state in found:
        if state.problem:
            out.note(printable(state.problem, one_line=True))


def _history(out: Output, name: str) -> None:
    from lmstack.registry.aliases import Aliases

    alias = Aliases().read(name)
    if out.as_json:
        out.result([_described(event) for event in alias.events])
        return
    rows = [("DATE", "WHAT", "RELEASE", "DIGEST", "COMPARED WITH")]
    for event in alias.events:
        found = _described(event)
        rows.append(
            (
                event.date,
                event.kind,
                event.release.title,
                event.release.short,
                short_digest(found["baseline"] or "nothing") if event.verdict is not None else "",
            )
        )
    out.lines(columns([tuple(printable(c, one_line=True) for c in row) for row in rows]))


def _described(event: AliasEvent) -> dict[str, Any]:
    """The event, with what its verdict says."""
    verdict = (event.verdict or {}).get("body", {})
    return {
        "number": event.number,
        "date": event.date,
        "kind": event.kind,
        "release": event.release.to_json(),
        "baseline": verdict.get("baseline"),
        "reasons": verdict.get("reasons", []),
        "rules_digest": verdict.get("rules_digest"),
        "results": verdict.get("results", {}),
    }
