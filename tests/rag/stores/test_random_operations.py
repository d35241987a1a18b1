"""Thousands of random operations on a store and on a dict of rows: the same in the end and at
every step between."""

from __future__ import annotations

import random

import numpy as np
import pytest
from tests.rag.stores.model import DIMENSIONS, Model, assert_same_rows, unit
from tests.rag.stores.places import KINDS, Place, Places

from lmstack.rag.filters import Condition, Not
from lmstack.rag.stores import VectorStore, open_store

WHERES = (
    None,
    Condition("kind", "=", "a"),
    Not(Condition("kind", "=", "b")),
    Condition("number", ">=", 50),
    Condition("path", "under", "docs/x"),
    Condition("date", "<", "2024-06"),
)


def fields_of(dice: random.Random) -> dict[str, str | int]:
    kind, number = dice.choice("abc"), dice.randrange(100)
    path = f"docs/{dice.choice('xyz')}/{number}.md"
    return {"kind": kind, "number": number, "path": path, "date": f"2024-0{dice.randint(1, 9)}"}


class Run:
    """One store beside one model."""

    def __init__(self, place: Place, seed: int) -> None:
        self.place = place
        self.dice = random.Random(seed)
        self.rng = np.random.default_rng(seed)
        self.store: VectorStore = open_store(place.url, DIMENSIONS)
        self.model = Model()
        self.recalls: list[float] = []

    def step(self) -> None:
        kind = self.dice.random()
        if kind < 0.35:
            self.put()
        elif kind < 0.5:
            ids = [self.dice.randrange(300) for _ in range(self.dice.randint(1, 6))]
            self.store.delete(np.array(ids))
            self.model.delete(ids)
        elif kind < 0.9:
            self.search()
        elif kind < 0.995:
            ids = [self.dice.randrange(300) for _ in range(3)]
            found = [row.id for row in self.store.fetch(np.array(ids))]
            assert found == [id for id in ids if id in self.model.rows]
        else:
            self.store.close()
            self.store = open_store(self.place.url, DIMENSIONS, create=False)

    def put(self) -> None:
        ids = self.dice.sample(range(300), self.dice.randint(1, 6))
        vectors = unit(self.rng, len(ids))
        fields = [fields_of(self.dice) for _ in ids]
        self.store.upsert(np.array(ids), vectors, fields)
        self.model.upsert(ids, vectors, fields)

    def search(self) -> None:
        vector, k = unit(self.rng, 1)[0], self.dice.choice((1, 5, 20))
        where = self.dice.choice(WHERES)
        found = self.store.search(vector, k, where)
        self.recalls.append(self.model.recall(found, vector, k, where))


def run(places: Places, kind: str, steps: int) -> None:
    running = Run(places.new(kind), seed=20_261_126)
    try:
        for number in range(steps):
            running.step()
            if number % 500 == 499:
                assert_same_rows(running.store, running.model)
        assert_same_rows(running.store, running.model)
        assert np.mean(running.recalls) >= (1 if running.store.exact else 0.99)
    finally:
        running.store.close()


@pytest.mark.parametrize("kind", KINDS)
def test_some_random_operations(places: Places, kind: str) -> None:
    run(places, kind, 60)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_random_operations(places: Places, kind: str) -> None:
    run(places, kind, 10_000)
