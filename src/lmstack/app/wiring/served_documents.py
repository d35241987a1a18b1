"""The documents of a server of an alias: its release's own, when it starts and when it is moved.

A server keeps the documents that it began with. Another model takes over only where it was
evaluated with the same documents, answered from in the same way. Not covered: where the copy of an
index is and what makes it the evaluated one (`released_documents`), and the exchange (`following`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lmstack.app.server.kept_index import FixedIndex
from lmstack.core import Reranker, UnsupportedError
from lmstack.release import released_documents, releases

if TYPE_CHECKING:
    from lmstack.registry.releases import Release

__all__ = ["check_same", "fixed_index"]


def fixed_index(
    alias: str | None,
    release: Release,
    docs: Path,
    reranker: Reranker | None,
    note: Callable[[str], None],
) -> FixedIndex | None:
    """That of ``docs`` which belongs to ``release``, which ``alias`` stands for, if it and how it
    is answered from are what was evaluated; None for a model alone."""
    if not release.docs:
        return None
    released_documents.check_options(alias, release, docs=str(docs) != release.docs)
    released_documents.check_served(release, releases.info_of(release), reranker, note)
    return FixedIndex(released_documents.place_of(release), release.documents_digest)


def check_same(fixed: FixedIndex | None, reranker: Reranker | None, release: Release) -> None:
    """`UnsupportedError` unless ``release`` was evaluated with the documents in ``fixed``, or
    without any where that is None; as `check_served` where it was."""
    served = "" if fixed is None else fixed.digest
    if release.documents_digest == served:
        if fixed is not None:
            released_documents.check_served(release, releases.info_of(release), reranker)
        return
    found = "without documents, and some are served"
    if release.docs:
        found = "with documents, and without any it is not served"
        if served:
            found = "with other documents, or other ways to answer from them, than are served"
    raise UnsupportedError(
        f"{release.title} was evaluated {found}",
        hint="start the server again to serve what was evaluated",
    )
