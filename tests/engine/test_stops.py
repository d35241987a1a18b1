"""Stop strings and expressions against references that look at the whole output."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.core import InputError
from lmstack.engine.constraints.patterns import PatternCompiler
from lmstack.engine.constraints.stops import StopMatcher

letters = st.text("abé", min_size=1, max_size=4)


@given(st.lists(letters, max_size=3), st.lists(st.text("abé", max_size=3), max_size=12))
def test_stops_where_a_search_of_the_whole_output_would(stops: list[str], parts: list[str]) -> None:
    needles = [s.encode() for s in stops]
    matcher = StopMatcher(needles)
    seen = b""
    for part in (p.encode() for p in parts):
        released = matcher.safe_bytes
        seen += part
        found = [i for i in (seen.find(n) for n in needles) if i >= 0]
        assert matcher.push(part) == bool(found)
        assert matcher.safe_bytes >= released, "what was released is taken back"
        if found:
            assert matcher.safe_bytes == min(found)
            return
    matcher.finish()
    assert matcher.safe_bytes == len(seen)


@given(st.lists(letters, min_size=1, max_size=3), st.lists(st.text("ab", max_size=3), max_size=8))
def test_holds_back_no_more_than_could_begin_a_stop(stops: list[str], parts: list[str]) -> None:
    matcher = StopMatcher([s.encode() for s in stops])
    seen = b""
    for part in parts:
        seen += part.encode()
        if matcher.push(part.encode()):
            return
        held = seen[matcher.safe_bytes :]
        assert not held or any(s.encode().startswith(held) for s in stops)


def test_a_stop_split_over_bytes_of_one_character() -> None:
    matcher = StopMatcher(["é!".encode()])
    first, second = "é".encode()[:1], "é".encode()[1:]
    assert not matcher.push(b"a" + first)
    assert matcher.safe_bytes == 1
    assert not matcher.push(second)
    assert matcher.push(b"!!")
    assert matcher.safe_bytes == 1


def regex_stop(*patterns: str, stops: tuple[bytes, ...] = ()) -> StopMatcher:
    return StopMatcher(stops, PatternCompiler().compile(patterns))


@pytest.mark.parametrize("cut", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("pattern", "text", "end"),
    [
        (r"END\d+", "some END12 more", "some END1"),
        (r"\n\s*\n", "a\nb\n \nc", "a\nb\n \n"),
        (r"[.!?] ", "One. Two.", "One. "),
        (r"é{2}", "née éé!", "née éé"),
        (r"(?i)stop", "do StOp", "do StOp"),
    ],
)
def test_a_text_ends_where_an_expression_first_matches(
    pattern: str, text: str, end: str, cut: int
) -> None:
    stop, data = regex_stop(pattern), text.encode()
    for start in range(0, len(data), cut):
        if stop.push(data[start : start + cut]):
            break
    assert stop.stopped
    assert data[: stop.safe_bytes].decode() == end


def test_whichever_of_string_and_expression_ends_first_counts() -> None:
    stop = regex_stop(r"\d\d", stops=(b"7",))
    assert stop.push(b"a 712")
    assert stop.safe_bytes == 2
    stop = regex_stop(r"\d\d", stops=(b"x",))
    assert stop.push(b"a 712 x")
    assert stop.safe_bytes == 4


@settings(max_examples=100, deadline=None)
@given(st.text("ab é\n", max_size=30), st.sampled_from(["ab+", "(a|b)*é", "a.b", "[^a]b|aa"]))
def test_the_place_equals_that_of_re(text: str, pattern: str) -> None:
    """The first end of a match: of all beginnings of the text, the shortest that holds one."""
    stop = regex_stop(pattern)
    stop.push(text.encode())
    ends = [i for i in range(len(text) + 1) if re.search(pattern, text[:i])]
    expected = len(text[: ends[0]].encode()) if ends else None
    assert (stop.safe_bytes if stop.stopped else None) == expected


def test_time_is_linear_in_the_text_for_patterns_that_make_others_explode() -> None:
    stop = regex_stop(r"(a|a|aa)*b", r"(x+x+)+y")
    start = time.process_time()
    assert not stop.push(b"ax" * 20_000)
    assert time.process_time() - start < 2


def test_bytes_that_are_no_text_match_nothing_and_do_not_end_the_search() -> None:
    stop = regex_stop("END")
    assert not stop.push(b"E\xff\xfeN\x80")
    assert stop.push(b"END")


@pytest.mark.parametrize(
    "pattern", ["a*", "^a", "a(?=b)", r"(a)\1", "(", "x)(y", "a" * 1025, "a\\"]
)
def test_expressions_that_cannot_be_used_are_refused_by_name(pattern: str) -> None:
    with pytest.raises(InputError) as caught:
        regex_stop(pattern)
    assert caught.value.param == "stop_regex"


def test_an_expression_that_outgrows_its_automaton_is_an_error_and_not_a_wait() -> None:
    stop = regex_stop("a{1,1000}b{1,1000}c")
    with pytest.raises(InputError, match="too complex"):
        stop.push(b"a" * 5000)


def test_forks_go_their_own_ways() -> None:
    stop = regex_stop("END", stops=(b"XY",))
    stop.push(b"..EN")
    other = stop.fork()
    assert other.push(b"D")
    assert not stop.push(b"..X")
    assert stop.push(b"Y")
