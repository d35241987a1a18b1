"""How often each principle was used and where they disagreed, as tables of HTML."""

from __future__ import annotations

from collections.abc import Sequence

from lmstack.app.page.document import text_of
from lmstack.pipelines.constitution.record import PrincipleUse, Record

__all__ = ["disagreement_table", "principle_table"]

_HEADS = (
    ("Principle", "Its name; point at it for what it asks"),
    ("Critiques", "Drafts and revisions that it criticized"),
    ("Changed", "of which the answer was changed"),
    ("Compared", "Pairs of answers that it compared"),
    ("As labelled", "Verdicts that agree with the label of the pair"),
    ("Order changed it", "Verdicts for another answer when the order changed"),
    ("Prefers the first", "Mean advantage of what is shown first; 0 is fair, 50 % the most"),
    ("Certainty", "Mean distance from an even verdict; 0 % is a coin"),
)


def principle_table(record: Record) -> str:
    asked = {p.name: p.preference for p in record.constitution.principles}
    rows = [
        [
            f'<button class="quiet small pick" type="button" title="{text_of(asked[use.name])}"'
            f' data-principle="{text_of(use.name)}">{text_of(use.name)}</button>',
            *_figures(use),
        ]
        for use in record.uses()
    ]
    return _table([f'<span title="{words}">{head}</span>' for head, words in _HEADS], rows)


def _figures(use: PrincipleUse) -> list[str]:
    return [
        f"{use.critiques:,}",
        _share(use.changed, use.critiques),
        f"{use.comparisons:,}",
        _share(use.agreed, use.decided),
        _share(use.flipped, use.decided),
        _percent(use.position_bias, signed=True),
        _percent(use.certainty),
    ]


def disagreement_table(record: Record) -> str:
    found = record.disagreements()
    if not found:
        return '<p class="soft">No pair of answers was compared by two principles yet.</p>\n'
    rows = [
        [text_of(one), text_of(other), f"{together:,}", f"{apart:,}", _share(apart, together)]
        for (one, other), (apart, together) in found.items()
    ]
    return _table(["Principle", "and", "Compared both", "Disagreed", "Share"], rows, names=2)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], names: int = 1) -> str:
    head = "".join(f'<th scope="col">{cell}</th>' for cell in heads)
    body = "".join(
        "<tr>"
        + "".join(
            f'<th scope="row">{cell}</th>' if place < names else f"<td>{cell}</td>"
            for place, cell in enumerate(row)
        )
        + "</tr>\n"
        for row in rows
    )
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="Table">'
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>\n"
    )


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "–"


def _percent(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return "–"
    return f"{value:+.0%}" if signed else f"{value:.0%}"
