"""`lmstack eval import` and `export`: logs of inspect_ai."""

from __future__ import annotations

from pathlib import Path

from lmstack.app.cli.command import command
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, printable

__all__ = ["export", "import_logs"]


@command(
    "eval import",
    """
    LOG...: JSON logs of inspect_ai, each of one task.
    --output, -o FOLDER: Of results: TASK.json for each.

    lmstack eval import logs/*.json -o theirs
    """,
)
def import_logs(out: Output, logs: list[Path], output: Path = Path("imported")) -> None:
    """Take results from logs of inspect_ai.

    They can then be compared, shown and gated like others, with each other: no log says a digest
    of the model or of the data, so they are not compared with results of `lmstack eval run`."""
    from lmstack.evals.inspect_logs import imported

    found = imported(logs, output)
    if out.as_json:
        out.result(
            [
                {
                    "task": each.task,
                    "model": each.subject,
                    "samples": len(each.samples),
                    "result": str(output / f"{each.file_stem}.json"),
                }
                for each in found
            ]
        )
        return
    rows = [("TASK", "MODEL", "SAMPLES", "RESULT")]
    for each in found:
        place = output / f"{each.file_stem}.json"
        rows.append((each.task, each.subject, f"{len(each.samples):,}", str(place)))
    out.lines(columns([tuple(printable(cell, one_line=True) for cell in row) for row in rows]))


@command(
    "eval export",
    """
    RESULT...: Written by `eval run -o`: files, or their folders.
    --task TASK: The .yaml file that was run, for its questions. A benchmark's are found.
    --output, -o FOLDER: Where the logs are written.

    lmstack eval export after -o logs
    """,
)
def export(
    out: Output,
    results: list[Path],
    task: str | None = None,
    output: Path = Path("logs"),
) -> None:
    """Write results as logs that inspect_ai reads.

    A log carries the whole result: imported again it is the same. Questions and right answers are
    not in a result; they are in the log where the task is a benchmark whose data are here, or is
    given with --task."""
    from lmstack.app.page.evaluation.files import result_files
    from lmstack.evals.gating import read_result
    from lmstack.evals.inspect_logs import exported

    written = []
    for file in result_files(results):
        result = read_result(file)
        path, has_questions = exported(result, output, task)
        written.append({"task": result.task, "file": str(path)})
        if not out.as_json:
            out.line(printable(str(path), one_line=True))
            if not has_questions:
                note = (
                    f"{result.task}: its questions are not in the log; --task FILE.yaml adds them"
                )
                out.note(printable(f"{result.task}: {note}", one_line=True))
    if out.as_json:
        out.result(written)
