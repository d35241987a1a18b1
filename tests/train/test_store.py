"""Examples on disk are those that were encoded, and memory holds few of them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.core import IntegrityError, StoreError
from lmstack.train.data.examples import Example
from lmstack.train.data.store import ExampleStore, ExampleWriter

IDS = st.lists(st.integers(0, 2**31 - 1), max_size=5).map(lambda ids: np.array(ids, np.int32))
LABELS = (
    st.none()
    | st.lists(st.integers(-100, 9), max_size=5).map(lambda ids: np.array(ids, np.int32))
    | st.lists(st.floats(width=32, allow_nan=False), max_size=3).map(
        lambda values: np.array(values, np.float32)
    )
    | st.integers(0, 9).map(lambda label: np.array(label, np.int32))
    | st.floats(width=32, allow_nan=False).map(lambda score: np.array(score, np.float32))
)
SCORES = st.none() | st.lists(st.floats(width=32, allow_nan=False), max_size=3).map(
    lambda values: np.array(values, np.float32)
)
EXAMPLES = st.builds(
    Example, st.lists(IDS, min_size=1, max_size=3).map(tuple), LABELS, scores=SCORES
)


def written(folder: Path, examples: list[Example]) -> ExampleStore:
    with ExampleWriter(folder) as writer:
        for example in examples:
            writer.add(example)
    return ExampleStore(folder)


@given(st.lists(EXAMPLES, max_size=6))
def test_every_example_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, examples: list[Example]
) -> None:
    store = written(tmp_path_factory.mktemp("store"), examples)
    assert len(store) == len(examples)
    assert store.lengths.tolist() == [example.tokens for example in examples]
    assert store.tokens == sum(example.tokens for example in examples)
    for found, expected in zip(store, examples, strict=True):
        assert [s.tolist() for s in found.sequences] == [s.tolist() for s in expected.sequences]
        assert (found.scores is None) == (expected.scores is None)
        if found.scores is not None and expected.scores is not None:
            assert found.scores.dtype == np.float32
            assert np.array_equal(found.scores, expected.scores)
        if expected.labels is None:
            assert found.labels is None
            continue
        assert found.labels is not None
        assert (found.labels.dtype, found.labels.shape) == (
            expected.labels.dtype,
            expected.labels.shape,
        )
        assert np.array_equal(found.labels, expected.labels)


def test_numbers_of_other_sizes_are_kept_as_those_of_a_store(tmp_path: Path) -> None:
    whole: Any = Example((np.array([1, 2]),), np.array([3, 4]), scores=np.array([0.5]))
    real: Any = Example((np.array([5]),), np.array(0.25))
    one, two = written(tmp_path, [whole, real])
    assert one.labels is not None
    assert one.scores is not None
    assert two.labels is not None
    assert (one.sequences[0].tolist(), one.labels.tolist()) == ([1, 2], [3, 4])
    assert (one.scores.tolist(), float(two.labels)) == ([0.5], 0.25)
    assert not one.sequences[0].flags.writeable
    assert [each.dtype for each in (one.sequences[0], one.labels)] == [np.int32] * 2
    assert (one.scores.dtype, two.labels.dtype, two.labels.shape) == (np.float32, np.float32, ())


def test_a_file_that_is_cut_is_told_by_its_folder(tmp_path: Path) -> None:
    written(tmp_path, [Example((np.arange(9, dtype=np.int32),))] * 3)
    for part in ("values", "ends", "examples", "lengths"):
        path = tmp_path / f"{part}.bin"
        whole = path.read_bytes()
        for size in (len(whole) - 1, len(whole) - 16):
            path.write_bytes(whole[:size])
            with pytest.raises(IntegrityError, match="damaged"):
                ExampleStore(tmp_path)
        path.write_bytes(whole)


def test_memory_does_not_grow_with_the_examples(tmp_path: Path) -> None:
    example = Example((np.arange(200, dtype=np.int32),), np.arange(200, dtype=np.int32))
    tracemalloc.start()
    store = written(tmp_path, [example] * 5_000)
    total = sum(int(found.sequences[0][-1]) for found in store)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 199 * 5_000
    assert most < 1 << 20  # of 8 MB


def test_an_empty_store_has_arrays_of_its_kinds(tmp_path: Path) -> None:
    with ExampleWriter(tmp_path):
        pass
    store = ExampleStore(tmp_path)
    assert (len(store), store.tokens, store.lengths.tolist()) == (0, 0, [])
    kinds = [each.dtype for each in (store.lengths, store._values, store._ends, store._examples)]
    assert kinds == [np.int64, np.int32, np.int64, np.int64]
    assert list(store) == store[:] == []
    gone = tmp_path / "gone"
    with pytest.raises(StoreError, match=f"there is nothing at '{gone}/values.bin'"):
        ExampleStore(gone)
