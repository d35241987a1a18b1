"""Which documents a caller may see: the access labels that each API key holds.

The file of `lmstack up --keys` names a key by its SHA-256, so that it holds no secret:

    {"keys": [{"sha256": "9f86d0...", "labels": ["hr", "board"]},
              {"sha256": "60303a...", "owner": true}]}

A key without an entry holds no labels; one that is the owner's sees everything, and so does
whoever asks a server without any keys. What a key may do besides is not covered.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmstack.core import ChatModel, Delta, InputError, ModelInfo, Request, shown
from lmstack.rag import check_labels
from lmstack.serve.http.guard import client_of_digest, key_digest

__all__ = ["Access", "KeyEntry", "ScopedModel", "read_keys"]

MAX_FILE_BYTES = 10_000_000


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """``labels`` that the key with this SHA-256 holds; None if it is the owner's."""

    digest: bytes
    labels: frozenset[str] | None


def read_keys(path: Path) -> tuple[KeyEntry, ...]:
    """The keys of a file; `InputError` says what is wrong with it. Nothing in it is guessed:
    a file that is not understood opens no door."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(MAX_FILE_BYTES))
    except OSError as error:
        raise _bad(path, f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise _bad(path, f"is not JSON: {error}") from None
    keys = found.get("keys") if isinstance(found, dict) and set(found) == {"keys"} else None
    if not isinstance(keys, list) or not keys:
        raise _bad(path, 'has no list of "keys", or something beside it')
    entries = tuple(_entry(path, number, item) for number, item in enumerate(keys, 1))
    if len({entry.digest for entry in entries}) < len(entries):
        raise _bad(path, "has a key twice")
    return entries


def _entry(path: Path, number: int, item: Any) -> KeyEntry:
    if not isinstance(item, dict) or not set(item) <= {"sha256", "labels", "owner"}:
        raise _bad(path, f"key {number} is {shown(str(item))}")
    digest, labels, owner = item.get("sha256"), item.get("labels", []), item.get("owner", False)
    if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        raise _bad(path, f"key {number} has no sha256 of 64 hexadecimal digits")
    if not isinstance(owner, bool) or (owner and labels):
        raise _bad(path, f"key {number} is either the owner's (true) or has labels")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise _bad(path, f"the labels of key {number} are not a list of texts")
    return KeyEntry(bytes.fromhex(digest), None if owner else check_labels(labels))


def _bad(path: Path, what: str) -> InputError:
    return InputError(
        f"the keys file {shown(str(path))} {what}",
        hint='it looks like {"keys": [{"sha256": "64 hexadecimal digits", "labels": ["hr"]}]}; '
        "sha256 is that of the key: printf %s KEY | sha256sum",
        param="keys",
    )


class Access:
    """What callers hold, by the names under which `lmstack.serve` knows them. ``owners``: of
    callers that are known otherwise than by a key, those who see everything."""

    def __init__(
        self,
        api_keys: Sequence[str] = (),
        entries: Sequence[KeyEntry] = (),
        owners: Collection[str] = (),
    ) -> None:
        held = dict.fromkeys(map(key_digest, api_keys), frozenset[str]())
        labels: dict[bytes, frozenset[str] | None] = {**held}
        labels |= {entry.digest: entry.labels for entry in entries}
        self.digests = tuple(labels)
        self.owner_digests = tuple(digest for digest, held in labels.items() if held is None)
        self._owners = frozenset(owners)
        self._labels = {client_of_digest(digest): held for digest, held in labels.items()}
        if len(self._labels) < len(labels):
            raise InputError("two API keys have the same short name", hint="make another key")

    def labels_of(self, client: str) -> frozenset[str] | None:
        """The labels of ``client``; None for the owner. Whoever is not known holds none."""
        if not self._labels or client in self._owners:
            return None
        return self._labels.get(client, frozenset())

    def label_sets(self) -> set[frozenset[str]]:
        """The different sets of labels that keys hold; neither the owner's nor empty ones."""
        return {held for held in self._labels.values() if held}

    def scope_of(self, client: str) -> str:
        """Within which computed prompts are shared: each key has a scope of its own. How soon an
        answer comes, and how many tokens of it were cached, would else tell what other keys
        asked, also where all hold the same labels."""
        return client if self._labels else ""


class ScopedModel:
    """A model whose callers share no computed prompts with other keys."""

    def __init__(self, model: ChatModel, access: Access) -> None:
        self._model, self._access = model, access

    @property
    def info(self) -> ModelInfo:
        return self._model.info

    def stream(self, request: Request) -> AsyncIterator[Delta]:
        scope = self._access.scope_of(request.client)
        return self._model.stream(replace(request, cache_scope=scope))
