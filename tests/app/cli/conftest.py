"""The command line in the process of the tests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _undrawn_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of a tiny model takes less time than the picture of its curves, which is drawn at each
    evaluation. `tests/train/test_metrics.py` has a run that draws it, and
    `tests/app/inspect/test_training_picture.py` looks at what is drawn."""
    drawn = "lmstack.app.cli.commands._shown_run.draw_training"
    monkeypatch.setattr(drawn, lambda metrics, output, title: None)
