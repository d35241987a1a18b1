"""What every store must do, on every store that can run here."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from tests.rag.stores.model import DIMENSIONS, Model, assert_same_rows, unit

from lmstack.core import InputError, NotFoundError, StoreError
from lmstack.rag.filters import parse_filter
from lmstack.rag.stores import open_store
from lmstack.rag.stores.chroma import ChromaStore

FIELDS = {
    "title": "Über „Größe“ \U0001f4dc",
    "path": "häuser/日本/a.md",
    "year": 2024,
    "weight": 0.1,
    "draft": False,
    "tags": ("a", "ß", ""),
    "a.b-c_d": "",
    "none": (),
    "large": 2**53,
    "long": "x" * 5000 + "/" * 100,
}


def fill(store, count=20, seed=0):
    model = Model()
    vectors = unit(np.random.default_rng(seed), count)
    fields = [{**FIELDS, "number": i} for i in range(count)]
    store.upsert(np.arange(count), vectors, fields)
    model.upsert(range(count), vectors, fields)
    return model


def test_an_empty_store_finds_nothing(store):
    assert store.count() == 0
    assert list(store.ids()) == []
    assert store.fetch(np.array([1, 2])) == []
    assert store.search(unit(np.random.default_rng(0), 1)[0], 5) == []
    store.delete(np.array([1, 2]))
    store.upsert(np.array([], np.int64), np.empty((0, DIMENSIONS), np.float32), [])
    store.clear()


def test_rows_come_back_as_they_were_given(store):
    assert_same_rows(store, fill(store))


def test_a_row_is_replaced_whole(store):
    model = fill(store)
    vectors = unit(np.random.default_rng(1), 2)
    fields = [{"other": "x"}, {}]
    store.upsert(np.array([3, 4]), vectors, fields)
    model.upsert([3, 4], vectors, fields)
    assert_same_rows(store, model)
    where = parse_filter({"field": "year", "op": "=", "value": 2024})
    assert {3, 4}.isdisjoint(one.id for one in store.search(vectors[0], 30, where))
    where = parse_filter({"field": "year", "op": ">", "value": 0})
    assert {3, 4}.isdisjoint(one.id for one in store.search(vectors[0], 30, where))


def test_the_same_call_again_changes_nothing(store):
    model = fill(store)
    fill(store)
    assert_same_rows(store, model)
    store.delete(np.array([5]))
    store.delete(np.array([5]))
    model.delete([5])
    assert_same_rows(store, model)


def test_an_id_may_be_asked_for_twice(store):
    model = fill(store, 3)
    twice = np.array([1, 1, 7, 7, 1])
    assert [row.id for row in store.fetch(twice)] == [1, 1, 1]
    store.delete(twice)
    model.delete([1])
    assert_same_rows(store, model)


def test_a_deleted_row_is_not_found(store):
    model = fill(store)
    nearest = model.rows[7][0]
    store.delete(np.array([7, 99]))
    model.delete([7])
    assert_same_rows(store, model)
    found = store.search(nearest, 30)
    assert len(found) == 19
    assert model.recall(found, nearest, 30) == 1


def test_a_cleared_store_takes_rows_again(store):
    fill(store)
    store.clear()
    assert store.count() == 0
    assert_same_rows(store, fill(store, 5, seed=1))


def test_the_first_results_are_the_nearest(store):
    model = fill(store, 60)
    for vector in unit(np.random.default_rng(5), 5):
        for k in (1, 7, 60, 500):
            assert model.recall(store.search(vector, k), vector, k) == 1


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(DIMENSIONS),
        np.full(DIMENSIONS, np.nan),
        np.full(DIMENSIONS, np.inf),
        np.ones(DIMENSIONS),
        unit(np.random.default_rng(0), 1, DIMENSIONS + 1)[0],
    ],
    ids=["zero", "nan", "infinite", "long", "wide"],
)
def test_a_bad_vector_changes_nothing(store, vector):
    model = fill(store, 3)
    good = unit(np.random.default_rng(0), 1)[0]
    with pytest.raises(InputError):
        store.upsert(np.array([3]), vector[None], [{}])
    with pytest.raises(InputError):
        store.search(vector, 3)
    if len(vector) == DIMENSIONS:
        with pytest.raises(InputError):
            store.upsert(np.array([3, 4]), np.stack([good, vector]), [{}, {}])
    assert_same_rows(store, model)


@pytest.mark.parametrize(
    "value", ["\0", "a\ud800", float("nan"), float("inf"), 2**53 + 1, None, ("a", 1), b"x"]
)
def test_a_field_that_some_engine_could_not_keep_is_refused(store, value):
    with pytest.raises(InputError):
        store.upsert(np.array([1]), unit(np.random.default_rng(0), 1), [{"a": value}])
    assert store.count() == 0


def test_ids_are_not_negative_and_given_once(store):
    vectors = unit(np.random.default_rng(0), 2)
    with pytest.raises(InputError, match="negative"):
        store.upsert(np.array([-1, 2]), vectors, [{}, {}])
    with pytest.raises(InputError, match="twice"):
        store.upsert(np.array([2, 2]), vectors, [{}, {}])
    store.upsert(np.array([0, 2**52]), vectors, [{}, {}])
    assert sorted(store.ids()) == [0, 2**52]


def test_no_results_cannot_be_asked_for(store):
    with pytest.raises(InputError, match="k is 0"):
        store.search(unit(np.random.default_rng(0), 1)[0], 0)


def test_rows_are_there_when_it_is_opened_again(place, store):
    model = fill(store)
    store.delete(np.array([2]))
    model.delete([2])
    store.close()
    again = open_store(place.url, DIMENSIONS, create=False)
    try:
        assert_same_rows(again, model)
        vector = unit(np.random.default_rng(3), 1)[0]
        assert model.recall(again.search(vector, 5), vector, 5) == 1
    finally:
        again.close()


def test_another_number_of_dimensions_is_refused(place, store):
    fill(store, 1)
    store.close()
    with pytest.raises(InputError, match=f"{DIMENSIONS} dimensions, not 9"):
        open_store(place.url, DIMENSIONS + 1)


def test_a_store_that_is_not_there_is_not_made_unasked(place):
    if place.kind == "pinecone":
        pytest.skip("is always there")
    with pytest.raises(NotFoundError):
        open_store(place.url, DIMENSIONS, create=False)


def test_a_closed_store_says_so(place, store):
    store.close()
    store.close()
    with pytest.raises(StoreError):
        store.count()


def finds(store, id, vector):
    """Chroma's graph may miss a row while others write to it, and not afterwards."""
    for _ in range(100 if isinstance(store, ChromaStore) else 1):
        if any(one.id == id for one in store.search(vector, 80)):
            return True
        time.sleep(0.05)
    return False


def test_threads_lose_nothing(store):
    rng = np.random.default_rng(0)
    vectors = unit(rng, 80)
    errors = []

    def work(number):
        try:
            ids = np.arange(20 * number, 20 * number + 20)
            for part in (slice(0, 10), slice(10, 20)):
                fields = [{"number": int(i)} for i in ids[part]]
                store.upsert(ids[part], vectors[ids[part]], fields)
                assert len(store.fetch(ids[part])) == 10
                assert finds(store, ids[part][0], vectors[ids[part][0]])
            store.delete(ids[:5])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    kept = [i for i in range(80) if i % 20 >= 5]
    model = Model()
    model.upsert(kept, vectors[kept], [{"number": i} for i in kept])
    assert_same_rows(store, model)
