"""`lmstack data preferences`: pairs and ratings checked, and made into pairs to train on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lmstack.app.cli.command import command
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, count, printable, size
from lmstack.app.report.drawing import check_picture
from lmstack.core import InputError, shown
from lmstack.core.files import write_atomic

if TYPE_CHECKING:
    from lmstack.train.data.length_bias import LengthBias
    from lmstack.train.data.preference_report import PreferenceData, PreferenceReport
    from lmstack.train.data.preferences import PlacedPair

__all__ = ["preferences"]

_PLACES = 3


@command(
    "data preferences",
    """
    FILE...: Pairs or ratings: files, folders, or patterns.
    --output, -o FILE: Write the pairs, as JSON Lines.
    --validation SHARE: Write this share of the prompts to a second file, named
        FILE.validation.jsonl.
    --against FILE: An evaluation set that must not be trained on.
    --keep FAULT: Keep pairs that are copied, contradicted or leaked.
    --min-margin: Ratings that differ by less are a tie.
    --per-prompt N 1..: Pairs of rated answers to one prompt, the largest margins first. [default:
        all]
    --picture FILE: Draw lengths and margins, as PNG or SVG.

    lmstack data preferences ratings.jsonl --output pairs.jsonl --validation 0.1
    lmstack data preferences pairs.jsonl --against mmlu.jsonl --picture pairs.png
    """,
)
def preferences(
    out: Output,
    files: list[str],
    output: Path | None = None,
    validation: float = 0.0,
    against: list[str] | None = None,
    keep: list[str] | None = None,
    min_margin: float = 0.0,
    per_prompt: int | None = None,
    picture: Path | None = None,
) -> None:
    """Check preference pairs and ratings, and make pairs of them to train on.

    Rows are pairs (prompt, chosen, rejected) or rated answers (prompt, completion, rating), which
    become pairs with a margin. Exact copies, pairs that contradict each other and pairs that share
    words with an evaluation set are left out of --output unless --keep names them; near copies and
    a bias towards length are reported. --picture needs matplotlib: pip install
    'lmstack[pictures]'."""
    from lmstack.train.data.preference_report import examine_preferences
    from lmstack.train.data.ratings import RatingConfig

    if picture is not None:
        check_picture(picture, "picture")
    kept = _faults(keep or ())
    held = _checked(output, validation)
    config = RatingConfig(min_margin=min_margin)
    if per_prompt is not None:
        config = RatingConfig(min_margin=min_margin, per_prompt=per_prompt)
    with out.progress("Data", "bytes") as bar:
        found = examine_preferences(
            files,
            config,
            against=tuple(against or ()),
            keep=kept,
            told=lambda doing, done, total: bar.update(done, total, doing),
        )
    written = _write(found, output, held, validation)
    if picture is not None:
        from lmstack.app.inspect.preference_picture import draw_preferences

        draw_preferences(picture, found.report)
    if out.as_json:
        out.result({**found.report.to_json(), "written": written})
    else:
        _print(out, found.report, written)


_NAMES = {"copied": "exact", "contradicted": "contradicted", "leaked": "leaked"}


def _faults(names: Sequence[str]) -> tuple[str, ...]:
    for name in names:
        if name not in _NAMES:
            raise InputError(
                f"--keep is {shown(name)}", hint=f"--keep {' or '.join(_NAMES)}", param="keep"
            )
    return tuple(_NAMES[name] for name in names)


def _checked(output: Path | None, validation: float) -> Path | None:
    """The file of the validation side, where there is one; `InputError` before anything slow."""
    if not 0 <= validation < 1:
        raise InputError(
            f"--validation is {validation:g}, which is no share",
            hint="--validation 0.1",
            param="validation",
        )
    if validation and output is None:
        raise InputError(
            "--validation is of the pairs that are written",
            hint="--output FILE",
            param="validation",
        )
    held = output.with_suffix(".validation.jsonl") if output and validation else None
    for path in filter(None, (output, held)):
        if path.exists():
            raise InputError(
                f"{path} is there already", hint="another --output, or delete it", param="output"
            )
    return held


def _write(
    found: PreferenceData, output: Path | None, held: Path | None, share: float
) -> dict[str, int]:
    """How many pairs went into each file."""
    if output is None:
        return {}
    train, validation = found.sides(share)
    if not train:
        raise InputError(
            f"none of the {found.report.pairs} pairs is left to train on",
            hint="--keep FAULT, or a smaller --validation",
            param="output",
        )
    written = {}
    for path, pairs in ((output, train), (held, validation)):
        if path is not None:
            write_atomic(path, _lines(pairs))
            written[str(path)] = len(pairs)
    return written


def _lines(pairs: Sequence[PlacedPair]) -> bytes:
    from lmstack.train.data.preferences import row_of

    rows = (json.dumps(row_of(placed.pair), ensure_ascii=False) for placed in pairs)
    return "".join(f"{row}\n" for row in rows).encode()


def _print(out: Output, found: PreferenceReport, written: dict[str, int]) -> None:
    rows = [
        ("files", f"{len(found.files):,}, {size(sum(file['bytes'] for file in found.files))}"),
        ("rows", f"{found.rows:,}, {found.bad_rows:,} of which cannot be used"),
        *_rated(found),
        ("pairs", f"{found.pairs:,} of {count(found.prompts, 'prompts')}"),
        *_faulty(found),
        ("fit to train on", f"{found.kept:,}"),
        *_lengths(found.length),
        *((f"with {kind}", f"{number:,}") for kind, number in sorted(found.personal.items())),
        *((f"written to {path}", f"{number:,}") for path, number in written.items()),
    ]
    out.lines([printable(line, one_line=True) for line in columns(rows)])
    if found.reasons:
        out.line("\nCannot be used")
        reasons = [(f"{number:,}", reason) for reason, number in found.reasons.items()]
        out.lines([printable(line, one_line=True) for line in columns(reasons, indent=2)])
        for bad in found.bad[:_PLACES]:
            out.line(printable(f"  {bad['place']}: {bad['reason']}", one_line=True))


def _rated(found: PreferenceReport) -> list[tuple[str, str]]:
    rows = []
    if found.answers:
        rows = [
            ("rated answers", f"{found.answers:,}, {found.unpaired:,} with nothing to compare to"),
            ("ties", f"{found.ties:,}; raters disagree about {found.disputed:,} comparisons"),
        ]
    if found.margins.count:
        least, median, most = found.margins.least, found.margins.median, found.margins.most
        rows.append(("margins", f"{least:.3g} to {most:.3g}, half of them up to {median:.3g}"))
    if found.probabilities.count:
        median = found.probabilities.median
        rows.append(
            ("labels by a judge", f"{median:.0%} sure at the median; it doubts {found.doubted:,}")
        )
    return rows


def _faulty(found: PreferenceReport) -> list[tuple[str, str]]:
    said = {
        "exact": "exact copies",
        "near": "near copies",
        "contradicted": "contradicted",
        "opposed": "nearly contradicted",
        "alike": "answers nearly alike",
        "leaked": f"in {count(found.items, 'evaluation items')}",
    }
    rows = []
    for name, label in said.items():
        if name == "leaked" and not found.items:
            continue
        places = found.places[name][:_PLACES]
        rows.append((label, ", ".join([f"{found.faults[name]:,}", *places])))
    if found.unread:
        rows.append(("", f"{found.unread:,} evaluation items cannot be read"))
    return rows


def _lengths(length: LengthBias) -> list[tuple[str, str]]:
    if not length.pairs:
        return []
    said = "a bias" if length.is_found else "no bias is shown"
    return [
        (
            "longer is chosen",
            f"{length.longer:.1%} of the time, 95 % interval {length.low:.1%} to {length.high:.1%}:"
            f" {said}",
        ),
        ("", f"the chosen answer has {length.ratio:.2f} times the characters, at the median"),
    ]
