"""In which languages the documents of a folder are, from a few of them, before any is indexed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from lmstack.rag.catalogue.memory import Key
from lmstack.rag.formats.limits import LoadConfig
from lmstack.rag.ingest.reading import Parsed, Reader
from lmstack.rag.ingest.scan import Found, scan_source
from lmstack.rag.ingest.workers import WorkerConfig

__all__ = ["SAMPLE", "sampled_languages"]

# Documents that are read; the languages of more say the same of nearly any folder.
SAMPLE = 12
# A file beyond this is left to the update, which shows how far it is.
MAX_BYTES = 2_000_000


def sampled_languages(sources: Iterable[str | Path]) -> Counter[str]:
    """How many of at most `SAMPLE` documents of ``sources``, files or folders, from all over them
    are in each language (codes of ISO 639-1). Code, tables and what no language could be told of
    count for none. Raises `NotFoundError` for a source that is not there."""
    roots = {number: os.path.abspath(source) for number, source in enumerate(sources)}
    sizes: dict[Key, int] = {}
    for number, root in roots.items():
        for found in scan_source(Path(root)):
            if isinstance(found, Found) and found.fingerprint.size <= MAX_BYTES:
                sizes[Key(number, found.path)] = found.fingerprint.size
    keys = _spread(list(sizes), SAMPLE)
    with Reader(keys, roots, sizes, LoadConfig(), WorkerConfig()) as reader:
        documents = [each.document for each in reader if isinstance(each, Parsed)]
    return Counter(document.language for document in documents if document.language)


def _spread(keys: Sequence[Key], most: int) -> list[Key]:
    """At most so many of ``keys``, from the first to the last."""
    if len(keys) <= most:
        return list(keys)
    return [keys[number * (len(keys) - 1) // (most - 1)] for number in range(most)]
