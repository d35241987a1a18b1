"""Rankings of a Chroma collection with its defaults, from vectors made beforehand.

    python with_chroma.py INPUT.json FOLDER DEPTH

FOLDER holds ``documents.npy`` and ``queries.npy``. Prints a list of document numbers a query.
"""

from __future__ import annotations

import json
import pathlib
import sys

import chromadb
import numpy as np

BATCH = 1000


def main() -> None:
    source, folder, depth = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
    texts = json.loads(source.read_text("utf-8"))["documents"]
    vectors, queries = (np.load(folder / f"{name}.npy") for name in ("documents", "queries"))
    collection = chromadb.EphemeralClient().create_collection("documents", embedding_function=None)
    for start in range(0, len(texts), BATCH):
        rows = range(start, min(start + BATCH, len(texts)))
        collection.add(
            ids=[str(row) for row in rows],
            embeddings=vectors[rows.start : rows.stop],
            documents=texts[rows.start : rows.stop],
        )
    found = collection.query(query_embeddings=queries, n_results=depth, include=[])["ids"]
    print(json.dumps([[int(each) for each in ids] for ids in found]))


if __name__ == "__main__":
    main()
