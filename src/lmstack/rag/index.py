"""An index of documents in one SQLite file: open, keep up to date, search, check.

The facade over the stages: `plan` (what changed), `update` (read, chunk, embed, write),
`retrieve`, `verify`. Many threads and processes may search while one writes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from lmstack.core import (
    Embedder,
    InputError,
    NotFoundError,
    StoreError,
    UnsupportedError,
    shown,
)
from lmstack.rag.catalogue.duplicates import DuplicateGroup, find_duplicates
from lmstack.rag.catalogue.report import ChunkReport, report_chunks
from lmstack.rag.catalogue.rows import (
    absorb_sources,
    remove_document,
    remove_problem,
    remove_sources,
    set_exclusions,
    set_inodes,
    set_labels,
    set_source_rules,
    touch_documents,
)
from lmstack.rag.catalogue.rules import IGNORE_FILE, SourceRules, check_labels, read_rules
from lmstack.rag.catalogue.snapshot import (
    CatalogueSnapshot,
    StoredPassage,
    absolute_path,
    display_path,
    read_passages,
    read_snapshot,
    source_roots,
    unreadable_labels,
)
from lmstack.rag.catalogue.spaces import (
    ChunkingChoice,
    identity_of,
    keep_choice,
    read_choice,
    recipe_of,
    weights_of,
)
from lmstack.rag.catalogue.sqlite import SqliteDatabase
from lmstack.rag.catalogue.verify import VerifyReport, logical_content, verify_database
from lmstack.rag.chunking import Chunker, ContextWriter
from lmstack.rag.documents import Problem
from lmstack.rag.ingest.plan import IndexStatus, IngestPlan, Work, is_under, make_plan, not_found
from lmstack.rag.ingest.reembed import Reembedder
from lmstack.rag.ingest.scan import check_root, readable_name
from lmstack.rag.ingest.update import RemoteExecutor, UpdateProgress, Updater, UpdateResult
from lmstack.rag.opening import EmbedderChoice, IndexConfig, open_catalogue
from lmstack.rag.stores.ledger import StoreReport
from lmstack.rag.view import IndexView, Opened

__all__ = ["Index", "IndexConfig"]


class Index(IndexView):
    """Make with `Index.open`. A context manager; thread-safe. The owner's view: it sees all."""

    def __init__(
        self, opened: Opened, config: IndexConfig, context_writer: ContextWriter | None = None
    ) -> None:
        super().__init__(opened)
        self.config = config
        self._database = opened.database
        self._context_writer = context_writer
        self._writing = threading.Lock()

    @classmethod
    def open(
        cls,
        place: str | Path,
        embedder: Embedder | EmbedderChoice | None = None,
        create: bool = True,
        *,
        config: IndexConfig | None = None,
        rebuild: bool = False,
        context_writer: ContextWriter | None = None,
    ) -> Index:
        """Open the index in ``place``, making it if ``create`` and there is none: a folder, or
        the address of a PostgreSQL database (``postgresql://host/database``).

        Without ``embedder`` it can be looked at, searched by words, and documents can be
        removed. With another embedder than the index was made with this is an `InputError`,
        unless ``rebuild``: then the index is emptied, and the next update fills it again. A
        damaged file is renamed then, and a new one begun. An `EmbedderChoice` is asked for the
        embedder once it is known which one the index was made with. ``context_writer`` is needed
        where documents are cut with ``context="model"``.
        """
        config = config or IndexConfig()
        opened = open_catalogue(place, embedder, config, create=create, rebuild=rebuild)
        index = cls(opened, config, context_writer)
        try:
            index._catch_up()
        except BaseException:
            index.close()
            raise
        return index

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._opened.keeper.close()
        self._database.close()

    def scan(
        self, paths: Iterable[str | Path] | None = None, *, thorough: bool = False
    ) -> IngestPlan:
        """What `update` would do; changes nothing. ``paths`` default to all sources."""
        wanted = None if paths is None else _absolute(paths)
        self._all_known(wanted or ())
        return self._plan(wanted, thorough=thorough)[0]

    def update(
        self,
        paths: Iterable[str | Path] | None = None,
        progress: Callable[[UpdateProgress], None] | None = None,
        *,
        thorough: bool = False,
    ) -> UpdateResult:
        """Bring the index in step with the files under ``paths`` (default: all its sources).
        New paths become sources. ``thorough`` hashes every file again whatever its times."""
        wanted = None if paths is None else _absolute(paths)
        if self._all_known(wanted or ()):
            # Nobody waits for a writer to be told that there is nothing to write.
            plan, work = self._plan(wanted, thorough=thorough)
            if work.only_times and self._is_kept():
                self._remember_times(work)
                return self._reported(self._updater(progress).run(plan, Work()))
        with self._writer():
            self._register(wanted or ())
            if self._keep_choice():
                wanted = None
            plan, work = self._plan(wanted, thorough=thorough)
            return self._reported(self._updater(progress).run(plan, work))

    def add(
        self,
        paths: Iterable[str | Path],
        progress: Callable[[UpdateProgress], None] | None = None,
        *,
        rules: SourceRules | None = None,
        labels: Iterable[str] = (),
        executor: RemoteExecutor | None = None,
    ) -> UpdateResult:
        """`update`, and paths that were taken out with `remove` may come back. ``rules`` say from
        now on which files of each of ``paths`` are read; None leaves them as they are. ``labels``
        are given to ``paths`` and what is under them, besides those they have. ``executor`` reads
        and embeds on other machines (`bulk`); this one plans and writes."""
        wanted = _absolute(paths)
        more = check_labels(labels)
        with self._writer():
            kept = not self._keep_choice()
            self._register(wanted)
            if rules is not None:
                self._set_rules(wanted, rules)
            if more:  # before any text is in
                with self._database.writing() as connection:
                    known = read_rules(connection)
                    for path in wanted:
                        set_labels(connection, path, known.get(path, frozenset()) | more)
            self._include(wanted)
            return self._reported(
                self._updater(progress, executor).run(*self._plan(wanted if kept else None))
            )

    def is_made_with(self, embedder: Embedder) -> bool:
        """Whether the vectors of the index are those of ``embedder``."""
        return self._opened.space.embedder_digest == identity_of(embedder)

    def reembed(
        self, embedder: Embedder, progress: Callable[[UpdateProgress], None] | None = None
    ) -> int:
        """Change the index to ``embedder`` while it is searched with the old one; the number of
        documents done in this run. May be killed and run again. Afterwards the index is to be
        opened again, here and by everyone else."""
        with self._database.reading() as connection:
            self._generation(connection)
            chunking = self._choice(connection).chunking
        return Reembedder(
            self._database,
            embedder,
            Chunker(embedder, chunking, writer=self._context_writer),
            self._recipe_for,
            self.config.lock_timeout_s,
            progress,
        ).run()

    def set_labels(self, paths: Iterable[str | Path], labels: Iterable[str] | None) -> int:
        """Give ``paths`` and what is under them these labels in place of those given before;
        None takes them away. A document's own labels stay. The number of documents whose
        labels changed."""
        wanted = _absolute(paths)
        given = None if labels is None else check_labels(labels)
        with self._writer(), self._database.writing() as connection:
            known = [*source_roots(connection).values(), *read_rules(connection)]
            for path in wanted:
                if not is_under(path, known):
                    raise _not_in_index(path)
            return sum(set_labels(connection, path, given) for path in wanted)

    def remove(self, paths: Iterable[str | Path]) -> int:
        """Take out every document at or under ``paths``; the number taken out. They stay out of
        later updates until they are added again."""
        wanted = _absolute(paths)
        with self._writer():
            snapshot = self._snapshot(())
            for path in wanted:
                if not any(
                    is_under(path, [r]) or is_under(r, [path]) for r in snapshot.roots.values()
                ):
                    raise _not_in_index(path)
            gone = [i for i, root in snapshot.roots.items() if is_under(root, wanted)]
            keys = [k for k in snapshot.documents if is_under(snapshot.path(k), wanted)]
            with self._database.writing() as connection:
                for key in keys:
                    remove_document(connection, key)
                for key in snapshot.problems:
                    if is_under(snapshot.path(key), wanted):
                        remove_problem(connection, key)
                remove_sources(connection, gone)
                roots = [snapshot.roots[i] for i in gone]
                set_exclusions(
                    connection,
                    add=[p for p in wanted if not any(is_under(r, [p]) for r in roots)],
                    drop=[p for p in snapshot.excluded if is_under(p, roots)],
                )
            return len(keys)

    def keep_in(self, store: str) -> None:
        """Keep the vectors in the store at this address besides (`stores.opening`), from now on:
        searches by meaning go through it. `InputError` if the index keeps another one: see
        `move_store`."""
        with self._writer():
            self._opened.keeper.attach(store)

    def move_store(
        self, to: str | None, progress: Callable[[int, int], None] | None = None
    ) -> StoreReport | None:
        """Fill the store at ``to``, compare it, and use it instead of the one so far, which is
        emptied. None goes back to the index's own search; the store in use is emptied and filled
        again. ``progress`` is told rows done and rows in all. Stopped half way, it goes on where
        it was."""
        with self._writer():
            return self._opened.keeper.move(to, progress)

    @property
    def store_refused(self) -> tuple[str, ...]:
        """Why, for each document that the last change could not put into the store; searches
        scan them in the index."""
        return self._opened.keeper.refused

    def compare_store(self) -> StoreReport | None:
        """The store row by row against the index, and its recall; None without a store."""
        return self._opened.keeper.compare()

    def status(self, *, check: bool = True) -> IndexStatus:
        """Counts, sources, problems; with ``check`` also what an update would do."""
        plan = self.scan() if check else None
        snapshot = self._snapshot(())
        counts = self.documents()
        names = Counter(name for info in counts for name in info.fields)
        with self._database.reading() as connection:
            given = read_rules(connection)
        space = self._opened.space
        return IndexStatus(
            folder=self.place,
            documents=len(counts),
            chunks=sum(info.chunks for info in counts),
            bytes=self._database.size(),
            embedder=space.embedder,
            embedder_digest=space.embedder_digest,
            embedder_weights=weights_of(space.embedder_digest),
            dimensions=self.dimensions,
            sources=tuple(display_path(root) for root in snapshot.roots.values()),
            problems=(*(plan.problems if plan else _stored(snapshot)), *self._hidden()),
            plan=plan,
            store=self._opened.keeper.address,
            rules=tuple(
                f"{display_path(snapshot.roots[source_id])}: {rules}"
                for source_id, rules in snapshot.rules.items()
                if str(rules)
            ),
            formats=dict(sorted(Counter(info.format for info in counts).items())),
            fields=dict(sorted(names.items())),
            labels={display_path(path): tuple(sorted(given[path])) for path in sorted(given)},
        )

    def choose_chunking(self, **changes: Any) -> None:
        """Cut documents otherwise from the next `add` or `update` on, which then cuts all of
        them anew: fields of `ChunkConfig`; those not named stay as they are."""
        with self._database.reading() as connection:
            chunking = self._choice(connection).chunking.replace(**changes)
        self.config = self.config.replace(chunking=chunking)

    def _hidden(self) -> tuple[Problem, ...]:
        """Documents that are in, but that nobody else may see: their labels cannot be read."""
        with self._database.reading() as connection:
            roots = source_roots(connection)
            paths = [absolute_path(roots, key) for key in unreadable_labels(connection)]
        return tuple(
            Problem(
                readable_name(display_path(path)),
                "access",
                "its access field cannot be read, so that only the owner sees it",
                "write labels like this: access: [hr, board]",
            )
            for path in sorted(paths)
        )

    def _reported(self, result: UpdateResult) -> UpdateResult:
        hidden, written = self._hidden(), {*result.plan.add, *result.plan.change}
        return replace(
            result,
            problems=(*result.problems, *hidden),
            new_problems=(
                *result.new_problems,
                *(problem for problem in hidden if problem.path in written),
            ),
        )

    def verify(self) -> VerifyReport:
        """Check hashes, offsets, postings and vectors against the stored text, and measure what
        the approximate search finds of the exact one's."""
        report = verify_database(self._database, self.dimensions)
        if not report.ok:
            return report
        with self._database.reading() as connection:
            return replace(report, recall=self._corpus(connection).recall())

    def report(self) -> ChunkReport:
        """What the chunks look like; counted again if the index was opened with an embedder."""
        with self._database.reading() as connection:
            return report_chunks(connection, self._opened.space.max_tokens, self.embedder)

    def duplicates(self, similarity: float = 0.8) -> list[DuplicateGroup]:
        """Documents that say the same (a Jaccard index of ``similarity`` or more), in groups, the
        most similar first; paths as they open from the current folder."""
        with self._database.reading() as connection:
            found = find_duplicates(connection, similarity)
        return [
            DuplicateGroup(
                tuple(
                    dataclasses.replace(document, path=display_path(document.path))
                    for document in group.documents
                )
            )
            for group in found
        ]

    def stored_passages(self) -> tuple[list[StoredPassage], npt.NDArray[np.float32]]:
        """All passages, and their vectors as (N, D)."""
        with self._database.reading() as connection:
            return read_passages(connection, self.dimensions)

    def content_digest(self) -> str:
        """Names what the index holds: equal for two indexes of the same files and models."""
        hasher = hashlib.sha256()
        with self._database.reading() as connection:
            for item in logical_content(connection):
                hasher.update(repr(item).encode("utf-8", "surrogatepass"))
        return hasher.hexdigest()

    def copy_to(self, folder: Path) -> None:
        """Write what the index holds at this moment into ``folder``, as an index of its own.
        `UnsupportedError` for one that is not a file alone."""
        store, database = self._opened.keeper.address, self._database
        if store is not None or not isinstance(database, SqliteDatabase):
            raise UnsupportedError(
                f"the index {shown(self.place)} is not in a file alone, but in"
                f" {store or 'a database'}, which others may change",
                hint="use one in a file, without a store: lmstack index move --to none",
                param="index",
            )
        database.copy_to(folder)

    @contextmanager
    def _writer(self) -> Iterator[None]:
        with self._writing, self._database.locked("writer", self.config.lock_timeout_s):
            with self._database.reading() as connection:
                self._generation(connection)
            yield
            self._opened.keeper.sync()

    def _catch_up(self) -> None:
        """Finish what an update that was killed did not send to the store. Not worth waiting
        for: a search scans what the store does not have."""
        keeper = self._opened.keeper
        if keeper.is_behind():
            with suppress(StoreError), self._database.locked("writer", 0):
                keeper.sync()

    def _remember_times(self, work: Work) -> None:
        """Saves reading files again; not worth waiting for, or failing in a read-only folder."""
        if work.touch or work.inodes:
            database = self._database
            with suppress(StoreError), database.locked("writer", 0), database.writing() as c:
                touch_documents(c, work.touch)
                set_inodes(c, work.inodes)

    def _all_known(self, paths: Sequence[str]) -> bool:
        """Whether each of ``paths`` is in a source; `NotFoundError` for one that is nowhere."""
        with self._database.reading() as connection:
            roots = source_roots(connection).values()
        new = [path for path in paths if not is_under(path, roots)]
        for path in new:
            if not os.path.exists(path):
                raise not_found(path)
        return not new

    def _register(self, paths: Sequence[str]) -> None:
        """Make new paths sources."""
        if not self._all_known(paths):
            with self._database.writing() as connection:
                for path in paths:
                    absorb_sources(connection, path)

    def _set_rules(self, paths: Sequence[str], rules: SourceRules) -> None:
        with self._database.writing() as connection:
            ids = {root: source_id for source_id, root in source_roots(connection).items()}
            for path in paths:
                if path not in ids:
                    raise InputError(
                        f"{shown(display_path(path))} is inside a source, not one of its own: "
                        "include, exclude and gitignore are of a whole source",
                        hint="lmstack index status lists them; or put the patterns into "
                        f"{IGNORE_FILE} there",
                        param="paths",
                    )
                set_source_rules(connection, ids[path], rules)

    def _include(self, paths: Sequence[str]) -> None:
        """Forget that ``paths`` were taken out."""
        with self._database.reading() as connection:
            excluded = read_snapshot(connection, self._recipe(connection)).excluded
        back = [p for p in excluded if is_under(p, paths) or any(is_under(w, [p]) for w in paths)]
        if back:
            with self._database.writing() as connection:
                set_exclusions(connection, add=(), drop=back)

    def _plan(
        self, paths: Sequence[str] | None, *, thorough: bool = False
    ) -> tuple[IngestPlan, Work]:
        snapshot = self._snapshot(paths or ())
        scanned = list(snapshot.roots.values()) if paths is None else paths
        return make_plan(snapshot, scanned, self.config.load, thorough=thorough)

    def _updater(
        self,
        progress: Callable[[UpdateProgress], None] | None,
        executor: RemoteExecutor | None = None,
    ) -> Updater:
        with self._database.reading() as connection:
            chosen, recipe = self._choice(connection), self._recipe(connection)
        return Updater(
            self._database,
            self.embedder,
            self._snapshot(()).roots,
            recipe,
            self.config.load,
            chosen.chunking,
            self.config.workers,
            progress,
            self._context_writer,
            executor,
        )

    def _choice(self, connection: sa.Connection) -> ChunkingChoice:
        """How documents are to be cut: as this index was opened, else as was kept."""
        kept = read_choice(connection)
        chunking = self.config.chunking or kept.chunking
        if chunking.context != "model":
            return ChunkingChoice(chunking)
        writer = self._context_writer
        return ChunkingChoice(chunking, writer.identity if writer else kept.writer)

    def _recipe(self, connection: sa.Connection) -> str:
        return self._recipe_for(connection, self._opened.space.max_tokens)

    def _recipe_for(self, connection: sa.Connection, max_tokens: int) -> str:
        chosen = self._choice(connection)
        return recipe_of(chosen.chunking, max_tokens, chosen.writer)

    def _is_kept(self) -> bool:
        with self._database.reading() as connection:
            return self._choice(connection) == read_choice(connection)

    def _keep_choice(self) -> bool:
        """Write down how documents are cut; whether that is another way than before."""
        if self._is_kept():
            return False
        with self._database.writing() as connection:
            return keep_choice(connection, self._choice(connection))

    def _snapshot(self, new_paths: Sequence[str]) -> CatalogueSnapshot:
        """What the index remembers, as if ``new_paths`` were sources already."""
        with self._database.reading() as connection:
            roots = source_roots(connection).values()
            if all(is_under(path, roots) for path in new_paths):
                return read_snapshot(connection, self._recipe(connection))
        with self._database.writing() as connection:
            for path in new_paths:
                absorb_sources(connection, path)
            snapshot = read_snapshot(connection, self._recipe(connection))
            connection.rollback()
        return snapshot


def _not_in_index(path: str) -> NotFoundError:
    return NotFoundError(
        f"{shown(display_path(path))} is not in the index",
        hint="lmstack index status lists its sources",
        param="paths",
    )


def _stored(snapshot: CatalogueSnapshot) -> Iterator[Problem]:
    for key, (problem, _, _) in sorted(snapshot.problems.items()):
        yield problem.at(readable_name(display_path(snapshot.path(key))))


def _absolute(paths: Iterable[str | Path]) -> list[str]:
    found = [os.path.abspath(path) for path in paths]
    for path in found:
        check_root(path)
    return found
