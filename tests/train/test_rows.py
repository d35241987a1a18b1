"""Files to rows: nothing is lost, what cannot be read is named, memory is constant."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import sys
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.errors import about

from lmstack.core import ExtraMissingError, NotFoundError, StoreError
from lmstack.train.data import rows as rows_module
from lmstack.train.data.rows import BadRow, Row, Rows, find_data

VALUES = st.dictionaries(
    st.text(min_size=1, max_size=3),
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.text(max_size=2)),
    max_size=3,
)


def read(*paths: Path) -> list[Row | BadRow]:
    return list(Rows(find_data(paths)))


@given(st.lists(VALUES, max_size=8), st.booleans())
def test_lines_come_back_in_order_with_their_numbers(
    tmp_path_factory: pytest.TempPathFactory, values: list[dict[str, object]], zipped: bool
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    text = "".join(json.dumps(v) + "\n" for v in values).encode()
    path = folder / ("f.jsonl.gz" if zipped else "f.jsonl")
    path.write_bytes(gzip.compress(text) if zipped else text)
    assert read(path) == [Row(v, f"{path}:{n}") for n, v in enumerate(values, start=1)]


def test_bad_lines_are_named_and_the_rest_follows(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"a": 1}\n\n{oops\n[1]\n{"a": "\xff"}\n' + b"[" * 9999 + b'\n{"a": 2}'
    )
    found = read(path)
    assert [row.place for row in found] == [f"{path}:{n}" for n in (1, 3, 4, 5, 6, 7)]
    assert found[0] == Row({"a": 1}, f"{path}:1")
    assert found[-1] == Row({"a": 2}, f"{path}:7")
    reasons = [row.reason for row in found if isinstance(row, BadRow)]
    assert reasons[0].startswith("not JSON")
    assert reasons[1:3] == ["[1] is not an object", "not UTF-8, at byte 7 of the line"]


def test_a_line_without_end_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "_LONGEST_LINE", 16)
    path = tmp_path / "f.jsonl"
    for length in (15, 16, 17, 31, 32, 33, 48):
        path.write_text("x" * length + '\n{"a": 1}\n')
        bad, good = read(path)
        assert isinstance(bad, BadRow)
        reason = "the line has more than 16 bytes" if length > 15 else "not JSON: "
        assert (bad.place, bad.reason[: len(reason)]) == (f"{path}:1", reason)
        assert good == Row({"a": 1}, f"{path}:2"), length


def test_a_compressed_file_that_ends_early_gives_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl.gz"
    whole = gzip.compress(b"".join(b'{"a": %d}\n' % n for n in range(10_000)))
    path.write_bytes(whole[: len(whole) // 2])
    *good, bad = read(path)
    assert len(good) > 1000
    assert isinstance(bad, BadRow)
    assert bad.place == f"{path}:{len(good) + 1}"
    assert bad.reason.startswith("the compressed file cannot be read on: ")


def test_parquet_gives_the_rows_of_the_same_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [{"messages": [{"role": "user", "content": f"é {n}"}], "n": n} for n in range(600)]
    path = tmp_path / "f.parquet"
    pq.write_table(pa.Table.from_pylist(values), path, row_group_size=100)
    found = read(path)
    assert [row.values for row in found if isinstance(row, Row)] == values
    assert found[599].place == f"{path}:600"
    path.write_bytes(path.read_bytes()[:-10])
    [bad] = read(path)
    assert isinstance(bad, BadRow)
    assert bad.reason.startswith("the Parquet file cannot be read on")
    assert bad.place == f"{path}:1"
    for name in ("pyarrow.parquet", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ExtraMissingError) as error:
            read(path)
        assert error.value.hint == "pip install 'lmstack[parquet]'"


def test_a_disk_that_fails_is_no_bad_row() -> None:
    class Broken(io.BytesIO):
        def seek(self, *_: object) -> int:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(OSError, match="Input/output error"):
        list(rows_module._table(Path("f.parquet"), Broken()))


def test_a_large_text_is_cut_between_lines_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "_LONGEST_TEXT", 50)
    path = tmp_path / "f.txt"
    text = "".join(f"línea {n}\n" for n in range(40)) + "x" * 70 + " end"
    path.write_text(text)
    found = read(path)
    assert len(found) > 5
    assert "".join(row.values["text"] for row in found if isinstance(row, Row)) == text


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("ab\ncd\nef\n", {"ab\ncd\n": 1, "ef\n": 3}),
        ("ab\ncdefg\nh\nij", {"ab\n": 1, "cdefg\nh\n": 2, "ij": 4}),
        ("ab cd efgh\nx", {"ab cd ": 1, "efgh\n": 1, "x": 2}),
        ("ab cdefghi", {"ab ": 1, "cdefghi": 1}),
    ],
)
def test_a_text_is_cut_after_as_many_lines_as_fit_or_after_a_space(
    text: str, pieces: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "_LONGEST_TEXT", 6)
    path = tmp_path / "f.txt"
    path.write_text(text)
    assert read(path) == [Row({"text": p}, f"{path}:{line}") for p, line in pieces.items()]


def test_how_far_reading_has_come_is_told_in_bytes_of_all_files(tmp_path: Path) -> None:
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "c.jsonl"]
    for path, text in zip(paths, ('{"a": 1}\n{}\n', "{}\n", "{}"), strict=True):
        path.write_text(text)
    rows = Rows(paths)
    assert (rows.file, rows.done, rows.total) == (0, 0, 17)
    assert [(rows.file, rows.done) for _ in rows] == [(0, 9), (0, 12), (1, 15), (2, 17)]


def test_a_small_text_is_one_row(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(b"\xef\xbb\xbfone\ntwo\n")
    (tmp_path / "b.txt").write_bytes(b"\xff")
    assert read(tmp_path) == [
        Row({"text": "one\ntwo\n"}, str(tmp_path / "a.md")),
        BadRow(str(tmp_path / "b.txt"), "not UTF-8, at byte 0"),
    ]


def test_shards_are_found_once_and_hidden_files_are_not(tmp_path: Path) -> None:
    for name in (
        "b/c/3.jsonl",
        "b/2.jsonl",
        "a/1.jsonl.gz",
        ".cache/x.jsonl",
        "a/.x.jsonl",
        "a/notes.csv",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    expected = [tmp_path / name for name in ("a/1.jsonl.gz", "b/2.jsonl", "b/c/3.jsonl")]
    assert find_data([tmp_path]) == expected
    assert find_data([str(tmp_path / "*/*.jsonl*"), expected[0]]) == expected[:2]
    assert find_data([tmp_path / "**/*.jsonl*"]) == expected
    with pytest.raises(NotFoundError, match="no data at", check=about("data")):
        find_data([tmp_path / "none"])
    with pytest.raises(NotFoundError, match=r"notes.csv is none of \.jsonl", check=about("data")):
        find_data([tmp_path / "a/notes.csv"])


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"f.{kind}"
    values = [{"text": f"{n} " * 100} for n in range(8_000)]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(values), path, row_group_size=1000)
    else:
        text = "".join(json.dumps(v) + "\n" for v in values).encode()
        path.write_bytes(gzip.compress(text, 1) if kind == "jsonl.gz" else text)
    del values
    rows = Rows([path])
    tracemalloc.start()
    assert sum(1 for _ in rows) == 8_000
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2 << 20
    assert rows.done == rows.total == path.stat().st_size


def test_a_file_that_is_gone_by_the_time_it_is_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text("{}\n")
    rows = Rows(find_data([path]))
    path.unlink()
    with pytest.raises(StoreError, match=f"there is nothing at '{path}'"):
        Rows([path])
    path.mkdir()
    with pytest.raises(StoreError, match=f"reading {path} failed"):
        list(rows)
