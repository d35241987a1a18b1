"""What a plan takes for unchanged, and for being inside a folder."""

from __future__ import annotations

import dataclasses
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.rag.catalogue.snapshot import KnownDocument
from lmstack.rag.formats.load import Fingerprint
from lmstack.rag.ingest.plan import _trusted, is_under

SECOND = 10**9
SEEN = Fingerprint(size=10, mtime_ns=5 * SECOND, ctime_ns=7 * SECOND, inode=3)
KNOWN = KnownDocument(1, b"digest", "recipe", SEEN, checked_ns=9 * SECOND + 1)


@pytest.mark.parametrize(("age_ns", "trusted"), [(2 * SECOND, False), (2 * SECOND + 1, True)])
def test_times_are_trusted_of_what_changed_two_seconds_before_it_was_hashed(
    age_ns: int, trusted: bool
) -> None:
    """A clock that counts in steps of up to two seconds gives a later write the same time."""
    known = dataclasses.replace(KNOWN, checked_ns=SEEN.ctime_ns + age_ns)
    assert _trusted(known, SEEN, "recipe") is trusted


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Fingerprint)])
def test_a_file_that_is_not_in_all_as_it_was_is_read_again(name: str) -> None:
    assert _trusted(KNOWN, SEEN, "recipe")
    other = dataclasses.replace(SEEN, **{name: getattr(SEEN, name) - 1})
    assert not _trusted(KNOWN, other, "recipe")


def test_a_file_that_was_cut_otherwise_is_read_again() -> None:
    assert not _trusted(KNOWN, SEEN, "another recipe")


NAMES = st.lists(st.sampled_from(["a", "ab", "a.b", "b"]), max_size=3)


@given(NAMES, st.lists(NAMES, max_size=2))
def test_a_path_is_under_a_folder_that_is_itself_or_a_parent(
    path: list[str], folders: list[list[str]]
) -> None:
    place, above = PurePosixPath("/", *path), [PurePosixPath("/", *parts) for parts in folders]
    expected = any(folder in (place, *place.parents) for folder in above)
    assert is_under(str(place), [str(folder) for folder in above]) is expected


def test_a_folder_may_be_named_with_a_slash_at_its_end() -> None:
    assert is_under("/docs/a.md", ["/docs/"])
    assert not is_under("/docs2/a.md", ["/docs/"])
