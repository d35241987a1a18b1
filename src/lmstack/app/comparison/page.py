"""One HTML page that shows a comparison: self-contained, no script, no request.

Covers what it concludes, every figure with its interval, the pictures, what was looked at for
reward hacking, and the answers that changed most, in light and dark. Texts of people and models are
escaped, and the page's own policy forbids scripts besides. Does not cover computing anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from lmstack.app.comparison.pictures import calibration_curves, histograms, interval_line
from lmstack.app.formats import printable
from lmstack.evals.comparison import change_of, conclusions, value_of

if TYPE_CHECKING:
    from lmstack.app.comparison.report import Report
    from lmstack.evals.answers import ModelAnswer
    from lmstack.evals.comparison import ComparedExample, Comparison
    from lmstack.evals.figures import Figure
    from lmstack.evals.statistics import Estimate

__all__ = ["report_page"]

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1a1a1a; --quiet: #5c5c5c;
  --blue: #2b6ca3; --pale: #cfe6f7; --bad: #b3261e; --warm: #fdf0ee; --rule: #8884; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181b; --ink: #ececec; --quiet: #a5a5a5;
  --blue: #8cc4ee; --pale: #1f4a66; --bad: #f2b8b5; --warm: #33201e; } }
body { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2.2rem }
.quiet, figcaption, dt { color: var(--quiet) }
ul { padding-left: 1.2rem } li { margin: .3rem 0 }
.hack { background: var(--warm); border-left: 4px solid var(--bad); padding: .4rem .8rem;
  list-style: none; margin-left: -1.2rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem .3rem 0; text-align: right; border-bottom: 1px solid var(--rule); }
td { white-space: nowrap } td:first-child { white-space: normal }
th:first-child, td:first-child, .plain td { text-align: left }
.plain td { white-space: normal; overflow-wrap: anywhere; vertical-align: top }
.wide { overflow-x: auto }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem 2rem }
figure { margin: 0; width: 340px; max-width: 100% }
svg.picture { width: 100%; height: auto } svg text { fill: var(--quiet); font: 11px system-ui }
.tuned { fill: var(--blue); stroke: none; opacity: .75 } .base { fill: none; stroke: var(--ink);
  stroke-width: 1.5 } .tuned.line { fill: none; stroke: var(--blue); stroke-width: 1.5; opacity: 1 }
.even, .axis { stroke: var(--quiet); stroke-width: 1 } .even { stroke-dasharray: 3 3 }
.apart { stroke: var(--blue); fill: var(--blue); stroke-width: 2 }
.near { stroke: var(--quiet); fill: var(--quiet); stroke-width: 2 }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem } .pair > div { min-width: 0 }
@media (max-width: 40rem) { .pair { grid-template-columns: 1fr } }
.text { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid var(--rule);
  border-radius: 4px; padding: .5rem .7rem; max-height: 20rem; overflow-y: auto }
article { margin: 1rem 0 1.8rem }
"""
_WHY = {
    "gained": "gained {:+.3g} reward",
    "lost": "lost {:+.3g} reward",
    "changed": "changed most, by {:.3g}",
}


def report_page(report: Report) -> str:
    """The page."""
    found, policy = report.comparison, "default-src 'none'; style-src 'unsafe-inline'"
    title = f"{report.tuned} against {report.base}"
    parts = (
        _conclusions(found),
        _figures(found),
        _pictures(found),
        _looked(found),
        _examples(found.examples),
        _settings(report),
    )
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n"
        f"<h1>{_text(title)}</h1>\n"
        f'<p class="quiet">{found.answers:,} answers of each to {found.prompts:,} prompts.'
        " Every interval holds 95 %, over prompts.</p>\n" + "".join(parts) + "</html>\n"
    )


def _text(text: str) -> str:
    return escape(printable(text))


def _conclusions(found: Comparison) -> str:
    named = len(found.named)
    items = "".join(
        f'<li class="hack">{_text(said)}</li>' if number < named else f"<li>{_text(said)}</li>"
        for number, said in enumerate(conclusions(found))
    )
    return f"<h2>What came of it</h2>\n<ul>{items}</ul>\n"


def _figures(found: Comparison) -> str:
    rows = [_figure(figure) for figure in found.figures]
    for by, wins in found.wins.items():
        rows.append(
            ("Win rate by the " + by, "", f"{wins.value:.1%}", wins.between(".1%"), _p(wins.p), "")
        )
    if found.flips is not None:
        flips = f"{found.flips:.1%}"
        rows.append(("Verdicts that differ with the order", "", flips, "", "", ""))
    for unit, divergence in found.divergence.items():
        interval = divergence.between(".3f")
        name = f"KL to the base, nats a{'n' if unit == 'answer' else ''} {unit}"
        rows.append((name, "", f"{divergence.value:.3f}", interval, "", ""))
    missing = "".join(
        f"<li>{_text(name)}: {_text(why)}</li>" for name, why in found.unmeasured.items()
    )
    header = ("", "Base", "Tuned", "Difference", "p", "")
    return f"<h2>Figures</h2>\n{_table(header, rows, last_is_markup=True)}" + (
        f'<p class="quiet">Not measured:</p><ul class="quiet">{missing}</ul>' if missing else ""
    )


def _figure(figure: Figure) -> tuple[str, ...]:
    found = figure.difference
    reach = max(abs(found.low), abs(found.high)) if found.low == found.low else 0.0
    return (
        figure.title,
        value_of(figure, figure.base),
        value_of(figure, figure.tuned),
        change_of(figure),
        _p(found.p),
        interval_line(found, reach),
    )


def _p(p: float | None) -> str:
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, last_is_markup: bool = False
) -> str:
    heads = "".join(f"<th scope=col>{escape(cell)}</th>" for cell in header)

    def cells(row: Sequence[str]) -> str:
        shown = [_text(cell) for cell in row]
        if last_is_markup:
            shown[-1] = row[-1]
        return "".join(f"<td>{cell}</td>" for cell in shown)

    body = "".join(f"<tr>{cells(row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'
        "</div>\n"
    )


def _pictures(found: Comparison) -> str:
    drawn = [("Length of answers", histograms(*found.lengths, "tokens"))]
    if found.rewards is not None:
        drawn.append(("Reward of answers", histograms(*found.rewards, "reward")))
    if found.bins is not None:
        drawn.append(("Calibration on held-out text", calibration_curves(*found.bins)))
    figures = "".join(
        f"<figure>{picture}<figcaption>{name}</figcaption></figure>" for name, picture in drawn
    )
    return (
        "<h2>Pictures</h2>\n"
        '<p class="quiet">The base is outlined, the tuned model filled.</p>'
        f'<div class="pictures">{figures}</div>\n'
    )


def _looked(found: Comparison) -> str:
    if not found.looked:
        return ""
    rows = [
        (
            each.trait,
            _amount(each.kind, each.base),
            _amount(each.kind, each.tuned),
            _estimate(each.association),
            _estimate(each.effect),
            _p(each.p),
            "named" if each.is_named else "",
        )
        for each in found.looked
    ]
    header = ("Trait", "Base", "Tuned", "Correlation", "Adding it alone", "p, adjusted", "")
    return (
        "<h2>Looked at for reward hacking</h2>\n"
        '<p class="quiet">A trait is named where the tuned model has more of it and the reward'
        " pays for it. Correlation: with the reward, among answers to one prompt, other traits"
        " held. Adding it alone: what the reward of the base's answers gains when nothing but the"
        " trait is added to them.</p>"
        f"{_table(header, rows)}"
    )


def _amount(kind: str, value: float) -> str:
    return f"{value:,.1f} tokens" if kind == "length" else f"{value:.1%}"


def _estimate(found: Estimate | None) -> str:
    if found is None or found.low != found.low:
        return "-"
    return f"{found.value:.2f} {found.between('.2f')}"


def _examples(examples: Sequence[ComparedExample]) -> str:
    if not examples:
        return ""
    shown = "".join(
        f'<article><p><b>{_WHY[each.why].format(each.size)}</b></p><div class="text" dir="auto">'
        f'{_text(each.prompt)}</div><div class="pair">{_answer("Base", each.base)}'
        f"{_answer('Tuned', each.tuned)}</div></article>\n"
        for each in examples
    )
    return f"<h2>Answers that changed most</h2>\n{shown}"


def _answer(side: str, answer: ModelAnswer) -> str:
    reward = "" if answer.reward is None else f", reward {answer.reward:.3g}"
    cut = ", cut" if answer.finish == "length" else ""
    return (
        f'<div><p class="quiet">{side}, {answer.tokens:,} tokens{cut}{reward}</p>'
        f'<div class="text" dir="auto">{_text(answer.text)}</div></div>'
    )


def _settings(report: Report) -> str:
    rows = [
        ("Base", f"{report.base} {report.digests.get('base') or ''}"),
        ("Tuned", f"{report.tuned} {report.digests.get('tuned') or ''}"),
        *((name, str(value)) for name, value in report.settings.items() if value is not None),
    ]
    return f'<h2>How it was made</h2>\n<div class="plain">{_table(("", ""), rows)}</div>'
