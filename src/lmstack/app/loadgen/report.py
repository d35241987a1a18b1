"""A load's figures for people: a block for one load, a table for several.

Does not cover computing them (`summary`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lmstack.app.drawing import ACCENT, INK, QUIET, Sheet
from lmstack.app.formats import columns, count, seconds
from lmstack.app.loadgen.summary import SLOW_GAP_S, Spread, Summary

__all__ = ["draw_load", "figures_of", "notes_of", "table_of"]


HELD_UP_S = 0.05
SLOW = f"over {1000 * SLOW_GAP_S:.0f} ms"


def figures_of(found: Summary) -> list[str]:
    """Everything about one load."""
    spreads = (
        ("first token", found.first_token),
        ("between pieces", found.between),
        ("a token", found.a_token),
        ("whole answer", found.answer),
    )
    header = ("", "P50", "P90", "P95", "P99", "MAX")
    rows = [(name, *_all(spread)) for name, spread in spreads if spread is not None]
    lines = [
        f"{found.level.title}: {found.succeeded} of {count(found.requests, 'requests')} answered"
        f" in {seconds(found.seconds)}",
        f"{found.requests_per_s:.2f} requests/s, {found.tokens_per_s:,.1f} output tokens/s",
        *(["", *columns([header, *rows])] if rows else []),
    ]
    if found.between is not None:
        lines += ["", f"{SLOW} between pieces: {_slow(found)}"]
    if _errors(found):
        lines += ["", f"errors: {_errors(found)}"]
    return lines


def table_of(summaries: Sequence[Summary]) -> list[str]:
    """A line for each load."""
    header = (
        *("LOAD", "ANSWERED", "REQUESTS/S", "TOKENS/S", "FIRST TOKEN P50", "P95", "P99"),
        *("BETWEEN P50", "P99", SLOW.upper(), "ANSWER P50", "P95", "ERRORS"),
    )
    rows = []
    for found in summaries:
        first, between, answer = found.first_token, found.between, found.answer
        rows.append(
            (
                found.level.title,
                f"{found.succeeded} of {found.requests}",
                f"{found.requests_per_s:.2f}",
                f"{found.tokens_per_s:,.1f}",
                *(_time(value) for value in _some(first, "p50", "p95", "p99")),
                *(_time(value) for value in _some(between, "p50", "p99")),
                f"{100 * found.slow_share:.2f} %",
                *(_time(value) for value in _some(answer, "p50", "p95")),
                _errors(found) or "none",
            )
        )
    return columns([header, *rows], gap=2)


def notes_of(summaries: Sequence[Summary], asked: int | None) -> Iterator[str]:
    """What a reader of the figures must know. ``asked``: tokens of an answer that were wanted,
    None where answers differ."""
    good = [found for found in summaries if found.succeeded]
    if not good:
        return
    by = {found.counted_by for found in good}
    length = sum(f.output_tokens * f.succeeded for f in good) / sum(f.succeeded for f in good)
    prompts = [found.prompt_tokens for found in good if found.prompt_tokens is not None]
    told = f"{sum(prompts) / len(prompts):.0f} tokens in, " if prompts else ""
    way = "by the server's usage" if by == {"usage"} else f"by {', '.join(sorted(by))}"
    yield f"{told}{length:.0f} tokens out on average; output counted {way}"
    if asked is not None and length < 0.95 * asked:
        yield f"answers ended before the {asked} tokens that were asked for"
    piece = max(found.tokens_a_piece for found in good)
    if piece > 1.05:
        yield f"a piece holds {piece:.1f} tokens on average; times between are between pieces"
    held_up = max(found.held_up for found in summaries)
    if held_up > HELD_UP_S:
        yield (
            f"this program itself was held up for {1000 * held_up:.0f} ms: on a busy machine it"
            " adds to what it measures"
        )


def _all(spread: Spread) -> list[str]:
    return [_time(getattr(spread, name)) for name in ("p50", "p90", "p95", "p99", "max")]


def _some(spread: Spread | None, *names: str) -> list[float | None]:
    return [None if spread is None else getattr(spread, name) for name in names]


def _time(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{1000 * value:.1f} ms" if value < 1 else f"{value:.2f} s"


def _slow(found: Summary) -> str:
    assert found.between is not None
    return f"{found.slow_gaps:,} of {found.between.count:,} ({100 * found.slow_share:.2f} %)"


def _errors(found: Summary) -> str:
    kinds = [f"{kind} x {number}" for kind, number in found.errors.items()]
    if found.unfinished:
        kinds.append(f"unfinished x {found.unfinished}")
    return ", ".join(kinds)


MARGIN, TOP = 0.75, 1.0  # inches
WIDE, TALL, BESIDE, BELOW = 3.9, 2.3, 0.85, 0.8
# From calm to worst; the last is what is promised to users, so it stands out.
CURVES = (("p50", "#9ecae1"), ("p95", "#3182bd"), ("p99", ACCENT))


def draw_load(path: Path, title: str, summaries: Sequence[Summary]) -> None:
    """``summaries``: one for each load, which are all of one kind."""
    summaries = sorted(summaries, key=lambda found: found.level.load)
    sheet = Sheet(2 * MARGIN + 2 * WIDE + BESIDE, TOP + 2 * (TALL + BELOW) - 0.1)
    sheet.text(MARGIN / 2, 0.25, title, fontsize=13, fontweight="bold")
    note = "Median, 95th and 99th percentile of answers that ended well, by load."
    sheet.text(MARGIN / 2, 0.53, note, fontsize=9, color=QUIET)
    panels: tuple[tuple[str, Callable[[Summary], Spread | None]], ...] = (
        ("Time to first token, ms", lambda s: s.first_token),
        ("Between two pieces of text, ms", lambda s: s.between),
        ("Whole answer, ms", lambda s: s.answer),
    )
    rated = summaries[0].level.rate is not None
    load = "requests arriving a second" if rated else "requests at once"
    for number, (name, spread) in enumerate(panels):
        axes = _panel(sheet, number, name, load if number > 1 else "")
        _curves(sheet, axes, summaries, spread)
        if number == 1:
            _line(sheet, axes, 1000 * SLOW_GAP_S)
    axes = _panel(sheet, 3, "Output of all together, tokens/s", load)
    loads = [s.level.load for s in summaries]
    axes.plot(loads, [s.tokens_per_s for s in summaries], "o-", color=INK, markersize=4)
    _from_zero(axes, loads)
    sheet.write(path)


def _panel(sheet: Sheet, number: int, title: str, below: str) -> Any:
    row, column = divmod(number, 2)
    left, top = MARGIN + column * (WIDE + BESIDE), TOP + row * (TALL + BELOW)
    return sheet.panel(left, top, WIDE, TALL, title, below)


def _curves(
    sheet: Sheet, axes: Any, summaries: Sequence[Summary], spread: Callable[[Summary], Any]
) -> None:
    found = [(s.level.load, spread(s)) for s in summaries]
    told = [(load, values) for load, values in found if values is not None]
    for name, colour in CURVES:
        axes.plot(
            [load for load, _ in told],
            [1000 * getattr(values, name) for _, values in told],
            "o-",
            color=colour,
            markersize=4,
            label=name,
        )
    _from_zero(axes, [load for load, _ in found])
    axes.legend(
        loc="upper left", frameon=False, prop={"size": 8, "family": sheet.font["family"]}, ncols=3
    )
    # Room for the names of the curves above them.
    axes.set_ylim(0, 1.22 * axes.get_ylim()[1])


def _from_zero(axes: Any, loads: Sequence[float]) -> None:
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, 1.05 * max(loads))


def _line(sheet: Sheet, axes: Any, height: float) -> None:
    """Where a reader begins to notice, if the panel reaches so high."""
    if axes.get_ylim()[1] > height:
        axes.axhline(height, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
        style = {"fontsize": 8, "color": QUIET, "va": "bottom", "ha": "right"}
        axes.text(axes.get_xlim()[1], height, f"{height:.0f} ms", **style, **sheet.font)
