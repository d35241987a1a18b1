"""A line for each chunk, written by a language model, that says where in its document it stands
(Anthropic's contextual retrieval, 2024). It is embedded and searched with the chunk, never cited.

The prompt is fixed and decoding greedy, so equal documents give equal lines; they are kept by
document, chunk and model, so that indexing again asks for none twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import MutableMapping

from lmstack.core import ChatModel, Message, Request, SamplingParams, complete_sync
from lmstack.rag.chunk import Chunk
from lmstack.rag.documents import Document

__all__ = ["ContextWriter"]

PROMPT_VERSION = 1
_PROMPT = (
    "Title: {title}\nSection: {section}\nDocument begins: {head}\n\nPassage:\n{passage}\n\n"
    "In one short sentence, say what this passage is about and where in the document it stands."
    " Write only that sentence."
)
_HEAD, _PASSAGE, _LINE = 600, 2000, 200


class ContextWriter:
    """``lines``: kept lines, by key; a dictionary, or a store that outlives the process.
    ``tokens``: room that is left for a line in each chunk."""

    tokens = 48

    def __init__(self, model: ChatModel, lines: MutableMapping[str, str] | None = None) -> None:
        self._model = model
        self._lines: MutableMapping[str, str] = {} if lines is None else lines

    @property
    def identity(self) -> str:
        """Names what writes: part of what an indexed document was made with."""
        return f"{PROMPT_VERSION}:{self._model.info.digest or self._model.info.name}"

    def line(self, document: Document, chunk: Chunk) -> str:
        """One line without line ends, at most 200 characters."""
        facts = (self.identity, document.title, document.text, chunk.prefix, chunk.text)
        hasher = hashlib.sha256()
        for fact in facts:
            data = fact.encode("utf-8", "surrogatepass")
            hasher.update(len(data).to_bytes(8) + data)
        key = hasher.hexdigest()
        if key not in self._lines:
            self._lines[key] = self._write(document, chunk)
        return self._lines[key]

    def _write(self, document: Document, chunk: Chunk) -> str:
        prompt = _PROMPT.format(
            title=document.title,
            section=" > ".join(chunk.section),
            head=" ".join(document.text[:_HEAD].split()),
            passage=chunk.text[:_PASSAGE],
        )
        request = Request(
            messages=(Message("user", prompt),),
            sampling=SamplingParams(temperature=0, max_tokens=self.tokens),
        )
        return " ".join(complete_sync(self._model, request).text.split())[:_LINE]
