"""The page of a constitutional run: one HTML file with every prompt, critique, revision and label.

Text of models and data is escaped here and never parsed by the script, which only hides and shows.
Without JavaScript all of it can be read.
"""

from __future__ import annotations

from collections.abc import Iterator

from lmstack.app.report.pages import self_contained
from lmstack.pipelines.constitution.record import PromptRecord, Record, WrittenText

__all__ = ["constitution_page"]

# What an entry can be shown for, and what its line says of it.
_SHOWN = {
    "disagree": "principles disagreed",
    "flips": "changed with the order",
    "changed": "revised",
    "sft": "in the SFT set",
    "dpo": "in the preferences",
    "problem": "with a problem",
}
_TAGS = {"disagree": "disagreed", "problem": "problem", "sft": "SFT", "dpo": "DPO"}


def constitution_page(record: Record, name: str) -> str:
    """The page of the run called ``name``, as far as ``record`` goes."""
    principles = record.constitution.principles
    return self_contained(
        "page/constitution/templates/page.html",
        styles=("report/page.css", "page/constitution/page.css"),
        scripts=("report/page.js", "page/constitution/page.js"),
        record=record,
        name=name,
        asked={each.name: each.preference for each in principles},
        names={each.name: each.name for each in principles},
        shown=_SHOWN,
        tags=_TAGS,
        properties_of=_properties,
    )


def _properties(entry: PromptRecord) -> list[str]:
    """Of `_SHOWN`."""
    label = entry.label
    holds = {
        "disagree": label is not None and label.disagree,
        "flips": label is not None and any(verdict.flips for verdict in label.verdicts),
        "changed": entry.changed,
        "problem": any(text.problem for text in _texts(entry)),
        "sft": entry.in_sft,
        "dpo": entry.in_dpo,
    }
    return [name for name, value in holds.items() if value]


def _texts(entry: PromptRecord) -> Iterator[WrittenText]:
    yield entry.draft
    for each in entry.rounds:
        yield each.critique
        if each.revision is not None:
            yield each.revision
    yield from entry.answers
