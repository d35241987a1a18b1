"""`lmstack eval report`: results as a page, with where each number comes from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lmstack.app.cli.command import command
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, printable
from lmstack.core.files import write_atomic

if TYPE_CHECKING:
    from lmstack.app.page.evaluation import EvaluationReport

__all__ = ["report"]


@command(
    "eval report",
    """
    RESULT...: Written by `eval run -o`: files, or their folders.
    --base FOLDER: Results of the model that the others are compared with. Unless given, that of the
        first RESULT.
    --gate FILE: Rules of a gate: show what it decides.
    --output, -o FILE: The page, a single HTML file.

    lmstack eval report after --output report.html
    lmstack eval report after --base before --gate gate.yaml --output report.html
    """,
)
def report(
    out: Output,
    results: list[Path],
    base: Path | None = None,
    gate: Path | None = None,
    output: Path = Path("report.html"),
) -> None:
    """Write results of one or several models as a page.

    It shows every figure with its interval and what it can be traced to, a profile of the suite,
    calibration, the samples on which models differ with both answers, the score against what it
    costs, and what a gate decides. One file that asks nothing of any host."""
    from lmstack.app.page.evaluation import evaluation_page
    from lmstack.app.page.evaluation.files import made_report

    out.interrupted = ("no page was written", out.again())
    with out.progress("Reading results", "files") as bar:
        found = made_report(results, base, gate, lambda done, total: bar.update(done, total))
    write_atomic(output, evaluation_page(found).encode())
    if out.as_json:
        out.result(_summary(found, output))
        return
    _print(out, found, output)


def _summary(found: EvaluationReport, output: Path) -> dict[str, object]:
    return {
        "page": str(output),
        "models": [{"name": m.label, "digest": m.digest} for m in found.models],
        "tasks": [row.label for row in found.rows],
        "base": None if found.base is None else found.base.label,
        "changed": sum(len(pair.changes) for pair in found.pairs),
        "gate": {
            model.label: decision if isinstance(decision, str) else decision.verdict
            for model, decision in found.decisions
        },
    }


def _print(out: Output, found: EvaluationReport, output: Path) -> None:
    rows = [
        ("models", ", ".join(model.label for model in found.models)),
        ("tasks", ", ".join(row.label for row in found.rows)),
    ]
    for model, decision in found.decisions:
        said = f"no verdict: {decision}" if isinstance(decision, str) else decision.verdict
        rows.append(("gate", f"{model.label}: {said}"))
    rows.append(("page", str(output)))
    out.lines(columns([(name, printable(value, one_line=True)) for name, value in rows]))
