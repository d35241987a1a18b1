"""What one caller sees of an index: searching and reading, within its access labels.

Everything that comes out of a view equals what an index without the hidden documents would
give. Many threads and processes may read while one writes. Writing is `index`'s.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from lmstack.core import Embedder, InputError, NotFoundError, StoreError, shown
from lmstack.rag.catalogue.database import Database
from lmstack.rag.catalogue.rules import check_labels, may_see
from lmstack.rag.catalogue.schema import with_absolute_paths
from lmstack.rag.catalogue.snapshot import (
    DocumentInfo,
    display_path,
    list_documents,
    read_digest,
    read_document,
    read_fields,
    read_spans,
)
from lmstack.rag.catalogue.spaces import Space, active_space, current_state
from lmstack.rag.documents import Document, LoadConfig, ProblemError
from lmstack.rag.filters import Fields, Filter, all_of, check_names
from lmstack.rag.formats.load import read_file
from lmstack.rag.retrieve.corpus import Corpus, CorpusCache, DocumentFacts
from lmstack.rag.retrieve.hybrid import (
    Hit,
    Mode,
    SearchConfig,
    check_query,
    query_vectors,
    run_search,
)
from lmstack.rag.stores.keeping import StoreKeeper

__all__ = ["IndexView", "Opened"]


@dataclass(frozen=True)
class Opened:
    """What all views of one opened index share."""

    database: Database
    space: Space
    embedder: Embedder | None
    search: SearchConfig
    corpora: CorpusCache
    keeper: StoreKeeper


class IndexView:
    """``labels`` are those that the caller holds; None is the owner. ``where`` narrows the view
    to documents that match. Thread-safe."""

    def __init__(
        self,
        opened: Opened,
        labels: frozenset[str] | None = None,
        where: Filter | None = None,
    ) -> None:
        self._opened = opened
        self.labels = labels
        self.where = where

    @property
    def place(self) -> str:
        """The folder or the address of the index."""
        return self._opened.database.place

    @property
    def folder(self) -> Path | None:
        """The folder with the index's files; None where they are elsewhere."""
        return self._opened.database.folder

    @property
    def embedder(self) -> Embedder | None:
        return self._opened.embedder

    @property
    def dimensions(self) -> int:
        return self._opened.space.dimensions

    def is_current(self) -> bool:
        """Whether this is still the index that was opened: not after a change of embedder."""
        with self._opened.database.reading() as connection:
            space = active_space(connection)
        return space is not None and space.id == self._opened.space.id

    def seen_by(self, labels: frozenset[str] | None) -> IndexView:
        """This view, within ``labels`` besides its own. None changes nothing."""
        return IndexView(self._opened, self._within(labels), self.where)

    def matching(
        self, where: Filter | None, *, named: Callable[[str], str] = display_path
    ) -> IndexView:
        """This view, of the documents that match ``where`` besides. Paths in it are as they
        open from the current folder. `InputError` if ``where`` names what no document of this
        view has (`check_names`), with absolute paths as ``named`` gives them."""
        where = with_absolute_paths(where)
        if where is not None:
            with self._opened.database.reading() as connection:
                facts = self._corpus(connection).facts.values()
            check_names(where, [each.fields for each in facts if self._sees(each)], named)
        return IndexView(self._opened, self.labels, all_of(self.where, where))

    def _sees(self, facts: DocumentFacts) -> bool:
        within = self.where is None or self.where.matches(facts.fields)
        return within and may_see(self.labels, facts.labels)

    def search(
        self,
        query: str,
        k: int = 10,
        mode: Mode = "hybrid",
        *,
        vector: npt.NDArray[np.float32] | None = None,
        where: Filter | None = None,
        labels: frozenset[str] | None = None,
    ) -> list[Hit]:
        """The ``k`` best passages for ``query`` among the documents that match ``where`` and
        that a caller who holds only ``labels`` may see. Paths in ``where`` are as they open
        from the current folder. ``vector`` saves embedding the query again."""
        given = None if vector is None else np.asarray(vector, np.float32)[None]
        return self.search_many([query], k, mode, vectors=given, where=where, labels=labels)[0]

    def search_many(
        self,
        queries: Sequence[str],
        k: int = 10,
        mode: Mode = "hybrid",
        *,
        vectors: npt.NDArray[np.float32] | None = None,
        where: Filter | None = None,
        labels: frozenset[str] | None = None,
    ) -> list[list[Hit]]:
        """`search` for each of ``queries``, all in one state of the index. ``vectors`` are
        (Q, D)."""
        for query in queries:
            check_query(query, k, mode)
        if mode == "lexical":
            vectors = None
        elif vectors is None:
            vectors = query_vectors(self._need_embedder(), queries)
        held = self._within(labels)
        where = all_of(self.where, with_absolute_paths(where))
        with self._opened.database.reading() as connection:
            corpus = self._corpus(connection)
            nearest = partial(
                self._opened.keeper.nearest, connection, corpus, where=where, held=held
            )
            return run_search(
                connection,
                corpus,
                queries,
                vectors,
                k,
                self._opened.search,
                mode,
                where=where,
                held=held,
                nearest=nearest,
            )

    @property
    def store_problem(self) -> str | None:
        """Why searches scan the index although it keeps a store; None where they do not."""
        return self._opened.keeper.problem

    def word_weights(self, words: Sequence[str]) -> dict[str, float]:
        """The IDF (inverse document frequency) of each word in this collection."""
        with self._opened.database.reading() as connection:
            return self._corpus(connection).words(self.labels).weights(words)

    def document(self, which: str | int | Path) -> Document:
        """A stored document by its id or path."""
        wanted = which if isinstance(which, int) else os.path.abspath(which)
        with self._opened.database.reading() as connection:
            found = read_document(connection, wanted, self.labels, self.where)
        if found is None:
            raise NotFoundError(
                f"the index holds no document {shown(str(which))}",
                hint="lmstack index status lists its sources",
                param="path",
            )
        return dataclasses.replace(found, path=display_path(found.path))

    def original(self, document_id: int, load: LoadConfig | None = None) -> tuple[Document, bytes]:
        """A document with the bytes of its file, which must still be those that were indexed."""
        found = self.document(document_id)
        with self._opened.database.reading() as connection:
            digest = read_digest(connection, document_id)
        try:
            raw = read_file(Path(os.path.abspath(found.path)), load or LoadConfig())
        except ProblemError as error:
            raise NotFoundError(
                f"the file of {shown(found.path)} cannot be shown: it {error.message}",
                hint="its text is in the index; update the index to bring it in step",
                param="id",
            ) from None
        if raw.digest != digest:
            raise NotFoundError(
                f"{shown(found.path)} changed since it was indexed",
                hint="its text is in the index; update the index to bring it in step",
                param="id",
            )
        return found, raw.data

    def fields_of(self, document_ids: Sequence[int]) -> dict[int, Fields]:
        """What filters may ask of each of these documents; nothing of one that is gone."""
        with self._opened.database.reading() as connection:
            return read_fields(connection, document_ids, self.labels)

    def passage_spans(self, document_id: int) -> list[tuple[int, int]]:
        """Where the passages of a document begin and end, in order; none for one that is gone."""
        with self._opened.database.reading() as connection:
            return read_spans(connection, document_id, self.labels)

    def documents(self, where: Filter | None = None) -> list[DocumentInfo]:
        """The documents that match ``where``, in the order of their paths."""
        both = all_of(self.where, with_absolute_paths(where))
        with self._opened.database.reading() as connection:
            infos = list_documents(connection, both, self.labels)
        return [dataclasses.replace(info, path=display_path(info.path)) for info in infos]

    def languages(self) -> Counter[str]:
        """How many documents of this view are in each language, by its ISO 639-1 code."""
        with self._opened.database.reading() as connection:
            facts = self._corpus(connection).facts.values()
        return Counter(
            str(language)
            for each in facts
            if (language := each.fields.get("language")) and self._sees(each)
        )

    def _corpus(self, connection: sa.Connection) -> Corpus:
        return self._opened.corpora.get(connection, self._generation(connection))

    def _within(self, labels: frozenset[str] | None) -> frozenset[str] | None:
        if labels is None:
            return self.labels
        labels = check_labels(labels)
        return labels if self.labels is None else labels & self.labels

    def _generation(self, connection: sa.Connection) -> int:
        """That of the snapshot, if it is still the index that was opened."""
        found = current_state(connection)
        if found is None or found[0] != self._opened.space.id:
            raise StoreError(
                f"the index {shown(self.place)} has another embedding model now",
                hint="open it again",
            )
        return found[1]

    def _need_embedder(self) -> Embedder:
        if self.embedder is None:
            raise InputError(
                "searching by meaning needs an embedding model",
                hint="search with mode 'lexical', or open the index with an embedder",
                param="mode",
            )
        return self.embedder
