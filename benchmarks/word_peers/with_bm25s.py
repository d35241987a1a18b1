"""bm25s as its manual shows: PyStemmer, English stop words, its default (Lucene's) method.

    python with_bm25s.py JOB.json BACKEND

The job holds passages, queries and the number of rounds; prints what `asking.asked` gives.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Sequence

import bm25s
import Stemmer
from asking import Search, asked


def search_of(passages: Sequence[str], backend: str) -> Search:
    stemmer = Stemmer.Stemmer("english")

    def tokens(texts: Sequence[str]) -> object:
        return bm25s.tokenize(list(texts), stopwords="en", stemmer=stemmer, show_progress=False)

    ranking = bm25s.BM25(backend=backend)
    ranking.index(tokens(passages), show_progress=False)
    k = min(10, len(passages))
    return lambda query: ranking.retrieve(tokens([query]), k=k, show_progress=False)[0][0]


def main() -> None:
    job, backend = json.loads(pathlib.Path(sys.argv[1]).read_text()), sys.argv[2]
    made = asked(lambda p: search_of(p, backend), job["passages"], job["queries"], job["rounds"])
    print("\n" + json.dumps(made), flush=True)


if __name__ == "__main__":
    main()
