"""What a run of an agent is worth: whether it succeeded, what it took, and how it ended.

    success        its last words hold an accepted answer, however the run ended
    steps          turns of models
    tool_calls     calls that it made, and of these
    failed_calls   those that came to nothing: errors, time out, unknown tools, wrong arguments
    barred_calls   those that its rights or a person did not allow
    ended_...      shares of runs by their end: answered, budget, refused, failed, waiting (for a
                   person, who is not there), cancelled

An output has in its ``facts``: ``end``, ``steps``, and ``calls``, a list of ``{tool, outcome}``.
Not covered: seconds, tokens and cost (`usage`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from lmstack.core import InputError, allowed, shown
from lmstack.evals.metrics.cited_answer import holds
from lmstack.evals.metrics.scoring import ConfiguredScorer, average, needed_targets, share
from lmstack.evals.metrics.text_match import normalized
from lmstack.evals.task import Metric, ModelOutput, Sample

__all__ = ["AgentRun", "last_number"]

Match = Literal["holds", "equal", "number", "pattern"]
_MATCHES = ("holds", "equal", "number", "pattern")
ENDS = ("answered", "budget", "refused", "failed", "waiting", "cancelled")
BARRED = ("outside_rights", "denied")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def last_number(text: str) -> float | None:
    """The last number in ``text``, commas taken out."""
    found = _NUMBER.findall(text.replace(",", ""))
    return float(found[-1]) if found else None


@dataclass(frozen=True)
class AgentRun(ConfiguredScorer):
    """``match``: how an answer is compared with the accepted ones. ``holds``: it has one of them in
    it; ``equal``: after SQuAD's normalization; ``number``: its last number is theirs; ``pattern``:
    they are regular expressions, case ignored."""

    name: ClassVar[str] = "agent_run"
    match: Match = allowed("holds", str, also=_MATCHES)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        counts = ("steps", "tool_calls", "failed_calls", "barred_calls")
        return (
            share("success"),
            *(average(name, "lower") for name in counts),
            share("ended_answered"),
            *(share(f"ended_{end}", "lower") for end in ENDS[1:]),
        )

    def score(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        end, steps, outcomes = _facts(sample, output)
        barred = sum(outcome in BARRED for outcome in outcomes)
        failed = sum(outcome != "ok" for outcome in outcomes) - barred
        targets = needed_targets(sample)
        return {
            "success": float(any(self._is_right(output.text, each) for each in targets)),
            "steps": float(steps),
            "tool_calls": float(len(outcomes)),
            "failed_calls": float(failed),
            "barred_calls": float(barred),
            **{f"ended_{each}": float(end == each) for each in ENDS},
        }

    def _is_right(self, text: str, target: str) -> bool:
        if self.match == "holds":
            return holds(text, target)
        if self.match == "equal":
            return normalized(text) == normalized(target)
        if self.match == "pattern":
            try:
                return re.search(target, text, re.IGNORECASE) is not None
            except re.error as error:
                raise _useless(target, f"a regular expression ({error})") from None
        wanted = last_number(target)
        if wanted is None:
            raise _useless(target, "a number")
        return last_number(text) == wanted


def _useless(target: str, what: str) -> InputError:
    return InputError(
        f"the accepted answer {shown(target)} is not {what}",
        hint=f"correct it, or choose another match: {', '.join(_MATCHES)}",
        param="match",
    )


def _facts(sample: Sample, output: ModelOutput) -> tuple[str, int, list[str]]:
    facts: Mapping[str, Any] = output.facts
    try:
        end, steps = facts["end"], int(facts["steps"])
        outcomes = [each["outcome"] for each in facts["calls"]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the output of sample {sample.id} is of no agent: {error}",
            hint="this scorer needs the solver agent",
            param="scorer",
        ) from error
    if end not in ENDS:
        raise InputError(f"the run of sample {sample.id} ended as {shown(end)}", param="scorer")
    return end, steps, outcomes
