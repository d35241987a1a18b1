"""Outputs and numbers as JSON, and the hash of a JSON value.

What is read back is checked strictly: a name too many, one too few or a value of another type is a
`FormatError` that says where. Not covered: which values a key is made of (`output_store`), nor
results (`results`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

from lmstack.core import FormatError, InputError, Likelihood, nearest, shown
from lmstack.core.json_text import canonical_json
from lmstack.evals.task import ModelOutput

__all__ = [
    "canonical",
    "checked",
    "digest_of",
    "number_from_json",
    "number_to_json",
    "output_from_json",
    "output_to_json",
    "scores_from_json",
    "scores_to_json",
]

Kinds = Mapping[str, type | tuple[type, ...]]
NUMBER = (int, float)
_SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_OUTPUT: Kinds = {
    "text": str,
    "likelihoods": list,
    "prompt_tokens": int,
    "completion_tokens": int,
    "seconds": NUMBER,
    "finish_reason": str,
    "facts": dict,
}
_LIKELIHOOD: Kinds = {"logprob": (int, float, str), "num_tokens": int, "is_greedy": bool}


def canonical(value: Any, what: str) -> str:
    """``value`` as JSON, one text for equal values. `InputError` where it is not JSON; ``what`` it
    is, for the message."""
    try:
        return canonical_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{what} is not JSON: {error}",
            hint="use text, finite numbers, true, false, null, and lists and objects of these",
        ) from error


def digest_of(value: Any, what: str) -> str:
    """``sha256:...`` of `canonical`."""
    return f"sha256:{hashlib.sha256(canonical(value, what).encode()).hexdigest()}"


def checked(value: Any, what: str, kinds: Kinds) -> dict[str, Any]:
    """``value``, if it is an object with exactly the names of ``kinds``, each of its type."""
    if not isinstance(value, dict):
        raise FormatError(f"{what} is {shown(value)}, not an object")
    for name in value:
        if name not in kinds:
            guess = nearest(str(name), kinds)
            hint = f"did you mean {guess!r}?" if guess else f"known: {', '.join(kinds)}"
            raise FormatError(f"{what} has the unknown field {shown(name)}", hint=hint)
    for name, kind in kinds.items():
        if name not in value:
            raise FormatError(f"{what} lacks the field {name!r}")
        allowed = kind if isinstance(kind, tuple) else (kind,)
        is_truth = isinstance(value[name], bool) and bool not in allowed  # which Python counts
        if is_truth or not isinstance(value[name], allowed):
            names = " or ".join(each.__name__ for each in allowed)
            raise FormatError(f"{name} of {what} is {shown(value[name])}, not {names}")
    return value


def number_to_json(value: float) -> float | str:
    """JSON has no NaN and no infinities: they are texts."""
    if math.isfinite(value):
        return float(value)
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def number_from_json(value: Any, what: str) -> float:
    if isinstance(value, str) and value in _SPECIAL:
        return _SPECIAL[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FormatError(f"{what} is {shown(value)}, not a number")
    return float(value)


def scores_to_json(scores: Mapping[str, float]) -> dict[str, float | str]:
    return {name: number_to_json(value) for name, value in scores.items()}


def scores_from_json(value: Any, what: str) -> dict[str, float]:
    if not isinstance(value, dict):
        raise FormatError(f"{what} is {shown(value)}, not an object of numbers")
    return {name: number_from_json(number, f"{name} of {what}") for name, number in value.items()}


def output_to_json(output: ModelOutput) -> dict[str, Any]:
    return {
        "text": output.text,
        "likelihoods": [
            {
                "logprob": number_to_json(each.logprob),
                "num_tokens": each.num_tokens,
                "is_greedy": each.is_greedy,
            }
            for each in output.likelihoods
        ],
        "prompt_tokens": output.prompt_tokens,
        "completion_tokens": output.completion_tokens,
        "seconds": output.seconds,
        "finish_reason": output.finish_reason,
        "facts": dict(output.facts),
    }


def output_from_json(value: Any) -> ModelOutput:
    found = dict(checked(value, "an output", _OUTPUT))
    likelihoods = []
    for each in found.pop("likelihoods"):
        checked(each, "a likelihood", _LIKELIHOOD)
        logprob = number_from_json(each["logprob"], "logprob of a likelihood")
        likelihoods.append(Likelihood(logprob, each["num_tokens"], each["is_greedy"]))
    return ModelOutput(likelihoods=tuple(likelihoods), **found)
