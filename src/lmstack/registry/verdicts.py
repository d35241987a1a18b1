"""What a gate said of a release, as a record that is signed: the only way to an alias.

A verdict names the alias and the release that it is about, what that was compared with, the rules
with their hash, the results by their digests, and the decision. `GateVerdict.check_passes` refuses
one that is of something else, or that did not pass. Not covered: deciding (`lmstack.evals.gate`),
the signature (`signing`), and which verdict counts (`aliases`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from lmstack.core import FormatError, IntegrityError, shown
from lmstack.registry.releases import Release
from lmstack.registry.signing import fields, sha256_of

__all__ = ["GateVerdict", "Outcome"]

Outcome = Literal["PROMOTE", "HOLD", "REJECT"]
_OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
_FORMAT = "lmstack.verdict/{}"  # version 2: of a release with documents
_KINDS: Mapping[str, Any] = {
    "format": str,
    "alias": str,
    "release": dict,
    "baseline": (str, type(None)),
    "decision": str,
    "reasons": list,
    "rules": dict,
    "rules_digest": str,
    "untested": list,
    "measured": list,
    "results": dict,
    "date": str,
    "versions": dict,
}


@dataclass(frozen=True)
class GateVerdict:
    """``baseline``: the digest of the release that it was compared with; None for the first of an
    alias. ``untested`` names the rules that compare where there was nothing to compare with.
    ``rules``: the gate as declared. ``measured``: of each rule, the figures. ``results``: the
    digest of each result, by ``candidate/TASK`` and ``baseline/TASK``. ``date``: UTC, ISO 8601."""

    alias: str
    release: Release
    baseline: str | None
    decision: Outcome
    reasons: tuple[str, ...]
    rules: Mapping[str, Any] = field(hash=False)
    results: Mapping[str, str] = field(hash=False)
    date: str
    versions: Mapping[str, str] = field(hash=False)
    untested: tuple[str, ...] = ()
    measured: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)

    @property
    def passed(self) -> bool:
        return self.decision == "PROMOTE"

    @property
    def rules_digest(self) -> str:
        return sha256_of(dict(self.rules))

    def check_passes(self, alias: str, release: Release) -> None:
        """`IntegrityError` with the reason unless this lets ``release`` be ``alias``."""
        what = f"the verdict of {self.date}"
        if self.alias != alias:
            raise IntegrityError(
                f"{what} is for the alias {self.alias}, not for {alias}",
                hint=f"lmstack release promote {release.model} --to {alias} --gate FILE",
            )
        if self.release.digest != release.digest:
            raise IntegrityError(
                f"{what} is of {self.release.short}, not of {release.short}",
                hint=f"lmstack release promote {release.model} --to {alias} --gate FILE",
            )
        if self.release != release:
            raise IntegrityError(
                f"{what} is of {self.release.title}, not of {release.title}",
                hint=f"lmstack release promote {release.model} --to {alias} --gate FILE",
            )
        if not self.passed:
            raise IntegrityError(
                f"{what} on {release.short} is {self.decision}",
                hint="only a release that the gate promotes can be served under an alias",
            )

    def to_json(self) -> dict[str, Any]:
        return {
            **{name: getattr(self, name) for name in _KINDS if name != "format"},
            "format": _FORMAT.format(self.release.version),
            "release": self.release.to_json(),
            "reasons": list(self.reasons),
            "untested": list(self.untested),
            "measured": [dict(each) for each in self.measured],
            "rules": dict(self.rules),
            "results": dict(self.results),
            "versions": dict(self.versions),
        }

    @classmethod
    def from_json(cls, value: Any) -> GateVerdict:
        """`FormatError` where it is not what `to_json` gives; `IntegrityError` where the rules are
        not those of their hash."""
        data = dict(fields(value, "a verdict", _KINDS))
        data["release"] = release = Release.from_json(data["release"])
        wanted = _FORMAT.format(release.version)
        if data.pop("format") != wanted or data["decision"] not in _OUTCOMES:
            raise FormatError(
                f"a verdict has the decision {shown(data['decision'])} in the format"
                f" {shown(value['format'])}",
                hint=f"this lmstack reads {wanted} of such a release",
            )
        stated = data.pop("rules_digest")
        for name in ("reasons", "untested", "measured"):
            data[name] = tuple(data[name])
        verdict = cls(**data)
        if verdict.rules_digest != stated:
            raise IntegrityError(
                f"the rules of a verdict are not those of its hash {shown(stated[:19])}",
                hint="restore it, or promote the model again",
            )
        return verdict
