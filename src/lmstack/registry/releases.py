"""A release: all that decides the answers of what an alias stands for.

    release = Release("smollm2-135m-instruct", "sha256:3f2a...+int8.7", weights="int8")

Its digest is the one that an evaluation names (`lmstack.evals.task.Subject`), that every response
and audit record names, and that a verdict is about: it covers the model's files (weights,
tokenizer, chat template, settings), the form of its weights, how the engine computes, how the card
says to sample, the adapter and the system prompt. Not covered: who may use it (`verdicts`), loading
it (`app`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from lmstack.core import FormatError, shown
from lmstack.registry.signing import fields

__all__ = ["Release"]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}(\+[a-z0-9][a-z0-9.:_-]*)*\Z")
_KINDS = dict.fromkeys(("model", "digest", "weights", "adapter", "prompt"), str)


@dataclass(frozen=True)
class Release:
    """``model``: its name in the store, or the absolute path of its folder or file. ``weights``:
    the form that they are held in, always stated, since what is usual depends on the machine.
    ``adapter``: the absolute path of a folder of LoRA, ``prompt``: of the file of a system prompt;
    "" without one. ``digest``: of the system; where it lies does not matter to it."""

    model: str
    digest: str
    weights: str
    adapter: str = ""
    prompt: str = ""

    def __post_init__(self) -> None:
        if not _DIGEST.match(self.digest):
            raise FormatError(
                f"{self.model} has the digest {shown(self.digest)}, and what is promoted is named"
                " by the SHA-256 of its content",
                hint="promote a model on this machine",
            )
        if not self.model or not self.weights:
            raise FormatError("a release names a model and the form of its weights")

    @property
    def content(self) -> str:
        """The digest of the model's files, which that of the release begins with."""
        return self.digest[: len("sha256:") + 64]

    @property
    def parts(self) -> tuple[str, ...]:
        """What the digest says beside the model's files."""
        return tuple(self.digest[len(self.content) + 1 :].split("+"))

    @property
    def short(self) -> str:
        """For people."""
        extra = "+".join(part[:19] for part in self.parts)
        return self.content[:19] + (f"+{extra}" if extra else "")

    def is_named(self, digest: str) -> bool:
        """Whether ``digest`` is the beginning of this one's, part by part, with or without
        ``sha256:``; one with all the digits of the files' is a whole one, and names this release
        alone."""
        start = digest if digest.startswith("sha256:") else f"sha256:{digest}"
        if len(start.partition("+")[0]) == len(self.content):
            return start == self.digest
        given, own = start.split("+"), self.digest.split("+")
        is_whole = len(given) in (1, len(own))
        return is_whole and all(o.startswith(g) for g, o in zip(given, own, strict=False))

    @property
    def title(self) -> str:
        """For people: what it is."""
        parts = [self.model, self.weights]
        for what, place in (("adapter", self.adapter), ("prompt", self.prompt)):
            if place:
                parts.append(f"{what} {PurePath(place).name}")
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _KINDS}

    @classmethod
    def from_json(cls, value: Any) -> Release:
        """`FormatError` where it is not what `to_json` gives."""
        return cls(**fields(value, "a release", _KINDS))
