"""Where files are parsed: little of what is quick here, everything else by a worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmstack.rag.catalogue.snapshot import DocumentKey
from lmstack.rag.documents import Document, LoadConfig
from lmstack.rag.formats.load import parse_document
from lmstack.rag.ingest import reading
from lmstack.rag.ingest.reading import FileReader, ParsedFile
from lmstack.rag.ingest.workers import WorkerConfig

MOST = 100


def by_workers(folder: Path, sizes: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Which files of these sizes a worker was asked to parse."""
    asked: set[str] = set()

    class Noting:
        def __init__(self, config: WorkerConfig, load: LoadConfig) -> None:
            self.config, self._load = config, load

        def parse(self, path: str, data: bytes) -> Document:
            asked.add(Path(path).name)
            return parse_document(path, data, self._load)

        def close(self) -> None:
            pass

    monkeypatch.setattr(reading, "Workers", Noting)
    for name, size in sizes.items():
        (folder / name).write_text("a word" + " " * (size - 6))
    keys = [DocumentKey(1, name) for name in sizes]
    known = {key: sizes[key.path] for key in keys}
    config = WorkerConfig(inline_bytes=MOST)
    with FileReader(keys, {1: str(folder)}, known, LoadConfig(), config) as reader:
        found = [each for each in reader if each is not None]
    assert [each.key for each in found] == keys
    assert all(isinstance(each, ParsedFile) for each in found)
    return asked


@pytest.mark.parametrize(
    ("sizes", "asked"),
    [
        ({"a.txt": MOST, "b.txt": MOST + 1}, ["b.txt"]),
        ({"a.md": 50, "b.md": 50}, []),
        ({"a.md": 50, "b.md": 51}, ["a.md", "b.md"]),
        ({"a.md": 50, "b.txt": 51}, ["a.md"]),
        ({"a.html": 6}, ["a.html"]),
    ],
    ids=str,
)
def test_only_little_that_is_quick_is_parsed_in_this_process(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sizes: dict[str, int],
    asked: list[str],
) -> None:
    assert by_workers(tmp_path, sizes, monkeypatch) == set(asked)
