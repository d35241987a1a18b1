"""Options of `lmstack up`, and what those of them mean that set its engines.

Does not cover loading: `wiring`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lmstack.app.cli.failure import CommandLineError
from lmstack.core import check_range, shown

__all__ = [
    "KEYS_VARIABLE",
    "DocsFolder",
    "DocsOption",
    "Host",
    "KeyWeights",
    "KeysFile",
    "Port",
    "TargetStep",
    "UploadsAllowed",
    "engine_settings",
]

KEYS_VARIABLE = "LMSTACK_API_KEYS"

DocsFolder = Annotated[
    Path | None,
    typer.Argument(metavar="DIR", help="The folder of documents to answer from."),
]
DocsOption = Annotated[
    Path | None, typer.Option("--docs", metavar="DIR", help="The same, as for `lmstack ask`.")
]
Port = Annotated[int, typer.Option("--port", metavar="PORT", help="Port to listen on.")]
Host = Annotated[
    str,
    typer.Option(
        "--host",
        metavar="HOST",
        help=f"Address to listen on. Any but localhost needs API keys, in {KEYS_VARIABLE}.",
    ),
]
TargetStep = Annotated[
    float | None,
    typer.Option(
        "--target-step",
        metavar="S",
        help="Seconds that a step of the engine should take at most while streams wait for their"
        " next token: with less they run more evenly, with more prompts get in sooner."
        " [default: 0.1]",
    ),
]
KeysFile = Annotated[
    Path | None,
    typer.Option(
        "--keys",
        metavar="FILE",
        help="A JSON file with the SHA-256 of API keys and the access labels that each holds.",
    ),
]
UploadsAllowed = Annotated[
    bool,
    typer.Option(
        "--uploads",
        help="Let people add files on the page: into DIR/uploads, those of keys with access labels"
        " under these labels.",
    ),
]
KeyWeights = Annotated[
    str | None,
    typer.Option(
        "--key-weights",
        metavar="W,...",
        help="Shares of the machine that API keys have when they compete, one for each key in"
        f" the order of {KEYS_VARIABLE}. [default: equal ones]",
    ),
]


def engine_settings(
    target_step: float | None, key_weights: str | None, keys: Sequence[str]
) -> dict[str, Any]:
    """The fields of `EngineConfig` that the options set."""
    settings: dict[str, Any] = {}
    if target_step is not None:
        check_range("--target-step", target_step, 0.001, 10)
        settings["target_step_s"] = target_step
    if key_weights is not None:
        settings["client_weights"] = _client_weights(key_weights, keys)
    return settings


def _client_weights(given: str, keys: Sequence[str]) -> dict[str, float]:
    from lmstack.serve import client_of_key

    try:
        weights = [float(part) for part in given.split(",")]
    except ValueError:
        raise CommandLineError(
            f"--key-weights is {shown(given)}", hint="--key-weights 3,1", param="key_weights"
        ) from None
    if len(weights) != len(keys) or len(set(keys)) < len(keys):
        raise CommandLineError(
            f"--key-weights has {len(weights)} of them, and {KEYS_VARIABLE} {len(keys)} keys,"
            f" {len(set(keys))} of them different",
            hint="give each key once, and a weight for each",
            param="key_weights",
        )
    for weight in weights:
        check_range("--key-weights", weight, 0, 1e6, low_open=True)
    return {client_of_key(key): weight for key, weight in zip(keys, weights, strict=True)}
