"""An index that was filled by many machines is the one that this machine alone makes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lmstack.core import InputError, IntegrityError, NotFoundError
from lmstack.rag import Index
from lmstack.rag.catalogue.spaces import identity_of
from lmstack.rag.chunk import embedded_text
from lmstack.rag.ingest import bulk
from lmstack.rag.ingest.bulk import IngestWorker, RayMachines, _outcome, joined_ray
from lmstack.rag.ingest.update import IngestTask
from lmstack.rag.ingest.workers import Workers

_HERE = Path(__file__).parent


def _fill(docs: Path) -> None:
    for number in range(40):
        words = " ".join(f"word{number} and {n}." for n in range(50))
        (docs / f"{number}.html").write_text(f"<title>T{number}</title><h1>H</h1><p>{words}</p>")
    (docs / "broken.txt").write_bytes(b"\xff")


class _Here:
    """The work of other machines, done in this process, row by row."""

    def __init__(self, embedder: object, digest: str) -> None:
        self.embedder, self.digest, self.tasks = embedder, digest, []

    def __call__(self, task: IngestTask):
        self.tasks.append(task)
        machine = IngestWorker(task, lambda: self.embedder, self.digest)
        for key, path in reversed(task.files):
            batch = {"source": [key.source_id], "path": [key.path], "file": [path]}
            done = machine(batch)
            yield _outcome({name: column[0] for name, column in done.items()}, task.recipe)
        machine.close()


@pytest.fixture
def filled(docs) -> Path:
    _fill(docs)
    return docs


def test_index_filled_elsewhere_equals_one_filled_here(filled, tmp_path, embedder):
    with Index.open(tmp_path / "here", embedder) as here:
        want = here.update([filled])
        with Index.open(tmp_path / "there", embedder) as there:
            done = there.add([filled], executor=_Here(embedder, identity_of(embedder)))
            assert there.content_digest() == here.content_digest()
            assert done.problems == want.problems
            assert (done.added, done.chunks) == (want.added, want.chunks)
            assert there.update().plan.up_to_date


def test_what_another_machine_made_of_a_file_has_a_vector_for_each_chunk(
    filled, tmp_path, embedder
):
    seen = _Here(embedder, identity_of(embedder))
    with Index.open(tmp_path / "index", embedder) as index:
        index.add([filled], executor=seen)
    (again,) = seen.tasks
    made = [row for row in _Here(embedder, identity_of(embedder))(again) if type(row) is tuple]
    assert len(made) < sum(len(new.chunks) for new, _ in made)
    for new, vectors in made:
        texts = [embedded_text(chunk.prefix, chunk.text) for chunk in new.chunks]
        np.testing.assert_array_equal(vectors, embedder.embed(texts, "passage"))


def test_a_process_that_embeds_parses_one_file_at_a_time(filled, tmp_path, embedder, monkeypatch):
    counts = []

    class Counted(Workers):
        def __init__(self, settings, load):
            counts.append(settings.count)
            super().__init__(settings, load)

    monkeypatch.setattr(bulk, "Workers", Counted)
    with Index.open(tmp_path / "index", embedder) as index:
        index.add([filled], executor=_Here(embedder, identity_of(embedder)))
    assert counts == [1]


def test_machine_with_another_model_is_refused(filled, tmp_path, embedder, make_embedder):
    with (
        Index.open(tmp_path / "index", embedder) as index,
        pytest.raises(IntegrityError, match="embedding model on the machine"),
    ):
        index.add([filled], executor=_Here(make_embedder(seed="b"), identity_of(embedder)))


def test_machine_that_does_not_see_the_folder_says_so(tmp_path, embedder, filled):
    seen = _Here(embedder, identity_of(embedder))
    with Index.open(tmp_path / "index", embedder) as index:
        index.add([filled], executor=seen)
    filled.rename(tmp_path / "elsewhere")
    with pytest.raises(NotFoundError, match="not there on the machine"):
        IngestWorker(seen.tasks[0], lambda: embedder, identity_of(embedder))


@pytest.mark.long
def test_two_workers_of_ray_make_the_index_that_this_machine_makes(filled, tmp_path, embedder):
    pytest.importorskip("ray")
    with Index.open(tmp_path / "here", embedder) as here:
        here.update([filled])
        want = here.content_digest()
    ran = subprocess.run(
        [sys.executable, str(_HERE / "bulk_on_demand.py"), str(tmp_path / "there"), str(filled)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{_HERE}:{os.environ.get('PYTHONPATH', '')}"},
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found == {"digest": want, "processes": 2, "problems": ["encoding"], "again": True}


def test_an_address_that_leads_to_no_cluster_is_named() -> None:
    with pytest.raises(InputError, match="no Ray cluster can be reached at 'nowhere'"):
        joined_ray("nowhere")


def test_extra_that_is_missing_is_named(monkeypatch, embedder):
    monkeypatch.setitem(sys.modules, "ray", None)
    from lmstack.core import ExtraMissingError

    with pytest.raises(ExtraMissingError, match="ray"):
        next(iter(RayMachines(lambda: embedder, "digest")(None)))
