"""Where each number comes from: what a protocol says of sampling, and its text and hash."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lmstack.evals.json_forms import digest_of
from lmstack.evals.results import TaskResult

__all__ = ["facts_of", "sampling_of"]


def facts_of(result: TaskResult) -> dict[str, str]:
    """What all results of a row share."""
    return {
        "Data": f"{result.dataset}, from {result.source}",
        "Hash of the data": result.dataset_digest,
        "Sampling": _words(sampling_of(result.protocol)) or "none: likelihoods are scored",
        "Hash of the protocol": digest_of(dict(result.protocol), "the protocol"),
    }


def sampling_of(protocol: Any) -> dict[str, Any]:
    """What a protocol says of how answers are drawn, wherever in it: the first ``sampling``, and
    a ``seed`` beside it."""
    if isinstance(protocol, Mapping):
        if isinstance(protocol.get("sampling"), Mapping):
            found = dict(protocol["sampling"])
            return found | ({"seed": protocol["seed"]} if "seed" in protocol else {})
        inner = list(protocol.values())
    elif isinstance(protocol, list | tuple):
        inner = list(protocol)
    else:
        return {}
    return next(filter(None, map(sampling_of, inner)), {})


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {json.dumps(v, ensure_ascii=False)}" for k, v in values.items())
