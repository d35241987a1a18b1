"""A deterministic embedder without weights, and folders of documents to index."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from lmstack.core import ModelInfo, TextKind

_TOKEN = re.compile(r"\w+|[^\w\s]")


class HashingEmbedder:
    """Bag of hashed words, unit length. A token is a word or a sign, plus two special ones.
    ``embedded``: all texts; ``kinds``: as what each was embedded."""

    def __init__(self, dimensions: int = 64, max_tokens: int = 256, seed: str = "a") -> None:
        self.info = ModelInfo("hashing", f"sha256:{seed * 64}"[:71])
        self.dimensions = dimensions
        self.max_tokens = max_tokens
        self.embedded: list[str] = []
        self.kinds: dict[TextKind, set[str]] = {"query": set(), "passage": set()}

    def embed(self, texts: Sequence[str], kind: TextKind = "passage") -> npt.NDArray[np.float32]:
        self.embedded.extend(texts)
        self.kinds[kind].update(texts)
        matrix = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in enumerate(texts):
            for word in _TOKEN.findall(text.lower()):
                hashed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest())
                matrix[row, hashed % self.dimensions] += 1 if hashed >> 40 & 1 else -1
            if not matrix[row].any():
                matrix[row, 0] = 1
        return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(_TOKEN.findall(text)) + 2 for text in texts]


@pytest.fixture
def embedder() -> HashingEmbedder:
    return HashingEmbedder()


@pytest.fixture(scope="session")
def make_embedder() -> type[HashingEmbedder]:
    return HashingEmbedder


@pytest.fixture(scope="session")
def postgres_address() -> Iterator[str]:
    """A PostgreSQL of the session's own; the test is skipped where none is installed."""
    from tests.postgres import postgres_server

    with postgres_server() as address:
        yield address


@pytest.fixture
def postgres(postgres_address: str, request: pytest.FixtureRequest) -> str:
    """The address of an index of the test's own, not made yet."""
    name = hashlib.blake2b(request.node.nodeid.encode(), digest_size=8).hexdigest()
    return f"{postgres_address}#t_{name}"


GUIDE = """# Serving

Start the server and the page with `lmstack up`. It listens on port 8000 unless told otherwise.

## The page

Click a number to open the passage it came from. Press Escape to close it.

- Stop ends the answer at once.
- Dark and light follow the system.

## Limits

A client may send sixty requests a minute. More are answered with status 429.
"""
HOUSE = """The lighthouse at Skerryvore was lit in 1844. Alan Stevenson built it.

Its light is seen at eighteen nautical miles. The tower is 48 metres tall.
"""
PAGE = """<html><head><title>Penguins</title><script>var x = 'never'</script></head><body>
<nav>Home</nav><h1>Penguins</h1><p>The emperor penguin breeds in winter.</p>
<ul><li>It lays one egg.</li><li>It weighs up to 40 kg &amp; swims well.</li></ul></body></html>
"""


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return written_docs(tmp_path / "docs")


def written_docs(folder: Path) -> Path:
    (folder / "more").mkdir(parents=True)
    (folder / "serving.md").write_text(GUIDE)
    (folder / "more" / "lighthouse.txt").write_text(HOUSE)
    (folder / "penguins.html").write_text(PAGE)
    return folder
