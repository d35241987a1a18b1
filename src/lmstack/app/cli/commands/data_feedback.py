"""`lmstack data feedback`: what people thought of answers, as rows to train on."""

from __future__ import annotations

import json
from pathlib import Path

from lmstack.app.cli.command import command
from lmstack.app.cli.commands._options import Docs, IndexFolder
from lmstack.app.cli.commands.feedback import feedback_store
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, count
from lmstack.core import InputError
from lmstack.core.files import store_error, write_atomic

__all__ = ["feedback"]


@command(
    "data feedback",
    """
    --output, -o DIR: The folder that the files go to.
    --passages N 0..100: Passages that a prompt shows beside those that are cited; 0 for none at
        all.

    lmstack data feedback --docs docs --output feedback
    lmstack data preferences feedback/pairs.jsonl feedback/ratings.jsonl
    """,
)
def feedback(
    out: Output,
    docs: Docs = None,
    index: IndexFolder = None,
    output: Path = Path("feedback"),
    passages: int = 5,
) -> None:
    """Make training rows of what people thought of answers.

    Only of judgements whose author agreed that models may be trained with them. A correction is a
    pair in pairs.jsonl, a verdict a rated answer in ratings.jsonl, a wrong source a passage that
    does not answer in choices.jsonl. Prompts are those of a model that writes from passages; who
    judged, and the comment, are left out."""
    from lmstack.pipelines.feedback_data import feedback_rows

    records = feedback_store(docs, index, "lmstack data feedback").all()
    found = feedback_rows(records, passages)
    if not found.used:
        raise InputError(
            f"there are {count(found.withheld, 'judgements')}, and none that models may be trained"
            " with",
            hint="people agree under each answer on the page; lmstack feedback list shows who did",
            param="docs",
        )
    files = {output / f"{name}.jsonl": rows for name, rows in found.files.items() if rows}
    for path in files:
        if path.exists():
            raise InputError(
                f"{path} is there already", hint="another --output, or delete it", param="output"
            )
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise store_error(error, output, "writing") from error
    for path, rows in files.items():
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        write_atomic(path, "".join(f"{line}\n" for line in lines).encode())
    if out.as_json:
        written = {str(path): len(rows) for path, rows in files.items()}
        out.result({"used": found.used, "withheld": found.withheld, "written": written})
        return
    table = [
        ("judgements", f"{found.used:,}"),
        ("without consent", f"{found.withheld:,}, left out"),
        *((str(path), count(len(rows), "rows")) for path, rows in files.items()),
    ]
    out.lines(columns(table))
