"""Read, cut and embed on many machines with Ray Data; one process plans and writes.

The work on each machine is that of a local update, by the same functions: files are parsed in
confined workers, cut by the same chunker and embedded by the same model, whose digest is checked.
What comes back are documents, chunks and vectors, committed one by one as they come, so that a
run that is stopped goes on with the next. All machines must see the files under the same paths.
Needs the extra ``ray``. Ray itself moves code and data between its machines with pickle: use a
cluster that only you can reach.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmstack.core import (
    Config,
    Embedder,
    InputError,
    IntegrityError,
    NotFoundError,
    check_range,
    require,
    shown,
)
from lmstack.rag.catalogue.rows import NewDocument, Vectors
from lmstack.rag.catalogue.snapshot import DocumentKey
from lmstack.rag.catalogue.spaces import identity_of
from lmstack.rag.chunk import Chunk, embedded_text
from lmstack.rag.chunking.chunker import Chunker
from lmstack.rag.documents import ProblemError
from lmstack.rag.formats.load import Fingerprint
from lmstack.rag.ingest.reading import ParsedFile, RefusedFile, read_and_parse
from lmstack.rag.ingest.update import IngestTask
from lmstack.rag.ingest.worker import document_frame, problem_frame, read_reply
from lmstack.rag.ingest.workers import Workers

__all__ = ["IngestWorker", "RayConfig", "RayMachines", "joined_ray"]


@dataclass(frozen=True)
class RayConfig(Config):
    """``address`` of a running cluster (``auto`` finds one on this machine); empty starts one
    here with ``processors`` (0: all). ``copies`` of the embedding model, each in a process of its
    own that uses ``processors_each``; files travel in lots of ``files``."""

    address: str = ""
    processors: int = 0
    copies: int = 2
    processors_each: int = 1
    files: int = 16

    def __post_init__(self) -> None:
        check_range("processors", self.processors, 0, 2**16)
        check_range("copies", self.copies, 1, 2**16)
        check_range("processors_each", self.processors_each, 1, 2**10)
        check_range("files", self.files, 1, 10_000)


class RayMachines:
    """Pass it as ``executor`` to `Index.add`. ``make_embedder`` is called in each process that
    embeds, and must give the index's model."""

    def __init__(
        self, make_embedder: Callable[[], Embedder], digest: str, config: RayConfig | None = None
    ) -> None:
        self.config = config or RayConfig()
        self._make_embedder, self._digest = make_embedder, digest

    def __call__(self, task: IngestTask) -> Iterator[tuple[NewDocument, Vectors] | RefusedFile]:
        ray, started = joined_ray(self.config.address, self.config.processors)
        data = require("ray.data", "ray")
        try:
            data.DataContext.get_current().enable_progress_bars = False
            rows = [
                {"source": key.source_id, "path": key.path, "file": path}
                for key, path in task.files
            ]
            done = data.from_items(rows).map_batches(
                IngestWorker,
                fn_constructor_args=(task, self._make_embedder, self._digest),
                batch_size=self.config.files,
                concurrency=self.config.copies,
                num_cpus=self.config.processors_each,
            )
            for row in done.iter_rows():
                yield _outcome(row, task.recipe)
        finally:
            if started:
                ray.shutdown()


def joined_ray(address: str, processors: int = 0) -> tuple[Any, bool]:
    """Ray, in the cluster at ``address`` or, if it is empty, one that begins here with so many
    ``processors`` (0: all); and whether it is to be shut down by who asked for it. `InputError`
    where no cluster answers."""
    # Ray reports its use to its makers unless told not to, before it is loaded.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray = require("ray", "ray")
    if ray.is_initialized():
        return ray, False
    if address:
        try:
            ray.init(address=address, log_to_driver=False)
        except (ConnectionError, ValueError) as error:
            raise InputError(
                f"no Ray cluster can be reached at {shown(address)}: {error}",
                hint="give the address that `ray status` names, ray://HOST:10001, or local",
            ) from error
    else:
        ray.init(
            num_cpus=processors or None,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
    return ray, True


class IngestWorker:
    """In a process of a Ray cluster: rows that name files in, rows with what is in them out."""

    def __init__(
        self, task: IngestTask, make_embedder: Callable[[], Embedder], digest: str
    ) -> None:
        for root in task.roots:
            if not os.path.exists(root):
                raise NotFoundError(
                    f"{shown(root)} is not there on the machine {os.uname().nodename}",
                    hint="mount the documents under the same path on every machine",
                    param="paths",
                )
        self._task = task
        self._embedder = make_embedder()
        if identity_of(self._embedder) != digest:
            raise IntegrityError(
                f"the embedding model on the machine {os.uname().nodename} is "
                f"{identity_of(self._embedder)}, not {digest}",
                hint="pull the same model on every machine",
            )
        self._chunker = Chunker(self._embedder, task.chunking)
        # Each process that embeds parses one file at a time.
        self._workers = Workers(dataclasses.replace(task.workers, count=1), task.load)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        keys = [
            DocumentKey(int(s), str(p)) for s, p in zip(batch["source"], batch["path"], strict=True)
        ]
        rows = [self._row(key, str(path)) for key, path in zip(keys, batch["file"], strict=True)]
        return {name: [row[name] for row in rows] for name in ("facts", "text", "vectors")}

    def close(self) -> None:
        """Give the worker back; a process of Ray that ends takes it along."""
        self._workers.close()

    def _row(self, key: DocumentKey, path: str) -> dict[str, object]:
        read = read_and_parse(key, path, self._task.load, self._workers.parse)
        facts: dict[str, object] = {"key": [key.source_id, key.path], "file": path}
        if isinstance(read, RefusedFile):
            header, text = problem_frame(read.error)
            facts |= {"document": header, "digest": read.digest.hex() if read.digest else None}
            return {"facts": json.dumps(facts), "text": text, "vectors": b""}
        header, text = document_frame(read.document)
        chunks = self._chunker.cut(read.document)
        matrix = self._embedder.embed([embedded_text(c.prefix, c.text) for c in chunks], "passage")
        facts |= {
            "document": header,
            "digest": read.digest.hex(),
            "fingerprint": dataclasses.astuple(read.fingerprint),
            "checked_ns": read.checked_ns,
            "chunks": [(c.start, c.end, c.prefix, c.section, c.tokens) for c in chunks],
        }
        vectors = np.ascontiguousarray(matrix, "<f4").tobytes()
        return {"facts": json.dumps(facts), "text": text, "vectors": vectors}


def _outcome(row: Mapping[str, Any], recipe: str) -> tuple[NewDocument, Vectors] | RefusedFile:
    """What a row of `IngestWorker` says."""
    facts = json.loads(row["facts"])
    key = DocumentKey(*facts["key"])
    digest = bytes.fromhex(facts["digest"]) if facts["digest"] else None
    try:
        document = read_reply(facts["file"], facts["document"], row["text"])
    except ProblemError as error:
        return RefusedFile(key, error, digest)
    assert digest is not None
    read = ParsedFile(
        key, document, digest, Fingerprint(*facts["fingerprint"]), facts["checked_ns"]
    )
    chunks = [
        Chunk(start, end, document.text[start:end], prefix, tuple(section), tokens)
        for start, end, prefix, section, tokens in facts["chunks"]
    ]
    matrix = np.frombuffer(row["vectors"], "<f4").reshape(len(chunks), -1)
    new = NewDocument(key, document, digest, recipe, read.fingerprint, read.checked_ns, chunks)
    return new, matrix
