"""Reports of what `lmstack up --canary` and `--shadow` saw: the file of comparisons, joined with
what people thought of the answers by the id of the request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lmstack.core import NotFoundError
from lmstack.registry.home import home
from lmstack.release.feedback import FeedbackStore
from lmstack.release.live_store import LiveComparison, LiveStore
from lmstack.release.traffic import live_path

if TYPE_CHECKING:
    from lmstack.evals.live import LiveReport

__all__ = ["clear", "comparison", "comparisons", "report"]


def comparisons() -> list[LiveComparison]:
    """The newest last."""
    return LiveStore(live_path(home())).comparisons()


def comparison(number: int | None) -> LiveComparison:
    """By its number; without one the newest."""
    known = comparisons()
    if not known:
        raise NotFoundError(
            "no two versions have been compared on live traffic",
            hint="lmstack up DIR --canary MODEL, or --shadow MODEL",
        )
    found = known[-1] if number is None else next((k for k in known if k.id == number), None)
    if found is None:
        numbers = ", ".join(str(each.id) for each in known)
        raise NotFoundError(
            f"there is no comparison {number}", hint=f"there are {numbers}", param="number"
        )
    return found


def report(found: LiveComparison) -> LiveReport:
    from lmstack.evals.live import compare_live

    thumbs = {
        each["request_id"]: each["verdict"] == "helpful"
        for folder in found.feedback
        for each in FeedbackStore(Path(folder)).all()
        if each["verdict"] is not None
    }
    return compare_live(found.mode, LiveStore(live_path(home())).answers(found.id, thumbs))


def clear(found: LiveComparison) -> None:
    LiveStore(live_path(home())).clear(found.id)
