"""What judging pairs and rating answers share: items of files, each once, and a judge asked of many
at a time. Does not cover what an item is (`judged_pairs`, `judged_ratings`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from lmstack.core import ContextLengthError, FormatError, InputError
from lmstack.train.data.rows import BadRow, Row, Rows

__all__ = ["Keyed", "asked_of_all", "each_once"]


class Keyed(Protocol):
    @property
    def key(self) -> str:
        """Its name in a journal: that of what it holds."""
        ...


K = TypeVar("K", bound=Keyed)
T = TypeVar("T")


def each_once(
    files: Sequence[Path], of: Callable[[Row], Iterable[K]]
) -> tuple[list[K], list[BadRow]]:
    """What is ``of`` the rows in ``files``, by its key, and the rows that hold nothing."""
    found: dict[str, K] = {}
    bad: list[BadRow] = []
    for row in Rows(files):
        if isinstance(row, BadRow):
            bad.append(row)
            continue
        try:
            for each in of(row):
                found.setdefault(each.key, each)
        except (InputError, FormatError) as error:
            bad.append(BadRow(row.place, str(error)))
    return list(found.values()), bad


async def asked_of_all(
    ask: Callable[[K], Awaitable[T]], items: Sequence[K], batch: int
) -> AsyncIterator[tuple[K, T | None]]:
    """Each of ``items`` with what ``ask`` gives for it, in their order, ``batch`` of them at a
    time; None of what is too long for the judge."""

    async def one(item: K) -> T | None:
        try:
            return await ask(item)
        except ContextLengthError:
            return None

    for start in range(0, len(items), batch):
        group = items[start : start + batch]
        for each in zip(group, await asyncio.gather(*map(one, group)), strict=True):
            yield each
