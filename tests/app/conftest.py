"""Fixtures of the command-line tests: a store of one's own and a way to run one command line."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lmstack.app import wiring
from lmstack.app.cli import main
from lmstack.core import ModelInfo


@dataclass
class Ran:
    """What one command line printed and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the tests of a module share."""
    return tmp_path_factory.mktemp("place")


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """``run("search", "ports", ...)`` as a user would type it, in this process."""

    def call(*arguments: str) -> Ran:
        capsys.readouterr()
        code = main(arguments)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


class HashEmbedder:
    """Words to fixed directions: texts that share words are near. No model, no download."""

    dimensions = 64
    max_tokens = 128

    def __init__(self, name: str = "hash") -> None:
        self.info = ModelInfo(name, "sha256:" + hashlib.sha256(name.encode()).hexdigest())

    def embed(self, texts: Sequence[str], kind: str = "passage") -> npt.NDArray[np.float32]:
        rows = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[0] = 1e-3
            for word in text.lower().split():
                row[zlib.crc32(word.encode()) % self.dimensions] += 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) + 2 for text in texts]


@pytest.fixture
def embedder(monkeypatch: pytest.MonkeyPatch) -> HashEmbedder:
    """Plays the part of every embedding model."""
    fake = HashEmbedder()
    monkeypatch.setattr(wiring, "embedder", lambda name: fake)
    return fake


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small folder of documents, below the current folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "letters.md").write_text(
        "# Letters\n\nLetters are kept for ten years.\n\nThen they are burnt.\n"
    )
    (folder / "ports.txt").write_text("The server listens on port 8000 unless told otherwise.\n")
    return folder
