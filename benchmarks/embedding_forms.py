"""Whether search falls when the embedder's weights are held in fewer bits.

    python benchmarks/embedding_forms.py                                the test half, once
    python benchmarks/embedding_forms.py --tune                         the other half, no record
    python benchmarks/embedding_forms.py --documents 0 --queries 2000   all documents: hours

The collections of `retrieval.py`, which others wrote. A form is judged as it is served, with
passages and questions in the same form, and mixed with float32 on either side. Search by meaning
alone, which shows the most of a loss, and the default mixture with words. A form may be the
default if, in every collection and search, the lower end of the 95 % interval of its difference to
float32 in nDCG@10, question by question, is above -`MARGIN`, which was declared before the test
half was looked at. The indexes in float32 are kept in the benchmark cache. Not covered: answers
(`questions.py` and `citations.py`), speed (`indexing.py`).
"""

from __future__ import annotations

import argparse
import datetime
import json
import pathlib
import random
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ranking import METRICS, holm, interval, p_value
from retrieval_data import COLLECTIONS, Collection, Query, load
from serving_environments import CACHE
from spine import HERE, processor

from lmstack.core import ModelInfo, TextKind
from lmstack.rag import Index, RetrievalConfig, Retriever
from lmstack.serve import LocalEmbedder

EMBEDDER = "all-minilm-l6-v2"
MARGIN = 0.01
FLOAT = "float32"
QUERIES, DOCUMENTS = 500, 1500
PASSAGES, RANKED = 30, 10
SEARCHES = {
    "dense": RetrievalConfig(mode="dense", versions="as_found", duplicates=None),
    "hybrid": RetrievalConfig(versions="as_found", duplicates=None),
}
FOLDER = CACHE / "embedding-forms"
Vectors = npt.NDArray[np.float32]


class Mixed:
    """Passages embedded in one form, questions in another, under one name."""

    def __init__(self, forms: Mapping[str, LocalEmbedder], passages: str) -> None:
        self._forms, self._passages, self.questions = forms, passages, passages
        one = forms[passages]
        self.info = ModelInfo(EMBEDDER, f"{EMBEDDER} in {passages}")
        self.dimensions, self.max_tokens = one.dimensions, one.max_tokens
        self.count_tokens, self.counts_by_word = one.count_tokens, one.counts_by_word
        self._made: dict[tuple[str, str], Vectors] = {}

    def prepare(self, questions: Sequence[str]) -> None:
        """Embed them in every form, all at once."""
        for form, embedder in self._forms.items():
            made = embedder.embed(questions, "query")
            self._made |= {(form, text): row for text, row in zip(questions, made, strict=True)}

    def embed(self, texts: Sequence[str], kind: TextKind = "passage") -> Vectors:
        if kind == "query":
            return np.stack([self._made[self.questions, text] for text in texts])
        return self._forms[self._passages].embed(texts, kind)


def excerpt(
    collection: Collection, num_documents: int, num_queries: int, tuned_on: bool
) -> tuple[list[int], list[Query]]:
    """Numbers of documents, those that answer the questions and others, and the questions."""
    queries = collection.sample(num_queries, tuned_on=tuned_on)
    wanted = set().union(*(query.relevant for query in queries))
    others = [n for n in range(len(collection.documents)) if n not in wanted]
    random.Random(0).shuffle(others)
    more = len(others) if not num_documents else max(0, num_documents - len(wanted))
    return sorted(wanted.union(others[:more])), queries


def files_of(collection: Collection, numbers: Sequence[int], name: str) -> pathlib.Path:
    folder = FOLDER / name / "files"
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        path = folder / f"{number}.txt"
        if not path.exists():
            path.write_text(collection.documents[number], "utf-8")
    return folder


def rank(retriever: Retriever, queries: Sequence[Query]) -> list[list[int]]:
    rankings = []
    for query in queries:
        hits = retriever.search(query.text, PASSAGES).hits
        numbers = dict.fromkeys(int(pathlib.Path(hit.path).stem) for hit in hits)
        rankings.append(list(numbers)[:RANKED])
    return rankings


def side(passages: str, questions: str) -> str:
    return passages if passages == questions else f"{passages} passages, {questions} questions"


def rankings_of(
    folder: pathlib.Path, queries: Sequence[Query], embedders: Mapping[str, LocalEmbedder]
) -> tuple[dict[tuple[str, str], list[list[int]]], dict[str, Any]]:
    """By search and side; and how alike the vectors of the passages are to float32."""
    found: dict[tuple[str, str], list[list[int]]] = {}
    vectors: dict[str, Vectors] = {}
    for passages in embedders:
        mixed = Mixed(embedders, passages)
        mixed.prepare([query.text for query in queries])
        place = folder.parent / f"{passages}.idx"
        if passages != FLOAT:  # how a form is made may have changed
            shutil.rmtree(place, ignore_errors=True)
        with Index.open(place, mixed) as index:
            index.update([folder])
            vectors[passages] = index.stored_passages()[1]
            for questions in embedders:
                if passages != questions and FLOAT not in (passages, questions):
                    continue
                mixed.questions = questions
                for search, config in SEARCHES.items():
                    key = search, side(passages, questions)
                    found[key] = rank(Retriever(index, config), queries)
        print(f"    passages in {passages}", flush=True)
    cosines = {
        form: (each * vectors[FLOAT]).sum(axis=1) for form, each in vectors.items() if form != FLOAT
    }
    alike = {
        form: {"passages": len(each), "mean": float(each.mean()), "lowest": float(each.min())}
        for form, each in cosines.items()
    }
    return found, alike


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    collection = load(name)
    numbers, queries = excerpt(collection, args.documents, args.queries, args.tune)
    print(
        f"{name}: {len(numbers)} of {len(collection.documents)} documents, {len(queries)} queries"
    )
    half = "tune" if args.tune else "test"
    folder = files_of(collection, numbers, f"{name}-{half}-{len(numbers)}-{len(queries)}")
    embedders = {form: LocalEmbedder.load(EMBEDDER, weights=form) for form in (FLOAT, *args.forms)}
    rankings, alike = rankings_of(folder, queries, embedders)
    values = {
        key: {
            metric: [of(r, q.relevant) for r, q in zip(each, queries, strict=True)]
            for metric, of in METRICS.items()
        }
        for key, each in rankings.items()
    }
    return {
        "documents": len(numbers),
        "queries": len(queries),
        "cosine to float32": alike,
        "searches": {search: compared(values, search) for search in SEARCHES},
    }


def compared(values: Mapping[tuple[str, str], Any], search: str) -> dict[str, Any]:
    """Each side's means, and its difference to float32 in nDCG@10 and recall@10."""
    sides = {name: each for (of, name), each in values.items() if of == search}
    rows: dict[str, Any] = {}
    for name, each in sides.items():
        rows[name] = {metric: round(float(np.mean(of)), 4) for metric, of in each.items()}
        if name == FLOAT:
            continue
        for metric in ("ndcg@10", "recall@10"):
            apart = np.subtract(each[metric], sides[FLOAT][metric])
            low, high = interval(apart)
            rows[name][f"{metric} over float32"] = {
                "mean": float(apart.mean()),
                "low": low,
                "high": high,
                "p": p_value(apart),
                "not_inferior": low > -MARGIN,
            }
    ps = {name: row["ndcg@10 over float32"]["p"] for name, row in rows.items() if name != FLOAT}
    for name, adjusted in holm(ps).items():
        rows[name]["ndcg@10 over float32"]["p_holm"] = adjusted
    return rows


def print_result(result: Mapping[str, Any]) -> None:
    for form, each in result["cosine to float32"].items():
        print(
            f"  {form}: cosine to float32 {each['mean']:.4f} on average, {each['lowest']:.4f} least"
        )
    for search, rows in result["searches"].items():
        print(f"\n  {search:44}{'nDCG@10':>9}{'recall@10':>11}   difference in nDCG@10")
        for name, row in rows.items():
            line = f"  {name:44}{row['ndcg@10']:>9.4f}{row['recall@10']:>11.4f}"
            if (apart := row.get("ndcg@10 over float32")) is not None:
                told = "not inferior" if apart["not_inferior"] else "may be inferior"
                line += f"   {apart['mean']:+.4f} ({apart['low']:+.4f} to {apart['high']:+.4f})"
                line += f", p {apart['p_holm']:.3f}, {told}"
            print(line)
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--queries", type=int, default=QUERIES)
    parser.add_argument("--documents", type=int, default=DOCUMENTS, help="0: all")
    parser.add_argument("--only", choices=COLLECTIONS, nargs="+", default=list(COLLECTIONS))
    parser.add_argument("--forms", nargs="+", default=["int8"])
    parser.add_argument("--tune", action="store_true")
    parser.add_argument(
        "--json", type=pathlib.Path, default=HERE / "results" / "embedding_forms.json"
    )
    args = parser.parse_args()
    results = {}
    for name in args.only:
        results[name] = measure(name, args)
        print_result(results[name])
    if args.tune:
        return
    record = {
        "machine": processor(),
        "looked_at_test_half": datetime.date.today().isoformat(),
        "margin": MARGIN,
        "embedder": EMBEDDER,
        "collections": results,
    }
    args.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
