"""chrF as sacrebleu 2.5.1 computes it, of which these figures are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location(
    "chrf", Path(__file__).parents[2] / "benchmarks" / "chrf.py"
)
chrf = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(chrf)


@pytest.mark.parametrize(
    ("hypotheses", "references", "expected"),
    [
        (["the cat sat"], ["the cat sat on the mat"], 49.59348409966008),
        (
            ["Y dijo Dios: Sea la luz", "el gato"],
            ["Y dijo Dios: Sea la luz: y fué la luz.", "un gato negro"],
            54.02720922455808,
        ),
        (["abc"], ["xyz"], 0.0),
        (["a"], ["a"], 100.0),
    ],
)
def test_figures_are_those_of_sacrebleu(hypotheses, references, expected):
    assert chrf.chrf(hypotheses, references) == pytest.approx(expected, abs=1e-9)
