"""Rows in the making: a stop at any byte loses at most the item that was being written."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.errors import about

from lmstack.core import FormatError, InputError, StoreError
from lmstack.train.data.journal import Journal

ITEMS = {f"k{n}": {"text": f"líne {n}\n", "n": n} for n in range(4)}


def journal(folder: Path, **settings: object) -> Journal:
    return Journal(folder / "rows.jsonl", {"seed": 1, **settings}, hint="delete it", param="run")


def fill(folder: Path) -> bytes:
    with journal(folder) as made:
        for key, item in ITEMS.items():
            if key not in made:
                made.add(key, item)
        assert made.items == ITEMS
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
    with pytest.raises(InputError, match="other settings: model \\("):
        journal(tmp_path, model="m").__enter__()


def test_damage_in_the_middle_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    broken = fill(tmp_path).replace(b'"key"', b"key", 1)
    (tmp_path / "rows.jsonl.unfinished").write_bytes(broken)
    with pytest.raises(FormatError, match="is damaged"):
        journal(tmp_path).__enter__()
    assert (tmp_path / "rows.jsonl.unfinished").read_bytes() == broken


def test_a_disk_that_refuses_is_said_and_the_journal_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"^writing .*unfinished failed"):
        journal(tmp_path / "file").__enter__()
    made = journal(tmp_path)
    made.__exit__()  # which was never entered
    with made:
        made.add("a", {"n": 1})

        def full(text: str) -> int:
            raise OSError(28, "No space left on device")

        held = made._file
        assert held is not None
        monkeypatch.setattr(made, "_file", SimpleNamespace(write=full, close=held.close))
        with pytest.raises(StoreError, match=r"^writing .*unfinished failed"):
            made.add("b", {"n": 2})
        assert "b" not in made
    with journal(tmp_path) as again:
        assert again.items == {"a": {"n": 1}}


def test_settings_are_compared_as_json_has_them_and_text_is_as_it_is(tmp_path: Path) -> None:
    with journal(tmp_path, pair=("\u00e4", 1)) as made:
        made.add("k\u00f6", {"text": "\u00fc"})
        assert '"k\u00f6"' in made.unfinished.read_text(encoding="utf-8")
    with journal(tmp_path, pair=["\u00e4", 1]) as again:
        assert "k\u00f6" in again
        again.unfinished.unlink()  # by somebody who tidied up
        again.finish([{"text": "\u00fc"}])
    assert again.path.read_text(encoding="utf-8") == '{"text": "\u00fc"}\n'
    with (
        journal(tmp_path / "a" / "b") as made,
        pytest.raises(InputError, match=r"other settings: seed \(delete it\)", check=about("run")),
    ):
        journal(tmp_path / "a" / "b", seed=2).__enter__()
