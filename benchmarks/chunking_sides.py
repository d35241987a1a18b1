"""One side of `chunking.py`, in a process of its own: cut the texts, and say how long it took.

    python chunking_sides.py SIDE TEXTS.json TOKENIZER.json

Runs in lmstack's environment for its sides and in that of the peers for theirs, so it imports
nothing of either at the top. Prints JSON: seconds of the first and of the second pass over all
texts by the wall and by the processor, and what came out.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"
TOKENS, CHARACTERS = 160, 700
Cut = Callable[[str], Sequence[Any]]


def lmstack_side(strategy: str) -> Cut:
    from lmstack.rag import ChunkConfig, Chunker
    from lmstack.rag.documents import Document
    from lmstack.rag.formats.markdown import text_structure
    from lmstack.serve import LocalEmbedder

    embedder = LocalEmbedder.load("all-minilm-l6-v2")
    if strategy == "semantic":
        embedder.embed = hashed  # type: ignore[method-assign]
    config = ChunkConfig(strategy=strategy, target_tokens=TOKENS + 2, context="none")
    chunker = Chunker(embedder, config)

    def cut(text: str) -> Sequence[Any]:
        title, sections, blocks = text_structure(text)
        return chunker.cut(Document("a", text, "text", title, tuple(sections), tuple(blocks)))

    return cut


def hashed(texts: Sequence[str], kind: str = "passage") -> Any:  # noqa: ARG001
    """Unit vectors of the words of texts, the same for every side: what is measured is cutting,
    not a model."""
    import numpy as np

    found = np.full((len(texts), 64), 1e-3, np.float32)
    for row, text in zip(found, texts, strict=True):
        for word in text.split():
            row[zlib.crc32(word.encode()) % 64] += 1
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def chonkie_semantic(tokenizer: Any) -> Cut:
    import chonkie
    from chonkie.embeddings import BaseEmbeddings

    class Hashed(BaseEmbeddings):
        dimension = 64

        def embed(self, text: str) -> Any:
            return hashed([text])[0]

        def embed_batch(self, texts: Sequence[str]) -> Any:
            return list(hashed(texts))

        def get_tokenizer(self) -> Any:
            return tokenizer

    return chonkie.SemanticChunker(embedding_model=Hashed(), chunk_size=TOKENS).chunk


def chonkie_side(kind: str, tokenizer: Any) -> Cut:
    import chonkie

    if kind == "tokens-semantic":
        return chonkie_semantic(tokenizer)
    unit, _, name = kind.rpartition("-")
    size = CHARACTERS if unit == "characters" else TOKENS
    counter = "character" if unit == "characters" else tokenizer
    chunker = getattr(chonkie, f"{name.capitalize()}Chunker")(tokenizer=counter, chunk_size=size)
    return lambda text: chunker.chunk(text)


def langchain_side(kind: str, tokenizer: Any) -> Cut:
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    def length(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    options = {"chunk_size": TOKENS, "length_function": length}
    if kind.startswith("characters"):
        options = {"chunk_size": CHARACTERS}
    splitter = RecursiveCharacterTextSplitter(chunk_overlap=0, add_start_index=True, **options)
    return lambda text: splitter.create_documents([text])


def found(chunk: Any) -> tuple[int, str]:
    """Start and text of a chunk of any side."""
    if hasattr(chunk, "page_content"):
        return chunk.metadata["start_index"], chunk.page_content
    return getattr(chunk, "start", getattr(chunk, "start_index", -1)), chunk.text


def main() -> None:
    side, texts_file, tokenizer_file = sys.argv[1:]
    texts = json.loads(pathlib.Path(texts_file).read_text())
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(tokenizer_file)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    who, _, kind = side.partition(" ")
    if who == "lmstack":
        cut = lmstack_side(kind)
    else:
        cut = (chonkie_side if who == "chonkie" else langchain_side)(kind, tokenizer)
    passes = []
    for _ in range(2):
        wall, used = time.perf_counter(), time.process_time()
        results = [cut(text) for text in texts]
        passes.append((time.perf_counter() - wall, time.process_time() - used))
    pairs = [
        (text, *found(chunk)) for text, made in zip(texts, results, strict=True) for chunk in made
    ]
    exact = sum(text[start : start + len(piece)] == piece for text, start, piece in pairs)
    sizes = [
        len(e.ids) for e in tokenizer.encode_batch([p for *_, p in pairs], add_special_tokens=False)
    ]
    print(
        json.dumps(
            {
                "passes": passes,
                "chunks": len(pairs),
                "exact_offsets": exact,
                "over_160_tokens": sum(size > TOKENS for size in sizes),
            }
        )
    )


if __name__ == "__main__":
    main()
