"""Releases and verdicts for tests, as a gate would have made them."""

from __future__ import annotations

from typing import Any

from lmstack.registry.releases import Release
from lmstack.registry.verdicts import GateVerdict

__all__ = ["RULES", "digest", "documented", "release", "verdict"]

RULES = {"rules": [{"task": "numbers", "kind": "at_least", "threshold": 0.5}], "alpha": 0.05}


def digest(letter: str) -> str:
    return "sha256:" + letter * 64


def release(letter: str = "a", **more: str) -> Release:
    return Release(
        **{"model": f"model-{letter}", "digest": digest(letter), "weights": "int8"} | more
    )


def documented(letter: str = "a", index: str = "c") -> Release:
    """The release ``letter`` with documents whose index has a digest of the letter ``index``."""
    return release(letter).with_documents("/srv/docs", index * 64, "d" * 64)


def verdict(letter: str = "a", baseline: str | None = None, **more: Any) -> GateVerdict:
    """On the release ``letter``, against the one ``baseline``."""
    values: dict[str, Any] = {
        "alias": "prod",
        "release": release(letter),
        "baseline": None if baseline is None else digest(baseline),
        "decision": "PROMOTE",
        "reasons": ("PROMOTE: every rule is shown to hold (1 of them).",),
        "rules": RULES,
        "results": {"candidate/numbers": digest("e")},
        "date": "2026-11-30T00:00:00Z",
        "versions": {"lmstack": "0"},
    }
    return GateVerdict(**values | more)
