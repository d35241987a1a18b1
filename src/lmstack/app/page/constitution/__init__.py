"""The page of a constitutional run: one HTML file with every prompt, critique, revision and label.

Text of models and data is escaped here and never parsed by the script, which only hides and shows.
Without JavaScript all of it can be read.
"""

from __future__ import annotations

from collections.abc import Iterator

from lmstack.app.page.constitution.entries import entry_html
from lmstack.app.page.constitution.tables import disagreement_table, principle_table
from lmstack.app.page.document import self_contained, text_of
from lmstack.pipelines.constitution.record import Record

__all__ = ["constitution_page"]

_SHOWN = (
    ("all", "every prompt"),
    ("disagree", "principles disagreed"),
    ("flips", "changed with the order"),
    ("changed", "revised"),
    ("sft", "in the SFT set"),
    ("dpo", "in the preferences"),
    ("problem", "with a problem"),
)


def constitution_page(record: Record, name: str) -> str:
    """The page of the run called ``name``, as far as ``record`` goes."""
    return self_contained(
        f"{name}: principles",
        name,
        "".join(_main(record)),
        folder="constitution",
        skip=("entries", "the prompts"),
    )


def _main(record: Record) -> Iterator[str]:
    yield f"<h1>{text_of(record.constitution.title or 'A run by principles')}</h1>\n"
    yield f'<p class="lead">{_summary(record)}</p>\n'
    yield "<section><h2>Principles</h2>\n"
    yield principle_table(record)
    yield "</section>\n<section><h2>Where principles disagreed</h2>\n"
    yield disagreement_table(record)
    yield "</section>\n<section><h2>Prompts</h2>\n"
    yield _filters(record)
    entries = "".join(entry_html(entry) for entry in record.entries)
    yield f'<ol id="entries" class="entries">\n{entries}</ol>\n'
    yield '<p id="none" class="soft" hidden>No prompt is like that.</p>\n</section>\n'


def _summary(record: Record) -> str:
    recipe, entries = record.recipe, record.entries
    base = str(recipe["base"])
    parts = [f"{len(entries):,} prompts, drafted by {text_of(base)}"]
    if any(entry.rounds for entry in entries):
        parts.append(f"criticized and revised by {text_of(str(recipe['writer'] or base))}")
    if any(entry.label for entry in entries):
        parts.append(f"answers compared by {text_of(str(recipe['judge'] or base))}")
    ends = [f"{sum(e.in_sft for e in entries):,} conversations in the SFT set"]
    ends.append(f"{sum(e.in_dpo for e in entries):,} preferences")
    undone = [name for name in ("sft", "dpo") if name not in record.results]
    state = f" Not done yet: {', '.join(undone).upper()}." if undone else ""
    return f"{', '.join(parts)}. {', '.join(ends)}.{state}"


def _filters(record: Record) -> str:
    names = "".join(
        f'<option value="{text_of(p.name)}">{text_of(p.name)}</option>'
        for p in record.constitution.principles
    )
    shown = "".join(f'<option value="{value}">{words}</option>' for value, words in _SHOWN)
    return (
        '<form id="filters" class="filters" hidden>\n'
        '<span><label for="search">Search</label><input id="search" type="search"'
        ' autocomplete="off"></span>\n'
        f'<span><label for="show">Show</label><select id="show">{shown}</select></span>\n'
        '<span><label for="principle">Principle</label><select id="principle">'
        f'<option value="">any</option>{names}</select></span>\n'
        '<button id="open" class="plain small" type="button" aria-pressed="false">Open all'
        '</button>\n<p id="count" class="soft" role="status"></p>\n</form>\n'
    )
