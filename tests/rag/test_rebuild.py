"""Whatever was done to an index, it equals one that is made anew from the same files."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmstack.rag import Index

NAMES = ["a.md", "b.txt", "in/c.md", "in/d.txt", "in/deep/e.md"]
LABELS = [[], ["hr"], ["hr", "board"]]
_TEXTS = st.sampled_from(
    [
        "# Harbour\n\nA lantern is lit.\n\n## Meadow\n\nQuartz.\n",
        "# Harbour\n\nA lantern is lit.\n",
        "---\naccess: [hr]\ntags: [one, two]\n---\n# Secret\n\nCopper.\n",
        "---\naccess: h r\n---\n# Broken\n",
        "Plain words, more of them than before. " * 40,
        "",
        "\u6771\u4eac\u90fd \u00e9t\u00e9 \U0001f600\r\nend",
    ]
)
_NAME = st.sampled_from(NAMES)
_OPERATION = st.one_of(
    st.tuples(st.just("write"), _NAME, _TEXTS),
    st.tuples(st.just("write"), _NAME, _TEXTS),
    st.tuples(st.just("move"), _NAME, _NAME),
    st.tuples(st.just("delete"), _NAME),
    st.tuples(st.just("update")),
    st.tuples(st.just("label"), st.sampled_from([*NAMES, "in", "."]), st.sampled_from(LABELS)),
    st.tuples(st.just("clear"), st.sampled_from([*NAMES, "in", "."])),
    st.tuples(st.just("embedder"), st.sampled_from("abc")),
    st.tuples(st.just("reopen")),
)


class _Run:
    """One index, and what was done to it by hand."""

    def __init__(self, place: str | Path, docs: Path, models: dict[str, Any]) -> None:
        self.place, self.docs, self.models = place, docs, models
        self.model = "a"
        self.labels: dict[Path, list[str]] = {}
        self.index = Index.open(place, models["a"])
        self.index.add([docs])

    def do(self, what: str, *given: Any) -> None:
        path = self.docs / given[0] if given else self.docs
        if what == "write":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(given[1].encode())
        elif what == "move" and path.exists():
            target = self.docs / given[1]
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
        elif what == "delete":
            path.unlink(missing_ok=True)
        elif what == "update":
            self.index.update()
        elif what in ("label", "clear"):
            self.labels[path] = given[1] if what == "label" else []
            self.index.set_labels([path], given[1] if what == "label" else None)
        elif what == "embedder":
            self.index.reembed(self.models[given[0]])
            self.model = given[0]
        if what in ("embedder", "reopen"):
            self.index.close()
            self.index = Index.open(self.place, self.models[self.model])

    def equals_a_rebuild(self, place: Path) -> None:
        self.index.update()
        with Index.open(place, self.models[self.model]) as rebuilt:
            rebuilt.add([self.docs])
            for path, labels in self.labels.items():
                rebuilt.set_labels([path], labels or None)
            assert self.index.content_digest() == rebuilt.content_digest()
            for held in (None, frozenset(), frozenset({"hr"})):
                found = [
                    [
                        (h.path, h.start, h.end, h.ranks)
                        for h in one.seen_by(held).search("lantern", 50)
                    ]
                    for one in (self.index, rebuilt)
                ]
                assert found[0] == found[1]
            assert self.index.status().problems == rebuilt.status().problems
        assert self.index.verify().findings == ()


def _check(place: str | Path, folder: Path, make_embedder: Any, operations: list[Any]) -> None:
    docs = folder / "docs"
    docs.mkdir()
    models = {
        "a": make_embedder(),
        "b": make_embedder(48, 40, "b"),
        "c": make_embedder(16, 300, "c"),
    }
    run = _Run(place, docs, models)
    try:
        for operation in operations:
            run.do(*operation)
        run.equals_a_rebuild(folder / "rebuilt")
    finally:
        run.index.close()


@settings(max_examples=8, deadline=None)
@given(st.lists(_OPERATION, max_size=14))
def test_index_in_a_file_equals_a_rebuild(tmp_path_factory, make_embedder, operations):
    folder = tmp_path_factory.mktemp("run")
    _check(folder / "index", folder, make_embedder, operations)


@settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(_OPERATION, max_size=14))
def test_index_in_a_database_equals_a_rebuild(
    tmp_path_factory, postgres_address, make_embedder, operations
):
    place = f"{postgres_address}#t_{uuid.uuid4().hex}"
    _check(place, tmp_path_factory.mktemp("run"), make_embedder, operations)
