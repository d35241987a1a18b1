"""The curves of a training run, drawn from its metrics.jsonl.

Loss of training and validation, or where samples are learned from their reward and then the loss;
learning rate and length of the gradient, by step. Needs the extra
``pictures``. It lives here and not in `train`, which writes the figures and draws nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmstack.app.report.drawing import ACCENT, FAINT, INK, QUIET, Sheet
from lmstack.core.files import store_error
from lmstack.train.metrics import read_metrics

__all__ = ["draw_training"]

MARGIN, TOP, WIDE, TALL, BELOW = 0.7, 0.95, 7.2, 2.6, 0.75
LOW = 1.3  # of the two lower panels
# Beyond so many points the curve is of means, and the points lie faint behind it.
SMOOTHED = 100


def draw_training(metrics: Path, output: Path, title: str) -> None:
    """Write the picture ``output``, whole or not at all."""
    lines = read_metrics(metrics)
    low = [("lr", "Learning rate"), ("gradient", "Length of the gradient")]
    main, title_of_main = "loss", "Loss"
    if any("reward_spread" in line for line in lines):
        main, title_of_main = "reward", "Reward"
        low.insert(0, ("loss", "Loss"))
    sheet = Sheet(2 * MARGIN + WIDE, TOP + TALL + BELOW + len(low) * (LOW + BELOW))
    sheet.text(MARGIN / 2, 0.25, title, fontsize=13, fontweight="bold")
    last = max((line["step"] for line in lines), default=0)
    sheet.text(MARGIN / 2, 0.53, f"{last:,} steps", fontsize=9, color=QUIET)
    axes = sheet.panel(MARGIN, TOP, WIDE, TALL, title_of_main)
    _curve(axes, _points(lines, main), "training")
    held = _points(lines, f"validation_{main}")
    if held:
        axes.plot(*zip(*held, strict=True), "o-", color=ACCENT, markersize=4, label="validation")
    if axes.has_data():
        fonts = {"size": 8, "family": sheet.font["family"]}
        axes.legend(loc="upper right", frameon=False, prop=fonts, ncols=2)
    top = TOP + TALL + BELOW
    for name, heading in low:
        below = "step" if (name, heading) == low[-1] else ""
        _curve(sheet.panel(MARGIN, top, WIDE, LOW, heading, below=below), _points(lines, name), "")
        top += LOW + BELOW
    partial = output.with_name(f".{output.name}")
    try:
        sheet.write(partial)
        partial.replace(output)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise store_error(error, output, "writing") from error


def _points(lines: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    return [(line["step"], line[name]) for line in lines if line.get(name) is not None]


def _curve(axes: Any, points: Sequence[tuple[int, float]], name: str) -> None:
    if len(points) <= SMOOTHED:
        axes.plot([x for x, _ in points], [y for _, y in points], color=INK, lw=1.2, label=name)
        return
    axes.plot([x for x, _ in points], [y for _, y in points], color=FAINT, lw=0.5)
    size = -(-len(points) // SMOOTHED)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    means = [tuple(sum(v) / len(v) for v in zip(*group, strict=True)) for group in groups]
    axes.plot(*zip(*means, strict=True), color=INK, lw=1.4, label=name)
