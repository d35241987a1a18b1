"""`lmstack release traffic`: what a canary or a shadow showed, in figures that hold at every
look."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lmstack.app.cli.command import command
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, printable

if TYPE_CHECKING:
    from lmstack.evals.live import ArmFigures, Difference, LiveReport
    from lmstack.release.live_store import LiveComparison

__all__ = ["live"]


@command(
    "release traffic",
    """
    N: The number of a comparison. [default: the newest]
    --list: List the comparisons.
    --clear: Forget the comparison. A canary that was stopped may then begin again.

    lmstack up docs --canary ./tuned --share 0.1
    lmstack release traffic
    lmstack release traffic --list
    """,
)
def live(
    out: Output, number: int | None = None, list_all: bool = False, clear: bool = False
) -> None:
    """Compare two versions on what people ask a server.

    `lmstack up --canary MODEL` lets a version answer a share of the conversations, and
    `--shadow MODEL` asks it unseen. The intervals hold at every look, so look as often as you like.
    They are 95 % intervals of the candidate less the stable version; p is adjusted for the number
    of shares that are tested."""
    from lmstack.release import live_store as wired

    if list_all:
        _list(out, wired.comparisons())
        return
    found = wired.comparison(number)
    if clear:
        wired.clear(found)
        if out.as_json:
            out.result({"cleared": found.id})
        else:
            out.line(f"comparison {found.id} is forgotten")
        return
    report = wired.report(found)
    if out.as_json:
        out.result({"comparison": _told(found), **report.to_json()})
    else:
        _print(out, found, report)


def _told(found: LiveComparison) -> dict[str, Any]:
    def version(arm: Any) -> dict[str, str]:
        return {"name": arm.model, "digest": arm.digest}

    return {
        "number": found.id,
        "mode": found.mode,
        "stable": version(found.stable),
        "candidate": version(found.candidate),
        "share": found.share,
        "begun": found.begun,
        "stopped": found.stopped,
        "reason": found.reason,
        "left_out": found.counts,
    }


def _list(out: Output, known: list[LiveComparison]) -> None:
    if out.as_json:
        out.result([_told(each) for each in known])
        return
    rows = [("N", "MODE", "STABLE", "CANDIDATE", "SHARE", "BEGUN", "STOPPED")]
    for each in known:
        names = (_named(each.stable), _named(each.candidate))
        share, stopped = f"{each.share:.3g}", each.stopped or ""
        rows.append((str(each.id), each.mode, *names, share, each.begun, stopped))
    out.lines(columns(rows))


def _named(arm: Any) -> str:
    """``smollm2-135m@3f2a91c+int8``: what follows the sum is the form that it is served in."""
    kind, _, digest = arm.digest.partition(":")
    name, (sum_, plus, form) = printable(arm.model, one_line=True), digest.partition("+")
    return f"{name}@{sum_[:7]}{plus}{printable(form, one_line=True)}" if kind == "sha256" else name


def _print(out: Output, found: LiveComparison, report: LiveReport) -> None:
    stable, candidate = _named(found.stable), _named(found.candidate)
    out.line(f"{found.mode} {candidate} beside {stable}, share {found.share:.3g}")
    if found.stopped is not None:
        reason = printable(found.reason or "", one_line=True)
        out.line(out.style(f"stopped at {found.stopped}: {reason}", "bold"))
    out.line()
    out.lines(columns(_figures(report)))
    out.line()
    if report.differences:
        out.lines(columns(_differences(report.differences)))
    else:
        out.line("no differences yet: both versions have to have answered")
    for name, estimate in (("equal answers", report.same), ("words in common", report.similar)):
        if estimate is not None:
            out.line(f"{name}: {estimate.value:.1%} {estimate.between('.1%')}")
    for what, count in sorted(found.counts.items()):
        out.line(f"{printable(what, one_line=True)}: {count:,}")
    _notes(out, found, report)


def _figures(report: LiveReport) -> list[tuple[str, ...]]:
    stable, candidate = report.arms["stable"], report.arms["candidate"]
    arms = (stable, candidate)
    counts = ("requests", "cancelled", "refused_requests", "prompt_tokens", "completion_tokens")
    rows: list[tuple[str, ...]] = [("", "STABLE", "CANDIDATE")]
    rows += [(n.replace("_", " "), *(f"{getattr(arm, n):,}" for arm in arms)) for n in counts]
    rows += [(name, *(_percent(arm.shares[name]) for arm in arms)) for name in stable.shares]
    rows += [(f"{n} p50, p95", *(_pair(arm, n) for arm in arms)) for n in stable.quantiles]
    rows.append(("thumbs up, down", *(f"{arm.thumbs[0]}, {arm.thumbs[1]}" for arm in arms)))
    return rows


def _percent(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2%}"


def _pair(arm: ArmFigures, name: str) -> str:
    low, high = arm.quantiles[name]
    return "" if math.isnan(low) else f"{low:.3g}, {high:.3g}"


def _differences(found: tuple[Difference, ...]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("CANDIDATE LESS STABLE", "", "95 % AT EVERY LOOK", "P", "OF"),
    ]
    for each in found:
        number = "+.2%" if each.p is not None else "+.3g"
        limits = f"{each.low:{number}} to {each.high:{number}}"
        if math.isinf(each.low) and math.isinf(each.high):
            limits = "too few to say"
        p = "" if each.p is None else f"{each.p:.2g}"
        value = "" if math.isnan(each.value) else f"{each.value:{number}}"
        rows.append((each.name, value, limits, p, f"{each.count:,}"))
    return rows


def _notes(out: Output, found: LiveComparison, report: LiveReport) -> None:
    if found.mode == "canary":
        out.note("differences are of the first request of each conversation: a lot is drawn for it")
    shown = [d for d in report.differences if d.name == "failed" and d.low > 0]
    if shown and found.stopped is None:
        out.note("the candidate fails more often; a canary is stopped by itself once p is 0.01")
