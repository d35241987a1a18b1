"""Windows are those of lm-evaluation-harness and of Hugging Face's guide to perplexity."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.errors import about

from lmstack.core import InputError
from lmstack.evals.metrics.windows import Window, rolling_windows, strided_windows

sizes = st.integers(0, 60)


def as_tokens(windows: list[Window], tokens: list[int]) -> list[tuple[list[int], list[int]]]:
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
