"""One prompt with all that became of it, as HTML that opens and closes without a script."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape

from lmstack.app.formats import printable
from lmstack.pipelines.constitution.labels import PrincipleVerdict
from lmstack.pipelines.constitution.record import PromptRecord, RevisionRound, WrittenText

__all__ = ["entry_html"]

_LINE = 160  # characters of a prompt in its line


def entry_html(entry: PromptRecord) -> str:
    """A list item; ``data-is`` and ``data-principles`` are what the page filters by."""
    last = entry.prompt[-1].content
    line = last if len(last) <= _LINE else last[: _LINE - 1] + "…"
    is_ = " ".join(_properties(entry))
    names = _attribute(json.dumps(entry.principles, ensure_ascii=False))
    tags = "".join(f'<span class="tag">{escape(words)}</span>' for words in _tags(entry))
    return (
        f'<li class="entry" data-is="{is_}" data-principles="{names}">'
        f'<details><summary><span class="line" dir="auto">{_text(line, one_line=True)}</span>'
        f"{tags}</summary>\n{''.join(_parts(entry))}</details></li>\n"
    )


def _properties(entry: PromptRecord) -> Iterator[str]:
    label = entry.label
    if label is not None and label.disagree:
        yield "disagree"
    if label is not None and any(verdict.flips for verdict in label.verdicts):
        yield "flips"
    if entry.changed:
        yield "changed"
    if entry.in_sft:
        yield "sft"
    if entry.in_dpo:
        yield "dpo"
    if any(text.problem for text in _texts(entry)):
        yield "problem"


def _tags(entry: PromptRecord) -> Iterator[str]:
    if entry.label is not None and entry.label.disagree:
        yield "disagreed"
    if any(text.problem for text in _texts(entry)):
        yield "problem"
    if entry.in_sft:
        yield "SFT"
    if entry.in_dpo:
        yield "DPO"


def _texts(entry: PromptRecord) -> Iterator[WrittenText]:
    yield entry.draft
    for each in entry.rounds:
        yield each.critique
        if each.revision is not None:
            yield each.revision
    yield from entry.answers


def _parts(entry: PromptRecord) -> Iterator[str]:
    for message in entry.prompt:
        yield _block("Prompt" if message.role == "user" else message.role, message.content)
    yield _written("Draft", entry.draft)
    for each in entry.rounds:
        yield from _round(each)
    if entry.answers:
        yield '<div class="pair">'
        chosen = entry.label.chosen if entry.label is not None else None
        for place, answer in enumerate(entry.answers):
            yield _written(f"Answer {place + 1}", answer, note=_choice(chosen, place))
        yield "</div>\n"
    if entry.label is not None:
        yield _label(entry)


def _round(each: RevisionRound) -> Iterator[str]:
    yield _written("Critique", each.critique, note=each.principle)
    if each.revision is not None:
        yield _written("Revision", each.revision, note=each.principle)


def _choice(chosen: int | None, place: int) -> str:
    if chosen is None:
        return ""
    return "chosen" if chosen == place else "rejected"


def _label(entry: PromptRecord) -> str:
    assert entry.label is not None
    rows = "".join(_verdict(verdict) for verdict in entry.label.verdicts)
    probability = entry.label.probability
    whole = (
        "no verdict" if probability is None else f"answer 1 with the probability {probability:.2f}"
    )
    return (
        f'<h4>Label <span class="note">{whole}</span></h4>\n'
        '<div class="wide" tabindex="0" role="region" aria-label="Verdicts"><table><thead><tr>'
        '<th scope="col">Principle</th><th scope="col">Shown first</th>'
        '<th scope="col">Shown second</th><th scope="col">Answer 1 is better</th><th></th>'
        f"</tr></thead>\n<tbody>{rows}</tbody></table></div>\n"
    )


def _verdict(verdict: PrincipleVerdict) -> str:
    cells = "".join(
        f"<td>{'–' if p is None else f'{p:.2f}'}</td>"
        for p in (verdict.shown_first, verdict.shown_second, verdict.probability)
    )
    bar = (
        ""
        if verdict.probability is None
        else f'<meter min="0" max="1" value="{verdict.probability:.3f}"></meter>'
    )
    return f'<tr><th scope="row">{_text(verdict.principle)}</th>{cells}<td>{bar}</td></tr>\n'


def _written(head: str, written: WrittenText, note: str = "") -> str:
    if written.problem is not None:
        return _block(head, written.text, note, problem=written.problem)
    return _block(head, written.text, note, problem="cut off at its longest" if written.cut else "")


def _block(head: str, text: str, note: str = "", problem: str = "") -> str:
    beside = f' <span class="note">{_text(note)}</span>' if note else ""
    wrong = f'<p class="wrong">{_text(problem)}</p>' if problem else ""
    body = f'<p class="text" dir="auto">{_text(text)}</p>' if text else ""
    return f'<div class="block"><h4>{_text(head)}{beside}</h4>{body}{wrong}</div>\n'


def _text(text: str, *, one_line: bool = False) -> str:
    return escape(printable(text, one_line=one_line))


def _attribute(text: str) -> str:
    return escape(text, quote=True)
