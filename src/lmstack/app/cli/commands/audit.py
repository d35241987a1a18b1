"""`lmstack audit verify`: whether the record of what was asked and answered is whole."""

from __future__ import annotations

from pathlib import Path

import typer

from lmstack.app import wiring
from lmstack.app.cli.command import command, group
from lmstack.app.cli.output import Output
from lmstack.core import IntegrityError

__all__ = ["verify"]


group(
    "audit",
    "verify",
    """
    Check the audit log.

    `lmstack up` appends a record of each request to a log in which every record carries the hash of
    the one before, so a changed, missing or reordered record shows.

    lmstack audit verify
    """,
)


@command(
    "audit verify",
    """
    LOG: The log file. Without it, the log of `lmstack up`.
    --expect-head HASH: A head noted earlier; the log must still contain it. Finds a log that was
        replaced or cut short together with its head file.

    lmstack audit verify
    lmstack audit verify --json
    """,
)
def verify(out: Output, log: Path | None = None, expect_head: str | None = None) -> None:
    """Check that the audit log is whole.

    Reads every record offline, also while a server writes. Prints the head: note it somewhere
    else, and pass it as --expect-head next time. Exit code 1 if a record was changed, removed
    or reordered.
    """
    path = log if log is not None else wiring.audit_path()
    report = wiring.verify_audit(path, expect_head)
    if out.as_json:
        out.result({"path": str(path), **report.to_json()})
    elif report.ok:
        out.line(f"{path} is whole: {report.records} records")
        out.line(f"head {report.head}")
        out.lines([f"note: {note}" for note in report.notes])
    else:
        where = f"line {report.bad_line} of {path}" if report.bad_line else str(path)
        raise IntegrityError(
            f"the audit log is not whole: {report.reason} ({where})",
            hint="keep the file as it is, and compare it with a copy from before the change",
        )
    if not report.ok:
        raise typer.Exit(1)
