"""The files of a report: ``report.json`` holds every figure, ``report.html`` shows them. Each is
written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

from lmstack.app.comparison.page import report_page
from lmstack.app.comparison.report import Report
from lmstack.core.files import write_atomic

__all__ = ["write_report"]


def write_report(report: Report, folder: Path) -> tuple[Path, Path]:
    """``report.json`` and ``report.html`` in ``folder``."""
    values, page = folder / "report.json", folder / "report.html"
    text = json.dumps(report.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomic(values, text.encode())
    write_atomic(page, report_page(report).encode())
    return values, page
