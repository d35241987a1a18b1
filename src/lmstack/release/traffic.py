"""A second version of the model behind a server: as a canary, or as a shadow.

Joins `safety.traffic` and `safety.shadow` with the file of live comparisons, the test that stops a
canary, the audit log and /metrics. What a question about documents asks of the model on the way to
one answer goes to one version, so that no answer is by two. Not covered: loading the version.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lmstack.core import ChatModel, InputError, ModelInfo, Request
from lmstack.release.live_recorder import CanaryWatch, LiveRecorder
from lmstack.release.live_store import LiveStore, Mode, live_path
from lmstack.safety import (
    AuditLog,
    Canary,
    CanaryModel,
    Observation,
    Shadow,
    ShadowBounds,
    ShadowModel,
)
from lmstack.safety.recorder import request_record
from lmstack.safety.traffic import Arm, arm_of, by_conversation, by_request

__all__ = ["DEFAULT_SHARE", "Traffic", "TrafficCandidate", "beside"]

logger = logging.getLogger(__name__)

DEFAULT_SHARE = 0.1


@dataclass(frozen=True)
class TrafficCandidate:
    """What `--canary` or `--shadow` says. ``weights``: the form of its weights. ``is_remote``: it
    runs elsewhere, so that it takes no time of this machine. ``keeps_texts``: of both versions."""

    mode: Mode
    model: str
    weights: str | None = None
    share: float = DEFAULT_SHARE
    is_remote: bool = False
    keeps_texts: bool = False

    def __post_init__(self) -> None:
        is_all = self.mode == "shadow" and self.share == 1
        if not (0 < self.share < 1 or is_all):
            raise InputError(
                f"--share is {self.share:g}, and so there is nothing to compare",
                hint="give the share of conversations, such as --share 0.1",
                param="share",
            )
        if self.weights is not None and self.is_remote:
            raise InputError(
                f"{self.model} is not on this machine, and its weights are to be {self.weights}",
                hint=f"--{self.mode} {self.model}",
                param=self.mode,
            )


class Traffic:
    """``candidate``, which is closed with it, beside the model of ``stable``. ``index_dir``: where
    people's judgements of answers are kept. ``note`` is told of a canary that is stopped."""

    def __init__(
        self,
        wanted: TrafficCandidate,
        candidate: ChatModel,
        stable: ModelInfo,
        *,
        path: Path,
        index_dir: Path,
        audit: AuditLog | None = None,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.candidate, self._mode = candidate, wanted.mode
        self._audit, self._note = audit, note
        self._auditing = ThreadPoolExecutor(1, "traffic-audit")
        store = LiveStore(path)
        arms = arm_of("stable", stable), arm_of("canary", candidate.info)
        self.comparison = store.begin(wanted.mode, *arms, wanted.share, index_dir)
        self._recorder = LiveRecorder(store, self.comparison, keeps_texts=wanted.keeps_texts)
        self.canary: Canary | None = None
        self.shadow: Shadow | None = None
        if wanted.mode == "canary":
            self.canary = self._canary(wanted, store)
        else:
            self.shadow = Shadow(
                candidate,
                wanted.share,
                admit=self._shadowed,
                observe=self._recorder.record,
                dropped=lambda reason: self._recorder.count(f"dropped: {reason}"),
                bounds=ShadowBounds(yields=not wanted.is_remote),
            )

    def _canary(self, wanted: TrafficCandidate, store: LiveStore) -> Canary:
        canary = Canary(self.candidate, wanted.share)
        if self.comparison.stopped is not None:
            when, reason = self.comparison.stopped, self.comparison.reason
            canary.stop(f"since {when}: {reason}")
            self._note(
                f"the canary is not asked: it was stopped at {when}, because {reason};"
                " `lmstack release traffic --clear` lets it begin again"
            )
            return canary

        def stop(reason: str) -> None:
            canary.stop(reason)
            self._recorder.stopped(reason)
            self._record({"event": "canary_stopped", "reason": reason, **self._versions()})
            self._note(f"the canary was stopped: {reason}; the stable version answers everything")

        before = store.answers(self.comparison.id, with_texts=False)
        watch = CanaryWatch(wanted.share, stop, before)
        canary.observed_by(watch.begun, lambda seen: self._one(seen, watch))
        return canary

    def _versions(self) -> dict[str, Any]:
        stable, candidate = self.comparison.stable, self.comparison.candidate
        return {
            "model": {"name": stable.model, "digest": stable.digest},
            "candidate": {"name": candidate.model, "digest": candidate.digest},
        }

    def split(self, stable: ChatModel, candidate: ChatModel, *, per_request: bool) -> ChatModel:
        """Both versions as one model, each through what stands before it. ``per_request``: what is
        asked in one request goes to one version, instead of what is asked in one conversation."""
        unit: Callable[[Request], str] = by_request if per_request else by_conversation
        if self.canary is not None:
            return CanaryModel(stable, self.canary, candidate=candidate, unit=unit)
        assert self.shadow is not None
        return ShadowModel(stable, self.shadow, candidate=candidate, unit=unit)

    def figures(self) -> Mapping[str, float]:
        """For /metrics."""
        if self.canary is not None:
            canary = self.canary
            return {
                "canary_requests_total": canary.num_asked,
                "canary_fallbacks_total": canary.num_fallbacks,
                "canary_stopped": float(canary.stopped is not None),
            }
        assert self.shadow is not None
        shadow = self.shadow
        return {
            "shadow_requests_total": shadow.num_offered,
            "shadow_answers_total": shadow.num_answered,
            "shadow_dropped_total": shadow.dropped.total(),
            "shadow_waiting": shadow.num_waiting,
        }

    def _one(self, seen: Observation, watch: CanaryWatch) -> None:
        watch.ended(seen)
        if seen.arm.name == "canary" and seen.error and seen.first_token_s is None:
            self._recorder.count(f"fell back: {seen.error}")
        self._recorder.record(seen)

    def _shadowed(self, request: Request, arm: Arm) -> None:
        """In the audit log before the candidate sees it; `StoreError` where that cannot be."""
        if self._audit is not None:
            info = ModelInfo(arm.model, arm.digest)
            self._audit.append(request_record("shadowed", request, info, arm))

    def _record(self, record: Mapping[str, Any]) -> None:
        """In the audit log, off the event loop, what happened already: a canary that was stopped
        stays so whether or not that can be written."""
        if self._audit is not None:
            self._auditing.submit(self._append, self._audit, record)

    @staticmethod
    def _append(audit: AuditLog, record: Mapping[str, Any]) -> None:
        try:
            audit.append(record)
        except Exception as error:
            logger.error("no audit record of %s: %s", record["event"], error)

    def close(self) -> None:
        if self.shadow is not None:
            self.shadow.close()
        self._recorder.close()
        self._auditing.shutdown(wait=True)
        closer = getattr(self.candidate, "close", None)
        if closer is not None:
            closer()


def beside(
    wanted: TrafficCandidate,
    candidate: ChatModel,
    stable: ModelInfo,
    home: Path,
    index_dir: Path,
    note: Callable[[str], None],
) -> Callable[..., Traffic]:
    """Makes the `Traffic` of a server once there is an ``audit`` log."""
    path = live_path(home)
    return partial(Traffic, wanted, candidate, stable, path=path, index_dir=index_dir, note=note)
