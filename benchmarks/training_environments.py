"""The environment of the training benchmarks' peers: transformers' Trainer with PEFT, and TRL.

One for both, since TRL's trainer is transformers' and its LoRA is PEFT's: beside each other they
have the same versions of everything. It lies where `serving_environments` keeps its own.
"""

from __future__ import annotations

import serving_environments
from serving_environments import TORCH, BuildError, Peer, versions

__all__ = ["PEER", "BuildError", "Peer", "build", "versions"]

PEER = Peer(
    "training",
    "with_trainer.py",
    "trl",
    (
        (
            TORCH,
            "transformers==5.24.0",
            "accelerate==1.15.0",
            "peft==0.21.2",
            "trl==1.16.0",
            "datasets==5.2.0",
        ),
    ),
)


def build() -> Peer:
    """The environment, made at the first call; `BuildError` where it cannot be."""
    serving_environments.build(PEER)
    return PEER
