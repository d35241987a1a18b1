"""An index that a server answers from as it is, whatever becomes of its folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lmstack.app.server.kept_index import FixedIndex
from lmstack.app.server.workspace import FromFixedIndex, Workspace
from lmstack.core import Message, NotFoundError, Request, ScriptedModel, complete
from lmstack.rag import Index

if TYPE_CHECKING:
    from tests.app.conftest import HashEmbedder


@pytest.fixture
def workspace(docs: Path, tmp_path: Path, embedder: HashEmbedder) -> Iterator[Workspace]:
    with Index.open(tmp_path / "live", embedder) as index:
        index.update([docs])
        index.copy_to(tmp_path / "fixed")
    fixed = FixedIndex(tmp_path / "fixed", "docs.1")
    with Workspace(
        docs, tmp_path / "live", model=ScriptedModel(), embedder=embedder, fixed=fixed
    ) as found:
        yield found


async def test_it_is_ready_at_once_and_never_follows(workspace: Workspace, docs: Path) -> None:
    before = workspace.index.content_digest()
    (docs / "new.md").write_text("Letters are kept for nine years.\n")
    (docs / "ports.txt").unlink()
    for _ in range(2):
        standings = [each async for each in workspace.brought_up_to_date()]
        assert (standings[-1].state, standings[-1].indexed) == ("ready", 2)
    assert workspace.index.content_digest() == before
    assert workspace.index_dir.name == "live"  # where what people say of answers is kept


def test_one_that_is_gone_is_not_begun_anew(
    docs: Path, tmp_path: Path, embedder: HashEmbedder
) -> None:
    fixed = FixedIndex(tmp_path / "gone", "docs.1")
    with pytest.raises(NotFoundError, match="there is no index"):
        Workspace(docs, tmp_path, model=ScriptedModel(), embedder=embedder, fixed=fixed)
    assert not fixed.place.exists()


async def test_what_answers_from_it_names_it() -> None:
    inner = ScriptedModel(["Ten years."])
    model = FromFixedIndex(inner, "docs.1+answers.2")
    wanted = f"{inner.info.digest}+docs.1+answers.2"
    assert model.info.digest == wanted
    found = await complete(model, Request((Message("user", "How long?"),)))
    assert (found.text, found.model.digest) == ("Ten years.", wanted)
