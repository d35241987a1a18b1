"""Preference data: pairs of ratings, and what is found wrong with pairs."""

from __future__ import annotations

import errno
import itertools
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.errors import about

from lmstack.core import InputError, Message, StoreError, ToolCall
from lmstack.train.data.copies import CopyFinder
from lmstack.train.data.formats import Preference, Rated, preference_of
from lmstack.train.data.leaks import EvaluationSet
from lmstack.train.data.length_bias import LengthBias, clustered_interval
from lmstack.train.data.preference_checks import PairChecks, check_pairs
from lmstack.train.data.preference_report import examine_preferences
from lmstack.train.data.preferences import PlacedPair, row_of
from lmstack.train.data.ratings import RatingConfig, paired
from lmstack.train.data.rows import Row

HI = (Message("user", "Hi"),)


def said(text: str) -> tuple[Message, ...]:
    return (Message("assistant", text),)


def rated(answer: str, rating: float, rater: str = "", prompt: str = "Hi") -> Rated:
    return Rated((Message("user", prompt),), said(answer), rating, rater)


def pair(chosen: str, rejected: str, prompt: str = "Hi", **more: Any) -> PlacedPair:
    asked = (Message("user", prompt),)
    return PlacedPair(Preference(asked, said(chosen), said(rejected), **more), "f:1")


def written(folder: Path, rows: Sequence[Mapping[str, Any]], name: str = "pairs.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 5)), max_size=8))
def test_pairs_say_what_the_mean_ratings_say(given_: list[tuple[str, int]]) -> None:
    found = paired(rated(answer, rating) for answer, rating in given_)
    means = {
        answer: float(np.mean([rating for a, rating in given_ if a == answer]))
        for answer, _ in given_
    }
    expected = {
        (max(one, other, key=means.__getitem__), min(one, other, key=means.__getitem__))
        for one, other in itertools.combinations(means, 2)
        if means[one] != means[other]
    }
    pairs = {(p.chosen[0].content, p.rejected[0].content): p.margin for p in found.pairs}
    assert set(pairs) == expected
    for (chosen, rejected), margin in pairs.items():
        assert margin == pytest.approx(means[chosen] - means[rejected])
    assert found.ties + len(pairs) == len(means) * (len(means) - 1) / 2
    assert found.answers == len(means)


def test_raters_are_compared_with_themselves() -> None:
    """A strict rater's better answer is not beaten by a mild rater's worse one."""
    found = paired(
        [
            *(rated("good", 3, "strict"), rated("bad", 1, "strict")),
            *(rated("bad", 9, "mild"), rated("other", 10, "mild")),
        ]
    )
    pairs = [(p.chosen[0].content, p.rejected[0].content, p.margin) for p in found.pairs]
    assert pairs == [("good", "bad", 2.0), ("other", "bad", 1.0)]
    assert found.unpaired == 0
    alone = paired([rated("good", 3, "strict"), rated("bad", 9, "mild")])
    assert (alone.pairs, alone.unpaired) == ([], 2)


def test_raters_who_disagree_are_averaged_and_counted() -> None:
    found = paired([rated("a", 5, "x"), rated("b", 1, "x"), rated("a", 2, "y"), rated("b", 3, "y")])
    [only] = found.pairs
    assert (only.margin, found.disputed) == (1.5, 1)
    for rating in (1, 2, 3):  # against one who finds both alike nobody is at odds
        given_ = [rated("a", 5, "x"), rated("b", 1, "x"), rated("a", 2, "y"), rated("b", 3, "y")]
        given_ += [rated("a", 2, "x", "Bye"), rated("b", 2, "x", "Bye")]
        given_ += [rated("a", 2, "y", "Bye"), rated("b", rating, "y", "Bye")]
        assert paired(given_).disputed == 1


def test_small_margins_are_ties_and_the_largest_come_first() -> None:
    answers = [rated("a", 1), rated("b", 2), rated("c", 4)]
    found = paired(answers, RatingConfig(min_margin=2, per_prompt=1))
    assert [(p.chosen[0].content, p.rejected[0].content) for p in found.pairs] == [("c", "a")]
    assert found.ties == 1


TURN = st.builds(
    Message,
    role=st.sampled_from(["user", "assistant", "system"]),
    content=st.text(st.characters(codec="utf-8"), max_size=5),
    name=st.none() | st.just("ada"),
    tool_calls=st.just(()) | st.just((ToolCall("1", "f", '{"a": 1}'),)),
)


@given(
    st.lists(TURN, min_size=1, max_size=2),
    TURN,
    TURN,
    st.none() | st.floats(0, 9),
    st.none() | st.floats(0, 1),
)
def test_a_pair_comes_back_from_its_row(
    prompt: list[Message], one: Message, other: Message, margin: Any, probability: Any
) -> None:
    ends = [
        Message("assistant", m.content, m.name, m.tool_calls, m.tool_call_id) for m in (one, other)
    ]
    if ends[0] == ends[1] or prompt[-1].role == "assistant":
        return
    made = Preference(tuple(prompt), (ends[0],), (ends[1],), margin, probability)
    row = json.loads(json.dumps(row_of(made)))
    assert preference_of(Row(row, "f:1")) == made


def test_plain_texts_are_written_as_texts() -> None:
    assert row_of(pair("a", "b").pair) == {"prompt": "Hi", "chosen": "a", "rejected": "b"}
    called = Message("assistant", "", tool_calls=(ToolCall("1", "f", "{}"),))
    prompt = (*HI, called, Message("tool", "7", tool_call_id="1"))
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert row_of(Preference(prompt, said("a"), said("b")))["prompt"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "7", "tool_call_id": "1"},
    ]


def checks(pairs: Sequence[PlacedPair], folder: Path) -> PairChecks:
    return check_pairs(pairs, folder / "copies", EvaluationSet([]))


LONG = "the committee met on tuesday to talk about the roof of the old school and its cost"


def test_copies_are_of_the_whole_pair(tmp_path: Path) -> None:
    found = checks(
        [
            pair("yes", "no"),
            pair("Yes", "no "),
            pair("yes", "never"),
            pair(LONG, "no", "what happened"),
            pair(LONG + " again", "no", "what happened"),
        ],
        tmp_path,
    )
    assert found.exact.tolist() == [False, True, False, False, False]
    assert found.near.tolist() == [False, False, False, False, True]
    assert found.prompts.tolist()[:3] == [found.prompts[0]] * 3


def test_circles_of_any_length_are_contradictions(tmp_path: Path) -> None:
    found = checks(
        [
            *(pair("a", "b"), pair("b", "c"), pair("c", "a"), pair("c", "d")),
            *(pair("x", "y", "other"), pair("y", "x", "other"), pair("x", "z", "other")),
            pair("b", "a", "a third prompt"),
        ],
        tmp_path,
    )
    assert found.contradicted.tolist() == [True, True, True, False, True, True, False, False]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=14))
def test_a_pair_is_contradicted_if_its_edge_is_on_a_circle(
    tmp_path_factory: pytest.TempPathFactory, edges: list[tuple[int, int]]
) -> None:
    """Against reachability by brute force."""
    edges = [(one, other) for one, other in edges if one != other]
    reach = np.zeros((6, 6), bool)
    for one, other in edges:
        reach[one, other] = True
    for middle in range(6):
        reach |= reach[:, [middle]] & reach[[middle]]
    found = checks(
        [pair(f"answer {one}", f"answer {other}") for one, other in edges],
        tmp_path_factory.mktemp("pairs"),
    )
    assert found.contradicted.tolist() == [bool(reach[other, one]) for one, other in edges]


def test_near_copies_oppose_and_an_edit_opposes_nothing(tmp_path: Path) -> None:
    one, other = LONG, "nothing at all happened on that day as far as anybody can remember it now"
    found = checks(
        [
            *(pair(one, other), pair(other + " really", one + " again")),
            *(pair(one, one + " again", "edited"), pair("a", "b", "else")),
        ],
        tmp_path,
    )
    assert found.opposed.tolist() == [True, True, False, False]
    assert not found.contradicted.any()
    assert found.alike.tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    ("text", "leaks"),
    [
        ("Please tell me: WHAT is the capital of France?!", True),
        ("what is the capital of Peru", False),
        ("Paris", False),
        ("so they said that " + LONG.upper() + " in the end", True),
        (" ".join(LONG.split()[:12]) + " today", False),
        (" ".join(LONG.split()[2:15]), True),
    ],
)
def test_a_leak_is_a_whole_question_or_thirteen_words(
    tmp_path: Path, text: str, leaks: bool
) -> None:
    rows = [
        {"question": "What is the capital of France?", "choices": ["Paris", "Rome"]},
        {"messages": [{"role": "user", "content": LONG}]},
    ]
    found = EvaluationSet([Path(written(tmp_path, rows))]).leak(text)
    assert (found is not None) == leaks


def test_what_many_items_share_is_no_leak(tmp_path: Path) -> None:
    asked = [
        {"question": f"{LONG} and what does number {n} of these rows have to say about it then"}
        for n in range(11)
    ]
    found = EvaluationSet([Path(written(tmp_path, asked))])
    assert (found.items, found.unread) == (11, 0)
    fewer = EvaluationSet([Path(written(tmp_path, asked[:10], "ten.jsonl"))])
    assert fewer.leak(LONG) == f"{tmp_path}/ten.jsonl:1"
    assert found.leak(LONG) is None
    assert found.leak(asked[3]["question"]) == f"{tmp_path}/pairs.jsonl:4"


def wilson(mean: float, n: float) -> tuple[float, float]:
    z = 1.959964
    spread = z * (mean * (1 - mean) / n + z**2 / (4 * n**2)) ** 0.5
    middle, scale = mean + z**2 / (2 * n), 1 + z**2 / n
    return (middle - spread) / scale, (middle + spread) / scale


def test_longer_answers_that_always_win_are_a_bias() -> None:
    found = LengthBias.of([20, 30, 40] * 20, [10, 10, 10] * 20, range(60))
    assert (found.longer, found.is_found) == (1.0, True)
    assert (found.low, found.high) == pytest.approx(wilson(1, 60))
    shorter = LengthBias.of([10] * 60, [20, 30, 40] * 20, range(60))
    assert (shorter.low, shorter.high) == pytest.approx(wilson(0, 60))
    assert found.ratio == pytest.approx(31 / 11)
    assert sum(found.bars) == 60
    equal = LengthBias.of([10] * 9, [10] * 9, range(9))
    assert (equal.longer, equal.is_found) == (0.5, False)
    assert LengthBias.of([], [], []).is_found is False


def test_independent_pairs_have_the_interval_of_wilson() -> None:
    won = np.array([1.0] * 30 + [0.0] * 70)
    low, high = clustered_interval(won, np.arange(100))
    assert (low, high) == pytest.approx((0.2189, 0.3958), abs=0.002)


def test_the_interval_covers_the_truth_where_pairs_of_a_prompt_agree() -> None:
    """Fifty prompts of one to nine pairs that all say the same: 95 % intervals of the pairs taken
    as independent would hold the truth far less often."""
    rng = np.random.default_rng(0)
    covered = alone = 0
    for _ in range(400):
        sizes = rng.integers(1, 10, 50)
        prompts = np.repeat(np.arange(50), sizes)
        won = (rng.random(50) < 0.6).astype(float)[prompts]
        low, high = clustered_interval(won, prompts)
        covered += low <= 0.6 <= high
        low, high = clustered_interval(won, np.arange(len(won)))
        alone += low <= 0.6 <= high
    assert covered >= 0.92 * 400
    assert alone < 0.8 * 400


def test_pairs_and_ratings_side_by_side_and_faults_are_left_out(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Hi", "chosen": "Hello", "rejected": "What?"},
        {"prompt": "Hi", "chosen": "Hello", "rejected": "What?"},
        {"prompt": "Hi", "chosen": "x", "rejected": "y", "probability": 0.4},
        {"prompt": "Hi", "chosen": "y", "rejected": "x", "probability": 0.9},
        {"prompt": "1+1", "completions": ["2", "3", "4"], "ratings": [5, 1, 1]},
        {"prompt": "1+2", "completion": "3", "label": True},
        {"prompt": "1+2", "completion": "5", "label": False},
        {"prompt": "Where is the committee meeting?", "chosen": "Here", "rejected": "There"},
        {"prompt": "Hi"},
        {"prompt": "Where is the committee meeting?", "chosen": "here", "rejected": "there"},
    ]
    held = written(tmp_path, [{"q": "where is the committee meeting"}], "eval.jsonl")
    file = written(tmp_path, rows)
    data = examine_preferences([file], against=[held])
    report = data.report
    assert (report.rows, report.bad_rows, report.pairs, report.kept) == (10, 1, 9, 4)
    assert (report.answers, report.ties, report.doubted) == (5, 1, 1)
    assert {k: report.faults[k] for k in ("exact", "contradicted", "leaked")} == {
        "exact": 2,
        "contradicted": 2,
        "leaked": 2,
    }
    assert report.places["leaked"] == [f"{file}:{n} as {held}:1" for n in (8, 10)]
    assert report.places["exact"] == [f"{file}:{n}" for n in (2, 10)]
    assert report.faults.keys() == report.places.keys()
    assert report.margins.most == 4
    found = report.probabilities
    assert (found.count, found.least, found.median, found.most) == (2, 0.4, 0.65, 0.9)
    assert (found.edges[0], found.edges[-1], len(found.edges)) == (0.4, 0.9, 31)
    assert (sum(found.bars), found.bars[0], found.bars[-1]) == (2, 1, 1)
    kept = json.loads(json.dumps(report.to_json()))
    for name in ("margins", "probabilities", "length"):
        assert kept[name] == json.loads(json.dumps(vars(getattr(report, name))))
    assert kept.keys() == vars(report).keys()
    all_ = examine_preferences([file], against=[held], keep=["exact", "contradicted", "leaked"])
    assert all_.report.kept == 9
    wide = examine_preferences([file], RatingConfig(min_margin=4.5)).report
    assert (wide.pairs, wide.ties, wide.items) == (6, 4, 0)


def test_parquet_is_read_beside_json_lines(tmp_path: Path) -> None:
    """Its rows have every column, with nothing in those that they lack."""
    rows = [
        {"prompt": "1", "chosen": "a", "rejected": "b", "margin": 2.0},
        {"prompt": "2", "chosen": "a", "rejected": "b", "margin": None},
        {"prompt": "3", "completion": "a", "rating": 1.0},
        {"prompt": "3", "completions": ["b", "c"], "ratings": [2.0, 2.0]},
    ]
    table = pyarrow.Table.from_pylist(
        [{name: row.get(name) for row_ in rows for name in row_} for row in rows]
    )
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    report = examine_preferences([str(tmp_path / "rows.parquet")]).report
    assert (report.rows, report.bad_rows, report.pairs, report.answers) == (4, 0, 4, 3)
    assert (report.margins.count, report.ties) == (3, 1)


def test_all_pairs_of_a_prompt_are_on_one_side_whatever_the_order(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"prompt {n}", "chosen": f"{n} good {m}", "rejected": f"{n} bad {m}"}
        for n in range(40)
        for m in range(3)
    ]
    train, held = examine_preferences([written(tmp_path, rows)]).sides(0.3)
    sides = [{placed.pair.prompt for placed in side} for side in (train, held)]
    assert not sides[0] & sides[1]
    assert len(train) + len(held) == 120
    assert 4 <= len(sides[1]) <= 20
    again = examine_preferences([written(tmp_path, rows[::-1], "again.jsonl")]).sides(0.3)
    assert {placed.pair.prompt for placed in again[1]} == sides[1]


def test_data_without_a_pair_says_why(tmp_path: Path) -> None:
    file = written(tmp_path, [{"prompt": "Hi", "completion": "a", "rating": 1}])
    with pytest.raises(
        InputError, match="1 answers were rated, 1 of them with no other", check=about("data")
    ):
        examine_preferences([file])
    for count in (0, 1, 3):  # at most two are told of
        bad = written(tmp_path, [{"prompt": "Hi"}] * count, "bad.jsonl")
        with pytest.raises(InputError, check=about("data")) as error:
            examine_preferences([bad])
        assert error.value.message.count("the row has no completion") == min(count, 2)
        assert error.value.message.startswith(f"there is no pair in {bad}")
        assert error.value.message.endswith(")" if count else bad)


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(CopyFinder, "__init__", full)
    file = written(tmp_path, [{"prompt": "Hi", "chosen": "a", "rejected": "b"}])
    said = f"^writing {tempfile.gettempdir()} failed: No space left"
    with pytest.raises(StoreError, match=said):
        examine_preferences([file])


def test_a_report_has_every_figure_of_its_data(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Hi", "chosen": "Hello", "rejected": "What?", "margin": 1},
        {"prompt": "Hi", "chosen": "write to ada@example.org", "rejected": "No", "margin": 4},
        {"prompt": "Bye", "chosen": "a", "rejected": "aaaa", "probability": 0.5},
        {"prompt": "1+1", "completion": "2", "rating": 2, "rater": "a"},
        {"prompt": "1+1", "completion": "3", "rating": 1, "rater": "a"},
        {"prompt": "1+1", "completion": "2", "rating": 1, "rater": "b"},
        {"prompt": "1+1", "completion": "3", "rating": 4, "rater": "b"},
        {"prompt": "1+1", "completion": "4", "rating": 4, "rater": "c"},
        {"prompt": "x", "chosen": "a", "rejected": 3},
        {"prompt": "x", "chosen": "a", "rejected": 17},
        {"text": "nothing"},
    ]
    file = written(tmp_path, rows)
    held = tmp_path / "eval.jsonl"
    held.write_text('{"q": "what is this"}\n{broken\n[]\n{"q": "and this"}')
    told: list[tuple[str, int, int]] = []
    data = examine_preferences([file], against=[str(held)], told=lambda *each: told.append(each))
    report, size = data.report, Path(file).stat().st_size
    assert (report.rows, report.bad_rows, report.pairs, report.prompts, report.kept) == (
        11,
        3,
        4,
        3,
        4,
    )
    assert (report.answers, report.unpaired, report.ties, report.disputed) == (3, 1, 0, 1)
    assert (report.items, report.unread, report.doubted) == (2, 2, 0)
    assert report.personal == {"email": 1}
    assert report.reasons["rejected is …, not text"] == 2
    assert [bad["place"] for bad in report.bad] == [f"{file}:{n}" for n in (9, 10, 11)]
    assert report.bad[0]["reason"] == "rejected is 3, not text"
    assert (report.margins.count, report.margins.least, report.margins.most) == (3, 1.0, 4.0)
    assert len(report.margins.bars) == 30
    assert (report.length.pairs, report.length.longer) == (4, (1 + 0 + 0.5 + 0.5) / 4)
    assert [each["path"] for each in report.files] == [file]
    assert {doing for doing, _, _ in told} == {"reading", "checking"}
    assert [each for each in told if each[0] == "reading"][-1] == ("reading", size, size)
    assert [done for doing, done, _ in told if doing == "checking"] == [
        size * n // 4 for n in range(4)
    ]
    assert {total for _, _, total in told} == {size}


def test_raters_are_compared_with_themselves_and_the_largest_margins_are_kept() -> None:
    given_ = [rated("a", 5), rated("b", 3), rated("c", 2), rated("c", 4), rated("d", 4.5)]
    found = paired(given_)  # c is 3 in the mean, as b
    names = [(p.chosen[0].content, p.rejected[0].content, p.margin) for p in found.pairs]
    assert names == [
        ("a", "b", 2),
        ("a", "c", 2),
        ("d", "b", 1.5),
        ("d", "c", 1.5),
        ("a", "d", 0.5),
    ]
    assert (found.answers, found.unpaired, found.ties, found.disputed) == (4, 0, 1, 0)
    few = paired(given_, RatingConfig(min_margin=1.5, per_prompt=3))
    assert [p.margin for p in few.pairs] == [2, 2, 1.5]
    assert (few.ties, few.answers) == (2, 4)
    alone = paired([rated("a", 1, "x"), rated("b", 2, "y"), rated("a", 1, "x", "Bye")])
    assert (alone.pairs, alone.answers, alone.unpaired) == ([], 3, 3)


def test_lengths_are_compared_by_fifths_of_their_ratio() -> None:
    chosen, rejected = [3, 1, 7, 15, 31, 9], [1, 3, 1, 1, 1, 9]
    found = LengthBias.of(chosen, rejected, range(6))
    assert found.longer == (4 + 0.5) / 6
    assert found.ratio == pytest.approx(2**1.5)
    assert [size for _, size, _ in found.sizes] == [2, 1, 1, 1, 1]
    factors = [1, 2, 4, 8, 16]
    assert [factor for factor, _, _ in found.sizes] == pytest.approx(factors)
    assert [share for _, _, share in found.sizes] == [0.75, 0, 1, 1, 1]
    assert sum(found.bars) == 6
    wide = LengthBias.of([10**9, 1], [1, 10**9], [0, 1])
    assert (wide.bars[-1], wide.bars[0], sum(wide.bars)) == (1, 1, 2)
    assert (wide.edges[0], wide.edges[-1], len(wide.edges)) == (-4, 4, 33)
    few = LengthBias.of([3], [1], [0])
    assert few.sizes == ((pytest.approx(2), 1, 1.0),)
    assert LengthBias().to_json() == vars(LengthBias())
    # Those of one ratio stay in their order.
    alike = LengthBias.of([3] * 25 + [1] * 25, [1] * 25 + [3] * 25, range(50))
    assert [share for _, _, share in alike.sizes] == [1, 1, 0.5, 0, 0]


def test_the_interval_of_one_cluster_is_that_of_one_value() -> None:
    assert clustered_interval(np.array([1.0] * 9), np.zeros(9)) == pytest.approx(
        clustered_interval(np.array([1.0]), np.zeros(1))
    )
    # Pairs of a prompt that cancel out leave no variance between prompts: as many as there are.
    found = clustered_interval(np.array([1.0, 0.0] * 8), np.repeat(np.arange(8), 2))
    assert found == pytest.approx(wilson(0.5, 8))


@pytest.mark.parametrize(
    ("values", "clusters", "size"),
    [([1.0, 1, 0], [0, 0, 1], 9 / 8), ([1.0, 1, 1, 0, 0, 1], [0, 0, 0, 1, 1, 2], 24 / 13)],
)
def test_the_effective_size_is_that_of_korn_and_graubard(
    values: list[float], clusters: list[int], size: float
) -> None:
    """By hand: of the second, the sums of a cluster's deviations are 1, -4/3 and 1/3."""
    found = clustered_interval(np.array(values), np.array(clusters))
    assert found == pytest.approx(wilson(2 / 3, size))
