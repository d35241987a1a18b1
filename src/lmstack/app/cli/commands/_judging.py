"""What `lmstack data judge` and `lmstack data rate` share on the command line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from lmstack.app.cli.output import Output
from lmstack.core import InputError

if TYPE_CHECKING:
    from lmstack.pipelines.judging import Keyed
    from lmstack.pipelines.output_journal import OutputJournal
    from lmstack.train.data.rows import BadRow

__all__ = ["ask_of_rest", "nothing_found"]

K = TypeVar("K", bound="Keyed")


async def ask_of_rest(
    out: Output,
    doing: str,
    unit: str,
    items: Sequence[K],
    file: OutputJournal,
    ask: Callable[[Sequence[K]], AsyncIterator[tuple[K, Any]]],
    keep: Callable[[K, Any], None],
) -> None:
    """Ask of those of ``items`` that ``file`` does not hold yet, and keep what comes."""
    left = [item for item in items if item.key not in file]
    done = len(items) - len(left)
    with out.progress(doing, unit) as bar:
        bar.update(done, len(items))
        async for item, found in ask(left):
            keep(item, found)
            done += 1
            bar.update(done, len(items))


def nothing_found(what: str, hint: str, files: Sequence[str], bad: Sequence[BadRow]) -> InputError:
    """For files without ``what`` in any row; the first reasons are given."""
    reasons = "; ".join(f"{row.place}: {row.reason}" for row in bad[:2])
    return InputError(
        f"there is no {what} in {', '.join(files)}" + (f" ({reasons})" if reasons else ""),
        hint=hint,
        param="files",
    )
