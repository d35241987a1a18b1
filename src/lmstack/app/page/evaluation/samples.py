"""Samples on which a model and the base differ, both answers beside each other.

Answers are text that a model wrote: escaped, never markup. Long ones are folded. There are at most
`MOST` of a comparison on a page, and the page says how many it leaves out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence

from lmstack.app.page.document import text_of
from lmstack.app.page.evaluation.report import ComparedPair, EvaluationReport, Model, SampleChange
from lmstack.evals.results import ANSWER_CHARS, SampleResult

__all__ = ["MOST", "changed_samples", "folded"]

MOST = 300
_FOLD_FROM, _HEAD = 700, 500  # characters of an answer


def changed_samples(report: EvaluationReport) -> str:
    """The list with its filters; "" where nothing was compared."""
    if not report.pairs:
        return ""
    lists = [(pair, *_chosen(pair.changes)) for pair in report.pairs]
    left_out = "".join(
        f"<li>{text_of(pair.row.label)}, {text_of(pair.other.label)}: {missing:,} more</li>"
        for pair, _, missing in lists
        if missing
    )
    entries = "".join(_entry(change) for _, chosen, _ in lists for change in chosen)
    more = f'<p class="soft">Left out of this page:</p><ul class="soft">{left_out}</ul>'
    return (
        f'{_filters(report)}<ol id="entries" class="entries">\n{entries}</ol>\n'
        '<p id="none" class="soft" hidden>No sample is like that.</p>\n'
        + (more if left_out else "")
    )


def _chosen(changes: Sequence[SampleChange]) -> tuple[list[SampleChange], int]:
    """At most `MOST`, as many of each direction as there is room for, and how many are not."""
    lost = [each for each in changes if not each.is_gain]
    gained = [each for each in changes if each.is_gain]
    room = max(MOST // 2, MOST - len(gained))
    kept = lost[:room]
    kept += gained[: MOST - len(kept)]
    return kept, len(changes) - len(kept)


def _filters(report: EvaluationReport) -> str:
    tasks = {pair.row.number: pair.row.label for pair in report.pairs}
    models = {pair.other.number: pair.other.label for pair in report.pairs}
    ways = {"lost": "worse than the base", "gained": "better than the base"}
    selects = [_select("task", "Task", {f"{k}": v for k, v in tasks.items()})]
    if len(models) > 1:
        selects.append(_select("model", "Model", {f"{k}": v for k, v in models.items()}))
    selects.append(_select("way", "Direction", ways))
    return (
        '<form id="filters" class="filters" data-noun="samples" hidden>\n'
        '<span><label for="search">Search</label><input id="search" type="search"'
        f' autocomplete="off"></span>\n{"".join(selects)}'
        '<button id="open" class="plain small" type="button" aria-pressed="false">Open all'
        '</button>\n<p id="count" class="soft" role="status"></p>\n</form>\n'
    )


def _select(name: str, title: str, options: dict[str, str]) -> str:
    choices = "".join(f'<option value="{key}">{text_of(v)}</option>' for key, v in options.items())
    return (
        f'<span><label for="{name}">{title}</label><select id="{name}" data-filter="{name}">'
        f'<option value="">any</option>{choices}</select></span>\n'
    )


def _entry(change: SampleChange) -> str:
    pair = change.pair
    way = "&quot;gained&quot;" if change.is_gain else "&quot;lost&quot;"
    data = f'data-task="{pair.row.number}" data-model="{pair.other.number}" data-way="{way}"'
    sides = "".join(
        _side(model, sample, pair)
        for model, sample in ((pair.base, change.base), (pair.other, change.other))
    )
    cluster = f' <span class="tag">{text_of(change.base.cluster)}</span>' * bool(
        change.base.cluster
    )
    return (
        f'<li class="entry" {data}><details><summary><span class="line" dir="auto">'
        f"{text_of(change.base.id)}</span>{cluster}"
        f'<span class="tag">{text_of(pair.row.label)}</span>{_way(change)}</summary>\n'
        f'<div class="pair">{sides}</div></details></li>\n'
    )


def _way(change: SampleChange) -> str:
    pair = change.pair
    right = pair.other if change.is_gain else pair.base
    if pair.is_binary:
        is_right = pair.found is None or pair.found.metric.better == "higher"
        words = f"{'right' if is_right else 'better'}: {right.label}"
    else:
        words = f"{'better' if change.is_gain else 'worse'}: {pair.other.label}"
    return f'<span class="tag {"good" if change.is_gain else "bad"}">{text_of(words)}</span>'


def _side(model: Model, sample: SampleResult, pair: ComparedPair) -> str:
    assert pair.found is not None
    columns = pair.found.metric.columns
    main = ", ".join(f"{name} {sample.scores[name]:.4g}" for name in columns)
    return (
        f'<div class="block"><h4>{text_of(model.label)} <span class="note">{text_of(main)}</span>'
        f"</h4>{_answer(sample)}{''.join(_facts(sample, columns))}</div>\n"
    )


def _answer(sample: SampleResult) -> str:
    if not sample.answer:
        return '<p class="soft">No text: it was scored by likelihood, or the answer is empty.</p>'
    cut = ""
    if len(sample.answer) >= ANSWER_CHARS:
        cut = f'<p class="soft">A result keeps the first {ANSWER_CHARS:,} characters.</p>'
    return folded(sample.answer) + cut


def folded(text: str) -> str:
    """``text``, the rest of a long one behind a line that opens it."""
    if len(text) <= _FOLD_FROM:
        return f'<p class="text" dir="auto">{text_of(text, one_line=False)}</p>'
    head, rest = text[:_HEAD], text[_HEAD:]
    return (
        f'<p class="text" dir="auto">{text_of(head, one_line=False)}</p>'
        f'<details class="rest"><summary>{len(rest):,} more characters</summary>'
        f'<p class="text" dir="auto">{text_of(rest, one_line=False)}</p></details>'
    )


def _facts(sample: SampleResult, columns: Sequence[str]) -> Iterator[str]:
    parts = [
        f"{name} {value:.4g}"
        for name, value in sample.scores.items()
        if name not in columns and not math.isnan(value)
    ]
    if sample.finish_reason:
        parts.append(f"ended by {json.dumps(sample.finish_reason, ensure_ascii=False)}")
    if sample.prompt_tokens or sample.completion_tokens:
        parts.append(f"{sample.prompt_tokens:,} tokens in, {sample.completion_tokens:,} out")
    if sample.seconds:
        parts.append(f"{sample.seconds:.2f} s")
    yield f'<p class="soft facts">{text_of(", ".join(parts))}</p>'
