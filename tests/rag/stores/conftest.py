"""A store of each kind for every test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.rag.stores.model import DIMENSIONS
from tests.rag.stores.places import KINDS, Place, Places

from lmstack.rag.stores import VectorStore, open_store


@pytest.fixture(params=KINDS)
def place(request, places: Places) -> Place:
    return places.new(request.param)


@pytest.fixture
def store(place: Place) -> Iterator[VectorStore]:
    opened = open_store(place.url, DIMENSIONS)
    yield opened
    opened.close()
