"""`lmstack release rollback`: an alias stands again for a release that it stood for before."""

from __future__ import annotations

from lmstack.app.cli.command import command
from lmstack.app.cli.commands.release_promote import taken_by_servers
from lmstack.app.cli.output import Output
from lmstack.app.formats import printable

__all__ = ["rollback"]


@command(
    "release rollback",
    """
    ALIAS: The alias: prod.
    --to DIGEST: The beginning of the digest of an earlier release. [default: the one before]

    lmstack release rollback prod
    lmstack release rollback prod --to 3f2a91c
    """,
)
def rollback(out: Output, alias: str, to: str | None = None) -> None:
    """Let an alias stand for the release before, at once.

    Nothing is measured: the release passed the gate when it was promoted, and its signed verdict
    and its files are checked. A server that runs as `lmstack up ALIAS` takes it once it is
    loaded, unless it has other documents. It is recorded; `lmstack release list ALIAS` shows the
    history."""
    from lmstack.release.releases import rolled_back

    was, now = rolled_back(alias, to)
    if out.as_json:
        out.result({"alias": alias, "release": now.to_json(), "was": was.to_json()})
        return
    text = f"{alias} stands for {now.title} again   {now.short}"
    out.line(printable(text, one_line=True))
    out.note(printable(f"it was {was.title}   {was.short}", one_line=True))
    out.note(taken_by_servers(alias, was, now))
