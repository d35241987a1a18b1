"""Windows are those of lm-evaluation-harness and of Hugging Face's guide to perplexity."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.errors import about

from lmstack.core import InputError
from lmstack.evals.metrics.windows import ScoredWindow, Windows, rolling_windows, strided_windows

sizes = st.integers(0, 60)


def as_tokens(windows: list[ScoredWindow], tokens: list[int]) -> list[tuple[list[int], list[int]]]:
    """(context, continuation) of each; the prefix token is 0."""
    text = [0, *tokens]
    return [(text[w.context + 1 : w.start + 1], text[w.start + 1 : w.end + 1]) for w in windows]


def harness_windows(
    tokens: list[int], max_length: int, context: int
) -> list[tuple[list[int], list[int]]]:
    """As the harness describes: the first window predicts as much as fits after the prefix, each
    later one all but the context that it must keep; then the input is cut where the continuation
    begins."""
    found, predicted = [], 0
    while predicted < len(tokens):
        if not predicted:
            size = min(max_length, len(tokens))
            read, wanted = [0, *tokens[: size - 1]], tokens[:size]
        else:
            size = min(len(tokens) - predicted, max_length - context + 1)
            end = predicted + size
            read, wanted = tokens[end - max_length - 1 : end - 1], tokens[end - size : end]
        found.append((read[: len(read) - (len(wanted) - 1)], wanted))
        predicted += size
    return found


@given(sizes, st.integers(1, 20), st.data())
def test_rolling_windows_are_the_harness(num: int, length: int, data: st.DataObject) -> None:
    context = data.draw(st.integers(1, length))
    tokens = list(range(1, num + 1))
    ours = rolling_windows(num, length, context)
    assert as_tokens(ours, tokens) == harness_windows(tokens, length, context)
    assert [place for w in ours for place in range(w.start, w.end)] == list(range(num))
    assert all(w.end - 1 - w.context <= length for w in ours)


@given(sizes, st.integers(2, 20), st.data())
def test_strided_windows_are_those_of_the_guide(num: int, length: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, length))
    scored, previous = [], 0
    for begin in range(0, num, stride):
        end = min(begin + length, num)
        labels = [-100] * (previous - begin) + list(range(max(previous, begin), end))
        # the model shifts labels by one: the first has nothing before it
        scored += [(begin, place) for place in labels[1:] if place != -100]
        previous = end
        if end == num:
            break
    ours = strided_windows(num, length, stride)
    assert [(w.context, place) for w in ours for place in range(w.start, w.end)] == scored
    assert sum(w.num_scored for w in ours) == len(scored)
    if stride < length:
        assert [place for _, place in scored] == list(range(1, num))


def test_a_stride_that_leaves_tokens_out_is_refused() -> None:
    with pytest.raises(InputError, match="would leave tokens out", check=about("stride")):
        strided_windows(100, 10, 11)
    with pytest.raises(InputError, match="context", check=about("context")):
        rolling_windows(100, 10, 11)


@pytest.mark.parametrize("cut", [rolling_windows, strided_windows])
@pytest.mark.parametrize(
    ("given", "param"),
    [
        ((-1, 4, 2), "num_tokens"),
        ((2**40 + 1, 4, 2), "num_tokens"),
        ((9, 0, 1), "max_length"),
        ((9, 2**40 + 1, 2), "max_length"),
        ((9, 4, 0), None),
    ],
)
def test_which_number_of_windows_is_wrong(cut: Any, given: Any, param: str | None) -> None:
    name = param or ("context" if cut is rolling_windows else "stride")
    with pytest.raises(InputError, match=name, check=about(name)):
        cut(*given)


def test_windows_by_default_and_at_their_ends() -> None:
    assert Windows() == Windows("rolling", None, None, 1)
    assert rolling_windows(5, 2) == rolling_windows(5, 2, 1)
    assert rolling_windows(0, 4) == strided_windows(0, 4, 2) == []
    assert rolling_windows(4, 4) == [ScoredWindow(-1, 0, 4)]
    assert rolling_windows(9, 4, 4)[1] == ScoredWindow(0, 4, 5)
    assert strided_windows(8, 4, 4) == [ScoredWindow(0, 1, 4), ScoredWindow(4, 5, 8)]
    assert strided_windows(2, 2, 1) == [ScoredWindow(0, 1, 2)]
    with pytest.raises(InputError, check=about("max_length")):
        strided_windows(9, 1, 1)
    strided = Windows("strided", 5)
    assert strided.of(20, 99) == strided_windows(20, 5, 2)
    assert Windows("strided").of(20, 8) == strided_windows(20, 8, 4)
    assert Windows("strided", None, 3).of(20, 8) == strided_windows(20, 8, 3)
    assert Windows("rolling", 4, None, 2).of(20, 99) == rolling_windows(20, 4, 2)
    assert Windows().of(20, 7) == rolling_windows(20, 7, 1)
    assert strided.protocol == {"kind": "strided", "max_length": 5, "stride": None}
    assert Windows(context=3).protocol == {"kind": "rolling", "max_length": None, "context": 3}
    assert [Windows().is_strided, strided.is_strided] == [False, True]
    for settings_, param in (
        ({"kind": "rolling", "stride": 2}, "stride"),
        ({"kind": "strided", "context": 2}, "context"),
    ):
        with pytest.raises(InputError, check=about(param)):
            Windows(**settings_)
