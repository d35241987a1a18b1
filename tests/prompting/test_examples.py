"""Nearest examples: near, balanced, the same ones each time, and never the one that is asked."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.app.conftest import HashEmbedder
from tests.errors import about

from lmstack.core import Embedder, InputError
from lmstack.prompting import NearestExamples, PromptExample


# On a circle: a text "30" points to 30 degrees.
class Compass:
    info = HashEmbedder().info
    dimensions, max_tokens = 2, 8

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def embed(self, texts: Sequence[str], kind: str = "passage") -> npt.NDArray[np.float32]:
        self.asked.append(list(texts))
        angles = np.radians([float(text) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [1] * len(texts)


def examples(*pairs: tuple[int, str]) -> list[PromptExample]:
    return [PromptExample({"angle": str(angle)}, label) for angle, label in pairs]


def chosen(found: Sequence[PromptExample]) -> list[tuple[int, str]]:
    return [(int(example.values["angle"]), example.output) for example in found]


POOL = examples((0, "a"), (10, "a"), (20, "a"), (40, "b"), (60, "b"), (90, "c"))


def test_the_nearest_stand_last() -> None:
    nearest = NearestExamples(POOL, Compass(), 3, balanced=False)
    assert chosen(nearest.choose({"angle": "12"})) == [(0, "a"), (20, "a"), (10, "a")]


def test_labels_take_turns() -> None:
    nearest = NearestExamples(POOL, Compass(), 4)
    found = chosen(nearest.choose({"angle": "12"}))
    assert found == [(90, "c"), (40, "b"), (20, "a"), (10, "a")]
    assert chosen(NearestExamples(POOL, Compass(), 2).choose({"angle": "99"})) == [
        (60, "b"),
        (90, "c"),
    ]


def test_a_label_of_its_own_groups_examples_with_different_outputs() -> None:
    pool = [
        PromptExample({"angle": "0"}, "x", label="a"),
        PromptExample({"angle": "1"}, "y", label="a"),
        PromptExample({"angle": "90"}, "z", label="b"),
    ]
    found = NearestExamples(pool, Compass(), 2).choose({"angle": "2"})
    assert [example.output for example in found] == ["z", "y"]


def test_the_one_that_is_asked_is_left_out() -> None:
    nearest = NearestExamples(POOL, Compass(), 6, balanced=False)
    assert (10, "a") not in chosen(nearest.choose({"angle": " 10 "}))
    assert len(nearest.choose({"angle": "10"})) == 5
    assert len(nearest.choose({"angle": "11"})) == 6


def test_equally_near_ones_come_in_their_own_order() -> None:
    pool = examples(*((15, str(n)) for n in range(40)))
    found = NearestExamples(pool, Compass(), 5, balanced=False).choose({"angle": "16"})
    assert [example.output for example in found] == ["4", "3", "2", "1", "0"]


def test_the_last_bits_of_a_vector_decide_nothing() -> None:
    class Noisy(Compass):
        def embed(self, texts: Sequence[str], kind: str = "passage") -> npt.NDArray[np.float32]:
            noise = np.linspace(-1e-7, 1e-7, len(texts), dtype=np.float32)[:, None]
            return super().embed(texts, kind) + noise

    pool = examples((15, "a"), (15, "b"), (15, "c"))
    found = NearestExamples(pool, Noisy(), 2, balanced=False).choose({"angle": "19"})
    assert [example.output for example in found] == ["b", "a"]


def test_examples_are_embedded_once_whoever_asks() -> None:
    compass = Compass()
    nearest = NearestExamples(POOL, compass, 2)
    threads = [threading.Thread(target=nearest.choose, args=({"angle": "5"},)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(texts) == len(POOL) for texts in compass.asked) == 1


pools = st.lists(st.tuples(st.integers(0, 359), st.sampled_from("abc")), min_size=1, max_size=20)


@settings(deadline=None)
@given(pools, st.integers(0, 359), st.integers(1, 8))
def test_no_label_has_two_more_than_one_that_has_examples_left(
    pool: list[tuple[int, str]], angle: int, k: int
) -> None:
    nearest = NearestExamples(examples(*pool), Compass(), k)
    found = chosen(nearest.choose({"angle": str(angle)}))
    others = [each for each in pool if each[0] != angle]
    assert len(found) == min(k, len(others))
    counts = {label: sum(each[1] == label for each in found) for label in "abc"}
    for label in "abc":
        if counts[label] < sum(each[1] == label for each in others):
            assert max(counts.values()) <= counts[label] + 1
    assert chosen(nearest.choose({"angle": str(angle)})) == found


def test_words_that_are_shared_are_near() -> None:
    embedder: Embedder = HashEmbedder()
    pool = [
        PromptExample({"t": "the cat sat"}, "cat"),
        PromptExample({"t": "stocks fell today"}, "stocks"),
    ]
    [found] = NearestExamples(pool, embedder, 1).choose({"t": "the cat ran"})
    assert found.output == "cat"


def test_nothing_to_choose_from_and_odd_numbers_are_errors() -> None:
    with pytest.raises(InputError, match="no examples to choose from") as caught:
        NearestExamples([], Compass())
    assert caught.value.param == "examples"
    for wrong, message in (
        ({"output": 3}, "the output of an example is 3"),
        ({"output": "y", "reasoning": None}, "the reasoning of an example is None"),
        ({"output": "y", "label": 3}, "the label of an example is 3"),
    ):
        with pytest.raises(InputError, match=message, check=about(message.partition(" is")[0])):
            PromptExample({}, **wrong)  # type: ignore[arg-type]
    for k in (1, 256):
        assert NearestExamples(POOL, Compass(), k).k == k
    with pytest.raises(InputError, match="k is 257", check=about("k")):
        NearestExamples(POOL, Compass(), 257)
    assert (NearestExamples(POOL, Compass()).k, NearestExamples(POOL, Compass()).balanced) == (
        4,
        True,
    )
    with pytest.raises(InputError, match="k is 0", check=about("k")):
        NearestExamples(POOL, Compass(), 0)
    with pytest.raises(
        InputError, match="the values of an example are 'x'", check=about("examples")
    ):
        PromptExample("x", "y")  # type: ignore[arg-type]
