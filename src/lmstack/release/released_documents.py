"""The documents of a release: their index as it passed the gate, kept apart and checked.

    $LMSTACK_HOME/releases/DIGEST/     a copy of the index, made when it is promoted

The index of a folder follows the folder, and whoever asks it brings it up to date. What an alias
stands for does not change by itself: it answers from the copy, until another one is promoted.
Not covered: asking it (`lmstack.evals.evaluated_index`), serving it (`build`), and the model
(`releases`).
"""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.core import InputError, IntegrityError, LmstackError, NotFoundError
from lmstack.core.files import store_error
from lmstack.evals.evaluated_index import changed, deciding
from lmstack.evals.json_forms import digest_of
from lmstack.rag.answer.answer import usual_answers

if TYPE_CHECKING:
    from lmstack.core import ModelInfo, Reranker
    from lmstack.evals.evaluated_index import EvaluatedIndex
    from lmstack.rag import Index
    from lmstack.registry.releases import Release

__all__ = [
    "check_answers",
    "check_kept",
    "check_options",
    "check_served",
    "keep",
    "place_of",
    "with_documents",
]

_SHOWN = len("docs.") + 12


def with_documents(release: Release, docs: Path, found: EvaluatedIndex) -> Release:
    """``release`` answering from ``found``, the index of the folder ``docs``."""
    return release.with_documents(str(docs), found.content, _digest(found.how))


def _digest(how: Mapping[str, Any]) -> str:
    return digest_of(how, "how answers are made").removeprefix("sha256:")


def place_of(release: Release) -> Path:
    """Where the copy of the index of ``release`` is, whether or not there is one."""
    from lmstack.registry.home import home

    return home() / "releases" / release.index_content


def keep(release: Release, source: Path) -> None:
    """Copy the index at ``source``, which has to hold what was evaluated; once for all releases
    with this index. A process that is killed leaves no half of one."""
    from lmstack.rag import Index

    place = place_of(release)
    if place.is_dir() and _content(place) == release.index_content:
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        copy = Path(tempfile.mkdtemp(prefix=".copy-", dir=place.parent))
    except OSError as error:
        raise store_error(error, place.parent, "writing") from error
    try:
        with Index.open(source, create=False) as index:
            index.copy_to(copy)
            if _content(copy) != release.index_content:
                raise changed(index)
        copy.chmod(source.stat().st_mode)
        shutil.rmtree(place, ignore_errors=True)
        copy.replace(place)
    except OSError as error:
        raise store_error(error, place, "writing") from error
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _content(place: Path) -> str:
    from lmstack.rag import Index

    try:
        with Index.open(place, create=False) as index:
            return index.content_digest()
    except LmstackError:
        return "unreadable"


def check_kept(release: Release) -> None:
    """`NotFoundError` or `IntegrityError` unless the index that was evaluated is there, every
    passage and vector of it. Nothing of a release without documents."""
    if not release.docs:
        return
    place = place_of(release)
    if not place.is_dir():
        raise NotFoundError(
            f"the index of {release.docs} that was evaluated, {release.index_part[:_SHOWN]}, is"
            f" not here: there is no {place}",
            hint=f"bring that folder back, or promote again: {_again(release)}",
        )
    found = _content(place)
    if found != release.index_content:
        raise IntegrityError(
            f"the index of {release.docs} in {place} is now docs.{found[:12]}, and"
            f" {release.index_part[:_SHOWN]} was evaluated",
            hint=f"bring its file back, or promote again: {_again(release)}",
        )


def check_answers(release: Release, how: Mapping[str, Any]) -> None:
    """`IntegrityError` where answers would be made otherwise than those that were evaluated.
    ``how``: see `deciding`."""
    found = _digest(how)
    if found != release.answers_part.removeprefix("answers."):
        raise IntegrityError(
            f"answers from {release.docs} are made otherwise here: answers.{found[:12]}, and"
            f" {release.answers_part[: len('answers.') + 12]} was evaluated; another model finds"
            " or chooses passages, or this lmstack has other settings",
            hint=f"pull the models of before, or promote again: {_again(release)}",
        )


def check_served(
    release: Release,
    model: ModelInfo,
    reranker: Reranker | None,
    note: Callable[[str], None] | None = None,
) -> None:
    """`check_kept` and `check_answers` for a server; ``note`` is told what of the folder is not
    served."""
    from lmstack.rag import Index

    check_kept(release)
    with Index.open(place_of(release), create=False) as index:
        check_answers(release, deciding(index, usual_answers(model), reranker))
        if note is not None and (told := _news(release, index)):
            note(told)


def check_options(name: str | None, release: Release, **options: object) -> None:
    """`InputError` where an option would answer from something else than was evaluated."""
    for option, value in options.items():
        if value and release.docs:
            raise InputError(
                f"{name} answers from its own documents, as they were evaluated, and not with"
                f" --{option}",
                hint="leave it out, or name the model itself",
                param=option,
            )


def _news(release: Release, index: Index) -> str:
    """What of the folder is not in ``index``, for people; "" where nothing is, or where the folder
    is not on this machine."""
    if not Path(release.docs).exists():
        return ""
    plan = index.scan([release.docs])
    counts = {"new": len(plan.add), "changed": len(plan.change), "gone": len(plan.remove)}
    told = ", ".join(f"{number} {what}" for what, number in counts.items() if number)
    if not told:
        return ""
    return (
        f"{release.docs} has other files since it was evaluated ({told}); what was evaluated is"
        f" served until it is promoted again: {_again(release)}"
    )


def _again(release: Release) -> str:
    words = ["lmstack", "release", "promote", release.model, "--weights", release.weights]
    for option in ("adapter", "prompt", "docs"):
        if place := getattr(release, option):
            words += [f"--{option}", place]
    return f"{shlex.join(words)} --to ALIAS --gate FILE"
