"""A stage of a run: items that a model writes, in a file that appears whole.

    {"stage": "drafts", "model": "sha256:...", "seed": 0, ...}     how it was made
    {"key": "5f0c...", "text": "...", "finish": "stop"}            an item a line

While it is written there is a journal beside it, so a process that is killed loses the items that
were being written and no others. An item's random numbers follow from the seed, the stage and its
key: those that are written later are the ones that would have been. Does not cover what is asked.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from lmstack.core import FormatError, InputError
from lmstack.core.files import store_error
from lmstack.train.data.journal import Journal

__all__ = ["Items", "Told", "Works", "digest_of", "read_stage", "seed_of", "write_stage"]

Items = dict[str, dict[str, Any]]
Works = Mapping[str, Callable[[], Awaitable[dict[str, Any]]]]
Told = Callable[[int, int], None]
_HINT = "give those again, or run=FOLDER for another run beside it"


def seed_of(seed: int, stage: str, key: str) -> int:
    """Of one item, 63 bits."""
    digest = hashlib.sha256(json.dumps([seed, stage, key]).encode()).digest()
    return int.from_bytes(digest[:8]) >> 1


def digest_of(items: Any) -> str:
    """SHA-256 of what is JSON."""
    return hashlib.sha256(json.dumps(items, sort_keys=True).encode()).hexdigest()


def write_stage(
    path: Path, settings: Mapping[str, Any], works: Works, at_once: int, told: Told
) -> Items:
    """The items of ``works`` by key and in that order, ``at_once`` written at a time, or read where
    ``path`` has them. ``settings``: what decides them; a file of others is an `InputError`."""
    found = read_stage(path, settings)
    if found is None:
        with Journal(path, settings, hint=_HINT, param="settings") as journal:
            asyncio.run(_write(journal, works, at_once, told))
            found = {key: journal.items[key] for key in works}
            rows = ({"key": key, **item} for key, item in found.items())
            journal.finish([settings, *rows])
    told(len(found), len(found))
    return found


def read_stage(path: Path, settings: Mapping[str, Any] | None = None) -> Items | None:
    """The items of a stage that is whole; None where it is not."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
        header, *rows = map(json.loads, lines)
        found = {row.pop("key"): row for row in rows}
    except FileNotFoundError:
        return None
    except OSError as error:
        raise store_error(error, path, "reading") from error
    except (ValueError, LookupError, AttributeError) as error:
        raise FormatError(
            f"{path} is damaged: {error}", hint="delete it, and its stage is written again"
        ) from error
    if settings is not None:
        _check(path, header, json.loads(json.dumps(dict(settings))))
    return found


def _check(path: Path, made: Any, wanted: Mapping[str, Any]) -> None:
    if made != wanted:
        names = sorted(n for n in {*made, *wanted} if made.get(n) != wanted.get(n))
        raise InputError(
            f"{path} was made with other settings: {', '.join(names)}",
            hint=_HINT,
            param="settings",
        )


async def _write(journal: Journal, works: Works, at_once: int, told: Told) -> None:
    places = asyncio.Semaphore(at_once)
    total, done = len(works), sum(key in journal for key in works)
    told(done, total)

    async def one(key: str) -> None:
        nonlocal done
        async with places:
            item = await works[key]()
        journal.add(key, item)
        done += 1
        told(done, total)

    # After an error `asyncio.run` ends those that are still at work.
    await asyncio.gather(*(one(key) for key in works if key not in journal))
