"""The two pictures of `retrieval.py`: how good each system is, and what each stage adds."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["draw"]

OURS, THEIRS = "#1f5fa8", "#8a8a8a"
PEERS = ("bm25s", "Chroma")


def draw(record: Mapping[str, Any], folder: pathlib.Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    _forest(record["collections"], folder / "retrieval.svg")
    _differences(record["collections"], folder / "retrieval-stages.svg")


def _forest(collections: Mapping[str, Any], path: pathlib.Path) -> None:
    rows = {
        name: [(each, row["ndcg@10"]) for each, row in found["systems"].items()]
        for name, found in collections.items()
    }
    _panels(rows, "nDCG@10 with 95 % interval", path, zero=False)


def _differences(collections: Mapping[str, Any], path: pathlib.Path) -> None:
    rows = {
        name: list((found["against_peers"] | found["steps"]).items())
        for name, found in collections.items()
    }
    _panels(rows, "difference in nDCG@10 with 95 % interval", path, zero=True)


def _panels(
    rows: Mapping[str, Sequence[tuple[str, Mapping[str, float]]]],
    label: str,
    path: pathlib.Path,
    *,
    zero: bool,
) -> None:
    import matplotlib.pyplot as plt

    count = max(len(each) for each in rows.values())
    figure, axes = plt.subplots(
        1, len(rows), figsize=(4.6 * len(rows) + 1.5, 0.32 * count + 1.2), squeeze=False
    )
    for axis, (name, systems) in zip(axes[0], rows.items(), strict=True):
        for place, (system, value) in enumerate(systems):
            colour = THEIRS if system in PEERS else OURS
            axis.plot([value["low"], value["high"]], [place, place], color=colour, lw=1.5)
            axis.plot(value["mean"], place, "o", color=colour, ms=5)
        axis.set_yticks(range(len(systems)), [system for system, _ in systems], fontsize=8)
        axis.invert_yaxis()
        if zero:
            axis.axvline(0, color="#999999", lw=0.8)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel(label, fontsize=8)
        axis.tick_params(axis="x", labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
