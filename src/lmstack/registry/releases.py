"""A release: all that decides the answers of what an alias stands for.

    release = Release("smollm2-135m-instruct", "sha256:3f2a...+int8.7", weights="int8")

Its digest is the one that an evaluation names (`lmstack.evals.task.Subject`), that every response
and audit record names, and that a verdict is about: it covers the model's files (weights,
tokenizer, chat template, settings), the form of its weights, how the engine computes, how the card
says to sample, the adapter, the system prompt, and of the documents that it answers from the index
and how answers are made of it:

    sha256:3f2a...+int8.7+prompt.5c1d...+docs.9be0...+answers.77aa...

Not covered: who may use it (`verdicts`), loading it (`app`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from lmstack.core import FormatError, shown
from lmstack.registry.signing import fields

__all__ = ["Release"]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}(\+[a-z0-9][a-z0-9.:_-]*)*\Z")
_PART = re.compile(r"(docs|answers)\.[0-9a-f]{64}\Z")
_KINDS = dict.fromkeys(("model", "digest", "weights", "adapter", "prompt"), str)
_DOCS, _ANSWERS, _PROMPT = "docs.", "answers.", "prompt."


@dataclass(frozen=True)
class Release:
    """``model``: its name in the store, or the absolute path of its folder or file. ``weights``:
    the form that they are held in, always stated, since what is usual depends on the machine.
    ``adapter``: the absolute path of a folder of LoRA, ``prompt``: of the file of a system prompt,
    ``docs``: of the folder of documents; "" without one. ``digest``: of the system; where model,
    adapter and prompt lie does not matter to it."""

    model: str
    digest: str
    weights: str
    adapter: str = ""
    prompt: str = ""
    docs: str = ""

    def __post_init__(self) -> None:
        if not _DIGEST.match(self.digest):
            raise FormatError(
                f"{self.model} has the digest {shown(self.digest)}, and what is promoted is named"
                " by the SHA-256 of its content",
                hint="promote a model on this machine",
            )
        if not self.model or not self.weights:
            raise FormatError("a release names a model and the form of its weights")
        parts = (self.index_part, self.answers_part)
        if not (all(map(_PART.match, parts)) if self.docs else not any(parts)):
            raise FormatError(
                f"a release has the documents {shown(self.docs)} and the digest {self.short}",
                hint="the digest covers the index of documents where there are some",
            )

    @property
    def content(self) -> str:
        """The digest of the model's files, which that of the release begins with."""
        return self.digest[: len("sha256:") + 64]

    @property
    def parts(self) -> tuple[str, ...]:
        """What the digest says beside the model's files."""
        return tuple(self.digest[len(self.content) + 1 :].split("+"))

    @property
    def model_digest(self) -> str:
        """The digest without what it says of documents: what the loaded model says of itself."""
        own = (part for part in self.parts if not part.startswith((_DOCS, _ANSWERS)))
        return "+".join(filter(None, (self.content, *own)))

    @property
    def prompt_part(self) -> str:
        """What the digest says of the system prompt; "" without one."""
        return self._part(_PROMPT)

    @property
    def index_part(self) -> str:
        """What the digest says of what the index holds; "" without one."""
        return self._part(_DOCS)

    @property
    def answers_part(self) -> str:
        """What the digest says of how answers are made of the index; "" without one."""
        return self._part(_ANSWERS)

    @property
    def documents_digest(self) -> str:
        """What the digest says beside `model_digest`."""
        return "+".join(filter(None, (self.index_part, self.answers_part)))

    @property
    def index_content(self) -> str:
        """`Index.content_digest` of the index; "" without one."""
        return self.index_part.removeprefix(_DOCS)

    def _part(self, kind: str) -> str:
        return next((part for part in self.parts if part.startswith(kind)), "")

    def with_documents(self, docs: str, content: str, answers: str) -> Release:
        """This one, answering from the folder ``docs``, whose index has the digest ``content``;
        ``answers``: SHA-256, in hexadecimal digits, of how answers are made of it."""
        digest = f"{self.model_digest}+{_DOCS}{content}+{_ANSWERS}{answers}"
        return replace(self, digest=digest, docs=docs)

    @property
    def version(self) -> int:
        """Of the signed formats that can hold it: the first has no documents."""
        return 2 if self.docs else 1

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
        for what, place in (
            ("adapter", self.adapter),
            ("prompt", self.prompt),
            ("documents", self.docs),
        ):
            if place:
                parts.append(f"{what} {PurePath(place).name}")
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Without a field for documents where there are none, as in version 1."""
        found = {name: getattr(self, name) for name in _KINDS}
        return {**found, "docs": self.docs} if self.docs else found

    @classmethod
    def from_json(cls, value: Any) -> Release:
        """`FormatError` where it is not what `to_json` gives."""
        has_docs = isinstance(value, dict) and bool(value.get("docs"))
        return cls(**fields(value, "a release", {**_KINDS, "docs": str} if has_docs else _KINDS))
