"""What the page shows of a workspace: JSON-like, in the shape that the page reads.

Each client is shown what it may see, and nothing of the rest. Everything here may be called from
any thread. Does not cover HTTP (`routes`) or how answers are made (`lmstack.rag`).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import lmstack
from lmstack.app.page.answer_events import AnswerEvents
from lmstack.app.page.filters import facets_of, read_filter
from lmstack.app.page.pictures import PagePictures
from lmstack.app.page.suggestions import answerable, candidate_questions
from lmstack.app.server.kept_index import UpdateRound
from lmstack.app.server.uploads import Uploads
from lmstack.app.server.workspace import NO_WISHES, OWNER, Question, Workspace
from lmstack.core import Message, NotFoundError
from lmstack.rag import FORMATS, AnswerWishes, Document, DocumentInfo, Problem
from lmstack.rag.filters import Filter
from lmstack.rag.retrieve.rewriting import turns_of
from lmstack.release.feedback import FeedbackJudgement, FeedbackStore, RecentAnswers
from lmstack.serve.http.errors import without_paths

__all__ = ["PageView"]

MAX_ROWS = 300
PAGE_CHARS = 100_000
BEFORE_CHARS = 20_000
SUGGESTED = 3
MAX_TRIED = 8
_PLACE = ("path", "start", "end", "quote")
_NOTHING = UpdateRound()


class PageView:
    """`close` closes ``workspace``, too."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._feedback = FeedbackStore(workspace.index_dir)
        self._recent = RecentAnswers()
        self._pictures = PagePictures()
        self._lock = threading.Lock()
        # By what is seen and the embedder that finds it.
        self._suggested: dict[tuple[Any, ...], tuple[int, list[str]]] = {}

    def close(self) -> None:
        self.workspace.close()
        self._pictures.close()

    def start_indexing(self) -> None:
        """Look for changes now, in the background."""
        self.workspace.start_indexing()

    @property
    def uploads(self) -> Uploads | None:
        return self.workspace.uploads

    def status(self, client: str = OWNER) -> dict[str, Any]:
        shown = {**self._status(), "uploads": self._taken_of(client)}
        if self.workspace.labels_of(client) is None:
            return shown
        # Whoever may not see everything learns nothing of how the rest is coming along.
        known, own = self.workspace.view_of(client).documents(), self._own_round(client)
        state = "starting" if shown["state"] == "starting" else "ready"
        files = {"total": len(known), "indexed": len(known), "problems": 0, "not_read": 0}
        nothing = {"remaining_s": None, "problem": None}
        return {
            **shown,
            "root": shown["folder"],
            "state": state,
            "files": files,
            **nothing,
            "revision": _revision(known, own),
        }

    def _taken_of(self, client: str) -> dict[str, Any] | None:
        """Which files ``client`` may add; None for none."""
        if self.uploads is None or self.uploads.folder_of(client) is None:
            return None
        return {"max_bytes": self.uploads.max_file_bytes, "endings": sorted(FORMATS)}

    def _own_round(self, client: str) -> UpdateRound:
        """How far the files are that ``client``, who does not see everything, may add to."""
        place = self.uploads and self.uploads.folder_of(client)
        if not place:
            return UpdateRound()

        def inside(path: str) -> bool:
            return os.path.abspath(path).startswith(f"{place}{os.sep}")

        now = self.workspace.standing().round
        problems = tuple(p for p in now.problems if inside(p.path))
        return UpdateRound(waiting={p for p in now.waiting if inside(p)}, problems=problems)

    def _status(self) -> dict[str, Any]:
        standing = self.workspace.standing()
        now, failure, writer = standing.round, standing.failure, self.workspace.writer
        model = writer.model.info
        planned = now.plan.unchanged + len(now.plan.add) + len(now.plan.change)
        busy = standing.state == "indexing"
        indexed = planned - len(now.waiting) if busy else standing.indexed
        return {
            "version": lmstack.__version__,
            "model": {"name": model.name, "digest": model.digest},
            "answers": writer.config.strategy,
            "folder": self.workspace.folder.name or str(self.workspace.folder),
            "root": str(self.workspace.folder),
            "state": standing.state,
            "files": {
                "total": (planned if busy else standing.indexed) + len(now.problems),
                "indexed": max(0, indexed),
                "problems": len(now.problems),
                "not_read": now.plan.not_read.total,
            },
            "remaining_s": now.remaining_s if busy else None,
            "problem": failure and _problem(failure.message, failure.hint),
            "revision": standing.revision,
        }

    def filter_of(self, data: object, client: str = OWNER) -> Filter | None:
        """The filter that is meant by JSON in which paths are as the page names them;
        `InputError` for one that cannot be read, or that names what no document has of those
        that ``client`` sees."""
        where = read_filter(data, self.workspace.folder)
        if where is not None:
            self.workspace.view_of(client).matching(where, named=self._named)
        return where

    def facets(self, client: str = OWNER) -> dict[str, Any]:
        """What ``client`` can filter by, with counts of the documents that it sees."""
        return {"facets": facets_of(self.workspace.view_of(client).documents(), self._named)}

    def documents(
        self, find: str = "", client: str = OWNER, where: Filter | None = None
    ) -> dict[str, Any]:
        """Files by path, problems first, of those whose path holds ``find``; with ``where``
        those in the index that match it."""
        standing = self.workspace.standing()
        now, revision, waiting = standing.round, standing.revision, standing.round.waiting
        known = self.workspace.view_of(client).documents()
        if self.workspace.labels_of(client) is not None:
            now = self._own_round(client)
            waiting, revision = set(now.waiting), _revision(known, now)
        if where is not None:  # of what is not in yet nobody knows whether it matches
            known = self.workspace.view_of(client).documents(where)
            now, waiting = UpdateRound(), waiting & {info.path for info in known}
        rows = [_problem_row(problem, self._named(problem.path)) for problem in now.problems]
        late = waiting - {info.path for info in known}
        for info in known:
            state = "waiting" if info.path in waiting else "indexed"
            rows.append(_row(info.id, self._named(info.path), info.title, state))
        rows += [_row(None, self._named(path), "", "waiting") for path in sorted(late)]
        found = [row for row in rows if find.lower() in row["path"].lower()]
        return {
            "documents": found[:MAX_ROWS],
            "found": len(found),
            "total": len(rows),
            "revision": revision,
        }

    def document(
        self,
        identity: int,
        *,
        path: str | None = None,
        start: int | None = None,
        around: int | None = None,
        client: str = OWNER,
    ) -> dict[str, Any]:
        """A page of a document's text: from ``start``, or some way before ``around``. A file
        that changed has a new id; ``path``, as the page names it, finds it all the same."""
        document = self._document(identity, path, client)
        first = start if start is not None else _page_start(document.text, around or 0)
        first = min(first, len(document.text))
        text = document.text[first : first + PAGE_CHARS]
        end = first + len(text)
        return {
            "id": identity,
            "path": self._named(document.path),
            "title": document.title,
            "text": text,
            "start": first,
            "end": end,
            "characters": len(document.text),
            "pages": len(document.pages) if document.format == "pdf" else 0,
            "sections": [
                {"title": section.title, "start": section.start, "heading_end": heading_end}
                for section in document.sections
                if section.level and first <= section.start < end
                for heading_end in [_line_end(document.text, section.start)]
            ],
        }

    def boxes(self, identity: int, start: int, end: int, client: str = OWNER) -> dict[str, Any]:
        """Where a passage stands on the pages of its PDF file."""
        return self._pictures.boxes(self.workspace.view_of(client), identity, start, end)

    def picture(
        self, identity: int, number: int, width: int, client: str = OWNER
    ) -> tuple[bytes, str]:
        """A page of a PDF file as a PNG, and its ETag."""
        return self._pictures.picture(self.workspace.view_of(client), identity, number, width)

    def document_text(self, identity: int, path: str | None = None, client: str = OWNER) -> str:
        return self._document(identity, path, client).text

    async def suggestions(self, client: str = OWNER) -> list[str]:
        """Questions to try, made from the headings of the documents."""
        view = self.workspace.view_of(client)
        key = (self.workspace.labels_of(client), self.workspace.embedder.info.digest)
        # What is seen, and not what was indexed: labels change without a file that does.
        revision = _revision(await asyncio.to_thread(view.documents))
        with self._lock:
            known = self._suggested.get(key)
        if known is None or known[0] != revision:
            candidates = await asyncio.to_thread(candidate_questions, view)
            found: list[str] = []
            if candidates:
                answerer = self.workspace.answerer_of(client)
                found = await answerable(answerer, candidates[:MAX_TRIED], SUGGESTED)
            known = (revision, found)
            with self._lock:
                self._suggested[key] = known
        return known[1]

    async def ask(
        self,
        question: str,
        history: Sequence[Message] = (),
        *,
        client: str = OWNER,
        request_id: str = "",
        where: Filter | None = None,
        wishes: AnswerWishes = NO_WISHES,
    ) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
        """The events of an answer by name, ending with ``done``. ``where`` narrows what it may
        come from."""
        yield "searching", {}
        files = await asyncio.to_thread(self._searched, client, where)
        translate = AnswerEvents(files, self._named)
        asked = Question(
            prompt=question,
            client=client,
            request_id=request_id,
            past=tuple(turns_of(history)),
            where=where,
            wishes=wishes.given,
        )
        hits: list[dict[str, Any]] = []
        async with aclosing(self.workspace.events(asked)) as events:
            async for event in events:
                for name, data in translate(event):
                    if name == "hits":
                        hits = data["hits"]
                    if name == "done":
                        answered = self._answered(asked, where, hits, data)
                        if request_id:
                            self._recent.remember(request_id, client, answered)
                        data = {**data, "request_id": request_id}
                    yield name, data

    def judge(self, request_id: str, judgement: FeedbackJudgement, client: str = OWNER) -> None:
        """Keep what ``client`` thinks of an answer that it was given."""
        answered = self._recent.answered(request_id, client)
        self._feedback.save(request_id, client, judgement, answered)

    def _answered(
        self,
        asked: Question,
        where: Filter | None,
        hits: Sequence[Mapping[str, Any]],
        done: Mapping[str, Any],
    ) -> dict[str, Any]:
        """What is kept of an answer that is judged. A follow-up that was written in full is kept
        as that, for the model saw nothing else."""
        config = self.workspace.answerer_of(asked.client).config
        in_full = config.rewrite == "model"
        embedder = self.workspace.embedder.info
        return {
            "question": done["query"] if in_full else asked.prompt,
            "past": () if in_full else asked.past,
            "task": done["task"],
            "where": where and where.to_json(),
            "answer": done["answer"],
            "outcome": done["outcome"],
            "citations": [{k: c[k] for k in ("id", *_PLACE)} for c in done["citations"]],
            "passages": [{k: hit[k] for k in _PLACE} for hit in hits],
            "model": done["model"],
            "embedder": {"name": embedder.name, "digest": embedder.digest},
        }

    def _searched(self, client: str, where: Filter | None) -> Mapping[str, int]:
        """How many files an answer comes from."""
        if where is None:
            files: Mapping[str, int] = self.status(client)["files"]
            return files
        count = len(self.workspace.view_of(client).documents(where))
        return {"total": count, "indexed": count, "problems": 0}

    def name_of(self, path: Path) -> str:
        """A file of the folder as the page names it."""
        return self._named(os.fspath(path))

    def _named(self, path: str) -> str:
        """A path from `lmstack.rag` from the folder on: what people recognize, and no more of
        this machine than they need."""
        inside = os.path.relpath(path, self.workspace.folder)
        if inside == ".":
            return self.workspace.folder.name
        return path if inside.startswith("..") else os.path.join(self.workspace.folder.name, inside)

    def _document(self, identity: int, path: str | None, client: str) -> Document:
        view = self.workspace.view_of(client)
        try:
            return view.document(identity)
        except NotFoundError:
            pass
        try:
            # A name in the index, which may hold anything: no file is opened.
            return view.document(self.workspace.folder.parent / (path or str(identity)))
        except (NotFoundError, ValueError):
            raise NotFoundError(
                "this document is no longer in the index",
                hint="it was changed or removed; ask again, or open it from the list of sources",
                param="id",
            ) from None


def _revision(known: Sequence[DocumentInfo], own: UpdateRound = _NOTHING) -> int:
    """A number that changes with what is seen, and with nothing else."""
    rows = [(info.id, info.path) for info in known]
    seen = repr((rows, sorted(own.waiting), own.problems)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(seen).digest()[:6])


def _row(identity: int | None, path: str, title: str, state: str) -> dict[str, Any]:
    return {"id": identity, "path": path, "title": title, "state": state, "problem": None}


def _problem(message: str, hint: str | None) -> dict[str, str | None]:
    return {"message": without_paths(message), "hint": hint and without_paths(hint)}


def _problem_row(problem: Problem, path: str) -> dict[str, Any]:
    row = _row(None, path, "", "problem")
    row["problem"] = _problem(problem.message, problem.hint)
    return row


def _page_start(text: str, around: int) -> int:
    """The start of a line some way before ``around``."""
    if around <= BEFORE_CHARS:
        return 0
    return text.rfind("\n", 0, around - BEFORE_CHARS) + 1


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end
