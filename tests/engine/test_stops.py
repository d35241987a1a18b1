"""Stop strings against a reference that looks at the whole output."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lmstack.engine.stops import StopMatcher

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
