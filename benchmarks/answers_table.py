"""The result of `answers.py` as tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["print_tables"]

_BESIDE = ("first passage", "BM25's first", "best sentence")
_MEASURES = {
    "right": "right",
    "precise": "precise",
    "valid": "valid",
    "refused_wrongly": "refused wrongly",
    "refused_taken_away": "refused, gold taken away",
    "refused_near_miss": "refused, near miss",
    "patterns_kept": "patterns kept",
    "conflict_shown": "conflict shown, of disputed",
    "auc_taken_away": "AUC, gold taken away",
    "auc_near_miss": "AUC, near miss",
}


def _figure(cell: Mapping[str, Any]) -> float | None:
    figure: float | None = cell["area"] if "area" in cell else cell["share"]
    return figure


def _short(cell: Mapping[str, Any]) -> str:
    figure = _figure(cell)
    return "-" if figure is None else f"{figure:.2f}"


def _long(cell: Mapping[str, Any]) -> str:
    figure = _figure(cell)
    if figure is None:
        return "-"
    return f"{figure:.3f} ({cell['low']:.2f}-{cell['high']:.2f})"


def _pooled(of: Mapping[str, Any]) -> None:
    width = max(20, *(len(name) + 2 for name in of))
    print(f"\n  {'English, pooled':30}" + "".join(f"{name:>{width}}" for name in of))
    for key, title in _MEASURES.items():
        print(f"  {title:30}" + "".join(f"{_long(row[key]):>{width}}" for row in of.values()))
    for key, title in (("median_words", "words, median"), ("seconds_an_answer", "seconds")):
        cells = ("-" if row[key] is None else f"{row[key]:.1f}" for row in of.values())
        print(f"  {title:30}" + "".join(f"{cell:>{width}}" for cell in cells))


def _groups(title: str, groups: Mapping[str, Mapping[str, Any]]) -> None:
    heads = ("items", "right", "first", "BM25", "sent.", "prec.", "valid", "ref.wr.")
    heads += ("ref.ta.", "ref.nm.", "AUC ta.", "AUC nm.", "s")
    print(f"\n  {title:20}" + "".join(f"{head:>9}" for head in heads))
    for name, of in groups.items():
        row = of["default"]
        cells = [f"{row['refused_wrongly']['of']}", _short(row["right"])]
        cells += [_short(of[each]["right"]) if each in of else "-" for each in _BESIDE]
        cells += [_short(row[key]) for key in ("precise", "valid", "refused_wrongly")]
        cells += [_short(row[key]) for key in ("refused_taken_away", "refused_near_miss")]
        cells += [_short(row[key]) for key in ("auc_taken_away", "auc_near_miss")]
        seconds = row["seconds_an_answer"]
        cells.append("-" if seconds is None else f"{seconds:.1f}")
        print(f"  {name:20}" + "".join(f"{cell:>9}" for cell in cells))


def print_tables(result: Mapping[str, Any]) -> None:
    if result["english"]:
        _pooled(result["english"])
    _groups("collection", result["collections"])
    _groups("language", result["languages"])
    _groups("kind, English", result["kinds"])
    print("\n  first, BM25, sent.: right by showing the first passage, that of BM25, one sentence")
    print("  ref.wr., ref.ta., ref.nm.: refused wrongly; gold taken away; near misses", flush=True)
