"""Ends, outcomes, verdicts and notices of runs in the words of the page."""

from __future__ import annotations

__all__ = ["ENDS", "NOTICES", "OUTCOMES", "TAINTED", "UNTRUSTED", "VERDICTS"]

ENDS = {
    "answered": "answered",
    "budget": "budget used up",
    "refused": "refused",
    "cancelled": "stopped",
    "failed": "failed",
    "waiting": "waits for a person",
    None: "not ended",
}
OUTCOMES = {
    "error": "error",
    "timeout": "timed out",
    "unfinished": "interrupted",
    "unknown_tool": "no such tool",
    "outside_rights": "outside its rights",
    "invalid_arguments": "wrong arguments",
    "denied": "denied",
    "over_budget": "no budget left",
}
VERDICTS = {
    "approved": "approved",
    "denied": "denied",
    "later": "not decided",
    "cancelled": "stopped the run",
}
NOTICES = {
    "repetition": "repeats itself",
    "stop": "repeats itself",
    "unreadable": "cannot be read",
    "result": "not the result asked for",
    "budget": "budget",
    "context": "conversation too long",
}
UNTRUSTED = "Others wrote it, or it was made from what they wrote"
TAINTED = "Arguments hold text that others wrote"
