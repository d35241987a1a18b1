"""The tables and the picture of `docs/quality.md`, from the results of `answers.py`.

    python benchmarks/answers_page.py

The page holds ``<!-- answers: NAME -->`` and ``<!-- /answers -->``; what stands between is written
anew. Figures are those of the test half, beside those of the tuning half where a row says so.
"""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from spine import HERE

__all__ = ["write_page"]

RESULTS, DOCS = HERE / "results", HERE.parent / "docs"
OURS, THEIRS = "#1f5fa8", "#8a8a8a"
SYSTEMS = {
    "default": "`lmstack ask`",
    "first passage": "First passage, shown",
    "BM25's first": "BM25's first passage",
    "best sentence": "Best sentence",
}
POOLED = {
    "right": "Right, of questions with an answer",
    "precise": "Precise citations of these",
    "valid": "Valid citations",
    "refused_wrongly": "Refused wrongly",
    "refused_taken_away": "Refused rightly, gold taken away",
    "refused_near_miss": "Refused rightly, near miss",
    "auc_taken_away": "AUC of the confidence, gold taken away",
    "auc_near_miss": "AUC, near miss",
}
# Of systems that show something whatever they find.
SHOWS = ("refused_wrongly", "refused_taken_away", "refused_near_miss", "precise", "valid")
GROUPED = {
    "refused_wrongly": "Refused wrongly",
    "refused_taken_away": "Refused: gold taken away",
    "refused_near_miss": "Refused: near miss",
    "auc_taken_away": "AUC: gold taken away",
    "auc_near_miss": "AUC: near miss",
}


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".removeprefix("0")


def _figure(cell: Mapping[str, Any]) -> float | None:
    figure: float | None = cell["area"] if "area" in cell else cell["share"]
    return figure


def _with_interval(cell: Mapping[str, Any]) -> str:
    figure = _figure(cell)
    if figure is None:
        return "–"
    return f"{_number(figure)} ({_number(cell['low'])}–{_number(cell['high'])})"


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def summary(known: Mapping[str, Any]) -> str:
    """For whoever reads one sentence."""
    mine = known["test"]["english"]["default"]
    right, refused, away = (
        _per_cent(mine[key]) for key in ("right", "refused_wrongly", "refused_taken_away")
    )
    return (
        f"The answers of the default models are accurate for {right} of the questions in English "
        f"that the documents answer; {refused} of these are refused. Of questions whose answer was "
        f"taken out of the documents, {away} are refused. <!-- measured: benchmarks/answers.py -->"
    )


def _per_cent(cell: Mapping[str, Any]) -> str:
    return f"{100 * cell['share']:.0f} per cent"


def pooled(known: Mapping[str, Any]) -> str:
    """Both halves of `lmstack ask`, and the test half of what is simpler."""
    test = known["test"]["english"]
    tuning = known["tuning"]["english"]["default"] if "tuning" in known else None

    def rows() -> Iterator[list[str]]:
        for key, title in POOLED.items():
            cells = [
                "–" if key in SHOWS and name != "default" else _with_interval(test[name][key])
                for name in SYSTEMS
            ]
            yield [title, *cells, *([_with_interval(tuning[key])] if tuning else [])]
        for key, title in (
            ("median_words", "Words shown, median"),
            ("seconds_an_answer", "Seconds"),
        ):
            cells = [
                "–" if test[name][key] is None else f"{test[name][key]:.3g}" for name in SYSTEMS
            ]
            mine = tuning[key] if tuning else None
            yield [title, *cells, *([f"{mine:.3g}"] if mine is not None else [])]

    head = ["English, pooled", *SYSTEMS.values()]
    return _table([*head, *(["`lmstack ask`, tuning half"] if tuning else [])], rows())


def _grouped(groups: Mapping[str, Any]) -> str:
    def rows() -> Iterator[list[str]]:
        for name, of in groups.items():
            mine = of["default"]
            beside = [
                _number(_figure(of[each]["right"])) if each in of else "–" for each in SYSTEMS
            ]
            others = [_number(_figure(mine[key])) for key in GROUPED]
            yield [name, str(mine["refused_wrongly"]["of"]), *beside, *others]

    head = ["", "Questions with an answer", "Right", "First passage", "BM25's", "Best sentence"]
    return _table([*head, *GROUPED.values()], rows())


def collections(known: Mapping[str, Any]) -> str:
    return _grouped(known["test"]["collections"])


def kinds(known: Mapping[str, Any]) -> str:
    return _grouped(known["test"]["kinds"])


def written(known: Mapping[str, Any]) -> str:
    """What models wrote, beside the quotations and a plain prompt: the test half where it was
    asked, else the tuning half."""
    half = next(half for half in ("written-test", "written-tuning") if half in known)
    found = known[half]["english"]
    names = [name for name in found if name == "default" or name.startswith(("written", "plain"))]

    def title(name: str) -> str:
        kind, _, model = name.partition(", ")
        return {"default": "Quoted", "written": f"Written, `{model}`"}.get(
            kind, f"Plain, `{model}`"
        )

    def rows() -> Iterator[list[str]]:
        for key, text in POOLED.items():
            if not key.startswith(("auc", "valid")):
                yield [text, *(_with_interval(found[name][key]) for name in names)]
        for key, text in (("median_words", "Words, median"), ("seconds_an_answer", "Seconds")):
            yield [text, *(f"{found[name][key]:.3g}" for name in names)]

    half_named = half.removeprefix("written-")
    return _table([f"English, pooled, {half_named} half", *map(title, names)], rows())


SECTIONS = {
    "summary": summary,
    "pooled": pooled,
    "written": written,
    "collections": collections,
    "kinds": kinds,
}


def _filled(made: str, match: re.Match[str]) -> str:
    return match[1] + made + match[2]


def write_page() -> None:
    known = json.loads((RESULTS / "answers.json").read_text())
    page = DOCS / "quality.md"
    text = page.read_text("utf-8")
    for name, section in SECTIONS.items():
        pattern = re.compile(rf"(<!-- answers: {name} -->\n).*?(\n<!-- /answers -->)", re.DOTALL)
        made = section(known)
        text, count = pattern.subn(partial(_filled, made), text)
        if count != 1:
            raise SystemExit(f"{page} holds <!-- answers: {name} --> {count} times")
    page.write_text(text, "utf-8")
    if "calibration" in known["test"]:
        draw(known, DOCS / "pictures" / "calibration.svg")


def draw(known: Mapping[str, Any], path: pathlib.Path) -> None:
    """How often the best passage answers, against the confidence, of both halves."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(4.2, 3.8))
    axis.plot([0, 1], [0, 1], color="#bbbbbb", lw=1)
    for half, colour, shift in (("tuning", THEIRS, -0.006), ("test", OURS, 0.006)):
        bins = [each for each in known.get(half, {}).get("calibration", ()) if each["of"]]
        at = [each["confidence"] + shift for each in bins]
        axis.vlines(at, [b["low"] for b in bins], [b["high"] for b in bins], color=colour, lw=1.2)
        axis.plot(at, [b["share"] for b in bins], "o", color=colour, ms=5, label=f"{half} half")
    axis.set(xlim=(0, 1), ylim=(0, 1))
    axis.set_xlabel("confidence, mean of a tenth of the questions", fontsize=8)
    axis.set_ylabel("share that what is shown answers, 95 % interval", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    write_page()
