"""The model that answers where nobody names one."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmstack.app import wiring
from lmstack.app.wiring.defaults import GENERATORS
from lmstack.core import NotFoundError
from lmstack.model import Transformer, TransformerConfig, write_folder
from lmstack.registry import Store

WRITER, SMALL = GENERATORS


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path))
    return Store()


def put(store: Store, name: str) -> None:
    """A tiny model under this name."""
    folder = store.root / "made" / f"tiny-{name}"
    sizes = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_layers": 1}
    sizes |= {"num_heads": 1, "num_kv_heads": 1, "head_dim": 8, "max_positions": 8}
    write_folder(Transformer(TransformerConfig.from_mapping(sizes)), folder)
    card = store.pull(folder).path.rename(store.folder / name) / "card.json"
    card.write_text(card.read_text().replace(folder.name, name))


def test_of_an_empty_store_the_model_that_writes_is_asked_for(store: Store) -> None:
    assert wiring.default_model() == WRITER
    with pytest.raises(NotFoundError) as refused:
        wiring.require_models(None, None)
    assert refused.value.hint == "lmstack pull"


def test_the_small_model_answers_until_the_one_that_writes_is_here(store: Store) -> None:
    put(store, SMALL)
    assert wiring.default_model() == SMALL
    [found] = [check for check in wiring.checks(network=False) if check.name == f"model {WRITER}"]
    assert (found.status, found.fix) == ("warn", f"lmstack pull {WRITER}")
    put(store, WRITER)
    assert wiring.default_model() == WRITER
    names = {check.name: check.status for check in wiring.checks(network=False)}
    assert names[f"model {WRITER}"] == "ok"
