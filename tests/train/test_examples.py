"""Examples that are made when they are asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lmstack.train.data.examples import Batch, Example, ExampleView, by_length, padded, varlen


def test_a_view_is_a_sequence_of_what_is_made() -> None:
    examples = [Example((np.array([n], np.int32),)) for n in range(5)]
    view = ExampleView(5, examples.__getitem__)
    assert list(view) == examples
    for part in (slice(1, 3), slice(None, None, -2), slice(3, 99), slice(-2, None)):
        assert view[part] == examples[part]
    assert view[-1] is examples[4]
    with pytest.raises(IndexError):
        view[5]


def test_a_batch_goes_to_a_device_with_all_its_tensors() -> None:
    there, x = torch.device("meta"), torch.ones(2)
    moved = Batch({"a": x, "lengths": [1, 1]}, x, 3.0, 4, {"b": x}).to(there)
    assert (moved.inputs["lengths"], moved.weight, moved.tokens) == ([1, 1], 3.0, 4)
    assert [v.device for v in (moved.inputs["a"], moved.labels, moved.more["b"])] == [there] * 3


def test_sequences_stand_end_to_end_or_below_each_other() -> None:
    sequences = [np.array(ids, np.int32) for ids in ([3, 4, 5], [6])]
    inputs = varlen(sequences)
    assert (inputs["input_ids"].tolist(), inputs["lengths"]) == ([3, 4, 5, 6], [3, 1])
    ids, mask = padded(sequences, 9)
    assert (ids.tolist(), mask.tolist()) == (
        [[3, 4, 5], [6, 9, 9]],
        [[True] * 3, [True, False, False]],
    )
    assert inputs["input_ids"].dtype == ids.dtype == torch.int64
    assert mask.dtype == torch.bool


def test_what_is_as_long_stays_in_its_order() -> None:
    order, places = by_length([5, 2, 5, 1, 2])
    assert order == [3, 1, 4, 0, 2]
    assert places.tolist() == [3, 1, 4, 0, 2]
    order, places = by_length([7, 9, 8])
    assert (order, places.tolist()) == ([0, 2, 1], [0, 2, 1])
    order, places = by_length([9, 7, 8])
    assert (order, places.tolist()) == ([1, 2, 0], [2, 0, 1])
