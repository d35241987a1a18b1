"""The lineage of what a run leaves: the code, the base, the data."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.train import tiny

import lmstack
from lmstack.train import result
from lmstack.train.data.report import DataReport
from lmstack.train.result import _code, training_of

VERSION = f"lmstack {lmstack.__version__}"
COMMIT = "0123456789abcdef"


@pytest.mark.parametrize(
    ("changed", "code", "said"),
    [
        ("", 0, f"{VERSION}, git 0123456789ab"),
        (" M a.py", 0, f"{VERSION}, git 0123456789ab, with changes"),
        ("", 128, VERSION),
    ],
)
def test_the_code_is_its_version_and_in_a_checkout_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str, code: int, said: str
) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **given: Any) -> Any:
        asked.append(command)
        assert given == {"capture_output": True, "text": True, "timeout": 5.0, "check": True}
        if code:
            raise subprocess.CalledProcessError(code, command)
        return SimpleNamespace(stdout=f"{COMMIT if 'rev-parse' in command else changed}\n")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(lmstack, "__file__", str(tmp_path / "src" / "lmstack" / "__init__.py"))
    assert _code() == VERSION
    assert not asked
    (tmp_path / ".git").write_text("gitdir: elsewhere")
    assert _code() == said
    place = ["git", "-C", str(tmp_path)]
    assert asked[0] == [*place, "rev-parse", "HEAD"]
    assert asked[1:] == ([] if code else [[*place, "status", "--porcelain", "-uno"]])


def test_lineage_has_what_was_counted_and_no_number_that_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(result, "_code", lambda: "code")
    files = [{"path": "/data/a.jsonl", "bytes": 3, "sha256": "5f"}]
    recipe = tiny.recipe(base=None, model={"x": 1}, tokenizer="t")
    found = training_of(
        recipe,
        SimpleNamespace(digest="d"),  # type: ignore[arg-type]
        DataReport(files=files),
        "print",
        metrics={"loss": 1.5, "pearson": float("nan"), "gap": float("inf")},
        steps=3,
        tokens=40,
        trainable=7,
        seconds=1.23456,
        models={"teacher": "e"},
    )
    assert list(found.data) == [{"name": "a.jsonl", "size": 3, "sha256": "5f"}]
    assert (found.objective, found.base, found.code) == ("causal", None, "code")
    assert (found.fingerprint, found.metrics) == ("print", {"loss": 1.5})
    assert (found.steps, found.tokens, found.trainable, found.seconds) == (3, 40, 7, 1.235)
    assert (found.models, found.recipe) == ({"teacher": "e"}, recipe.to_json())
    assert found.finished.endswith("+00:00")
    assert len(found.finished) == len("2026-12-02T09:00:00+00:00")
