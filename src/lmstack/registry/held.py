"""Files that stay what they are while they are read twice, as for their hash and for use.

A name may mean another file the second time; a descriptor does not. `held_files` opens each file
once and gives a folder of links to what is open. Not noticed: what another program writes through a
memory map that it had of a file before; that is dated when it begins, and not again.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lmstack.core import IntegrityError, LmstackError
from lmstack.core.files import store_error

__all__ = ["CLOCK_STEP_S", "file_state", "held_files"]

# Two changes of a file within one step of the clock that dates them look like one.
CLOCK_STEP_S = 0.02


def file_state(facts: os.stat_result) -> tuple[int, int, int, int, int]:
    """Another one after each change of a file: only root can choose the time of the last change of
    status, whatever is done to that of the content."""
    times = facts.st_mtime_ns, facts.st_ctime_ns
    return facts.st_dev, facts.st_ino, facts.st_size, *times


@contextmanager
def held_files(folder: Path, names: Collection[str]) -> Iterator[Path]:
    """A folder with ``names`` of ``folder`` alone, each the file that it is now, whatever is
    renamed meanwhile. `IntegrityError` at the end where one was changed in place, or another took
    its name: both show as a change of status.

    Of this process alone. Where there is no ``/proc`` it is ``folder`` itself, and the end is an
    `IntegrityError` for what was renamed, too."""
    with ExitStack() as stack:
        try:
            files = {name: stack.enter_context((folder / name).open("rb")) for name in names}
            opened = {name: file.fileno() for name, file in files.items()}
            before = _states(opened)
        except OSError as error:
            raise store_error(error, Path(error.filename or folder), "reading") from error
        place = _linked(opened, stack)
        try:
            yield place or folder
        except LmstackError as error:
            if place is not None:
                error.message = error.message.replace(str(place), str(folder))
                error.hint = error.hint and error.hint.replace(str(place), str(folder))
                error.args = (error.message,)
            raise
        for name, number in opened.items():
            found = os.fstat(number) if place is not None else (folder / name).stat()
            if file_state(found) != before[name]:
                raise IntegrityError(
                    f"{folder / name} was changed while it was read", hint="try again"
                )


def _states(opened: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Of files that are older than a step of the clock: a change from now on shows."""
    facts = {name: os.fstat(number) for name, number in opened.items()}
    age = time.time() - max((each.st_ctime for each in facts.values()), default=0.0)
    if abs(age) < CLOCK_STEP_S:
        time.sleep(CLOCK_STEP_S)
        facts = {name: os.fstat(number) for name, number in opened.items()}
    return {name: file_state(each) for name, each in facts.items()}


def _linked(opened: Mapping[str, int], stack: ExitStack) -> Path | None:
    """A folder of links; None where this system has none to descriptors, or no place for it."""
    links = {name: f"/proc/{os.getpid()}/fd/{number}" for name, number in opened.items()}
    if not all(map(os.path.exists, links.values())):
        return None
    try:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lmstack-")))
        for name, target in links.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).symlink_to(target)
    except OSError:
        return None
    return place
