"""Which class plays which part: the one place where the command line touches other modules.

Every function imports what it wires when it is called, so commands can import this file at no
cost; tests replace these functions to run commands against scripted models.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lmstack.app.checks import Check, machine_checks, network_checks, store_checks

if TYPE_CHECKING:
    from lmstack.safety import AuditReport

__all__ = ["audit_path", "checks", "home", "verify_audit"]


def home() -> Path:
    """The folder of models, indexes, audit logs and crash reports."""
    from lmstack.registry.home import home as registry_home

    return registry_home()


def checks(*, network: bool) -> list[Check]:
    """Everything `lmstack doctor` looks at."""
    from lmstack.registry import Store

    found = machine_checks(home())
    store = Store()
    found += store_checks(store.models, lambda entry: None, {})
    return [*found, *network_checks()] if network else found


def audit_path() -> Path:
    """The log that `lmstack up` appends to."""
    return home() / "audit" / "audit.jsonl"


def verify_audit(path: Path, expect_head: str | None) -> AuditReport:
    from lmstack.safety import verify

    return verify(path, expect_head=expect_head)
