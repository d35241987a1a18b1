"""`lmstack audit verify` over real logs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lmstack.app import wiring
from lmstack.safety import AuditLog

if TYPE_CHECKING:
    from tests.app.conftest import Run


@pytest.fixture
def log(home: Path) -> Path:
    audit = AuditLog(wiring.audit_path(), fsync=False)
    for number in range(3):
        audit.append({"event": "finished", "number": number})
    return wiring.audit_path()


def test_a_whole_log_prints_the_head_to_note(run: Run, log: Path) -> None:
    ran = run("audit", "verify")
    assert ran.code == 0
    head = run("audit", "verify", "--json").json["head"]
    assert f"head {head}" in ran.out
    assert len(head) == 64


def test_a_changed_record_is_an_error_that_names_its_line(run: Run, log: Path) -> None:
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join([lines[0], lines[1].replace('"number":0', '"number":7'), *lines[2:]]))
    ran = run("audit", "verify")
    assert ran.code == 1
    assert "line 2" in ran.err
    assert str(log) in ran.err


def test_a_damaged_log_under_json_is_a_report_with_exit_code_1(run: Run, log: Path) -> None:
    log.write_bytes(log.read_bytes()[:-40])
    ran = run("audit", "verify", "--json")
    assert ran.code == 1
    assert ran.json["ok"] is False
    assert ran.json["reason"]


def test_a_pinned_head_finds_a_log_that_was_replaced(run: Run, log: Path) -> None:
    head = run("audit", "verify", "--json").json["head"]
    assert run("audit", "verify", "--expect-head", head).code == 0
    for path in (log, log.with_name(log.name + ".head")):
        path.unlink()
    AuditLog(log, fsync=False).append({"event": "finished"})
    assert run("audit", "verify").code == 0
    assert run("audit", "verify", "--expect-head", head).code == 1


def test_a_missing_log_and_a_wrong_head_say_what_to_do(run: Run, home: Path) -> None:
    missing = run("audit", "verify", "none.jsonl")
    assert (missing.code, "none.jsonl" in missing.err) == (1, True)
    wrong = run("audit", "verify", "--expect-head", "abc")
    assert (wrong.code, "64 hex digits" in wrong.err) == (1, True)


def test_a_log_that_was_emptied_names_the_file_and_no_line(run: Run, log: Path) -> None:
    log.write_text("")
    ran = run("audit", "verify")
    assert ran.code == 1
    assert "line None" not in ran.err
    assert str(log) in ran.err
