"""Rows in the making: a stop at any byte loses at most the item that was being written."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.errors import about

from lmstack.core import FormatError, InputError
from lmstack.train.data.journal import Journal

ITEMS = {f"k{n}": {"text": f"líne {n}\n", "n": n} for n in range(4)}


def journal(folder: Path, **settings: object) -> Journal:
    return Journal(folder / "rows.jsonl", {"seed": 1, **settings}, hint="delete it", param="run")


def fill(folder: Path) -> bytes:
    with journal(folder) as made:
        for key, item in ITEMS.items():
            if key not in made:
                made.add(key, item)
        return made.unfinished.read_bytes()


@settings(max_examples=30)  # each writes files to the disk
@given(st.data())
def test_cut_at_any_byte_it_goes_on_to_the_same_journal(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written = fill(folder)
        first_line = written.index(b"\n") + 1
        cut = data.draw(st.integers(first_line, len(written)))
        (folder / "rows.jsonl.unfinished").write_bytes(written[:cut])
        with journal(folder) as again:
            assert again.items == dict(list(ITEMS.items())[: len(again.items)])
            assert len(again.items) == written[first_line:cut].count(b"\n")
        assert fill(folder) == written


def test_the_file_appears_whole_at_the_end_and_the_journal_goes(tmp_path: Path) -> None:
    fill(tmp_path)
    with journal(tmp_path) as made:
        assert not made.path.exists()
        made.finish(made.items.values())
    assert [json.loads(line) for line in made.path.read_text().splitlines()] == [*ITEMS.values()]
    assert list(tmp_path.iterdir()) == [made.path]


def test_other_settings_are_named(tmp_path: Path) -> None:
    fill(tmp_path)
    with pytest.raises(
        InputError, match="other settings: model, seed", check=about("run")
    ) as error:
        journal(tmp_path, seed=2, model="m").__enter__()
    assert error.value.hint == "delete it"


def test_damage_in_the_middle_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    broken = fill(tmp_path).replace(b'"key"', b"key", 1)
    (tmp_path / "rows.jsonl.unfinished").write_bytes(broken)
    with pytest.raises(FormatError, match="is damaged"):
        journal(tmp_path).__enter__()
    assert (tmp_path / "rows.jsonl.unfinished").read_bytes() == broken
