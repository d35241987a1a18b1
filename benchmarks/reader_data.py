"""What the reader is trained on: questions of the tuning halves of `answers.py`, with the passages
that our search finds for them.

    python benchmarks/reader_data.py FOLDER                       a file a collection in English
    python benchmarks/reader_data.py FOLDER --collection r-faq --items 40

A row is a question with the passages that answer it and those that do not, as
`docs/objectives/reader.md` describes; the nearest to an answer come first, as today's reranker sees
them. Questions whose gold was taken away, and near misses, have none that answers. Where the set
says which words answer, a second row asks the same of the sentences of the passage that holds them.
What may answer without the set's saying so (another part of the plot that NarrativeQA asks about)
is left out. The test halves are never read: items are those of `Collection.half(tuned_on=True)`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from answers import LOADERS
from answers_data import Collection, Item
from answers_judge import Span, gold_spans, num_precise, overlaps
from answers_systems import Models, Prepared, load_models, prepared

from lmstack.rag import Hit, Retriever, preset
from lmstack.rag.answer.quoting import read_passage
from lmstack.rag.chunk import embedded_text
from lmstack.rag.filters import Condition
from lmstack.rag.retrieve.retrieval import HitDocuments

Row = dict[str, Any]
# Questions of a collection: half of them answerable. Passages found for each, and those of them
# that answer that a row has at most.
ITEMS, PASSAGES, ANSWERS = 120, 10, 2


def rows_of(collection: Collection, items: list[Item], models: Models) -> Iterator[Row]:
    with prepared(collection, models) as ready:
        for item in items:
            for row in _asked(item, ready):
                yield {**row, "collection": collection.name, "status": item.status}


def _asked(item: Item, ready: Prepared) -> Iterator[Row]:
    hits = _found(item, ready)
    answers = [hit for hit in hits if _answers(item, hit, ready)]
    if item.status == "answerable" and not answers:
        answers = [hit for hit in _of_golds(item, ready) if _answers(item, hit, ready)][:1]
        if not answers:
            return
    others = [hit for hit in hits if hit not in answers and not _may_answer(item, hit)]
    if others:
        yield {
            "query": item.question,
            "positives": [_text(hit) for hit in answers[:ANSWERS]],
            "negatives": [_text(hit) for hit in others],
        }
    if answers:
        yield from _sentences(item, answers[0], ready)


def _found(item: Item, ready: Prepared) -> list[Hit]:
    search = Retriever(
        ready.view(item), preset("default", rerank_weight=1.0), reranker=ready.remembered
    )
    return search.search(item.question, PASSAGES).hits


def _of_golds(item: Item, ready: Prepared) -> list[Hit]:
    """What is nearest in the documents that answer, where the search missed them."""
    paths = tuple(str(ready.folder / gold.path) for gold in item.golds if not gold.left_out)
    return ready.index.matching(Condition("path", "in", paths)).search(item.question, PASSAGES)


def _span(hit: Hit) -> Span:
    return Span(Path(hit.path).name, hit.start, hit.end)


def _answers(item: Item, hit: Hit, ready: Prepared) -> bool:
    return item.status == "answerable" and num_precise(item, [_span(hit)], ready.texts) > 0


def _may_answer(item: Item, hit: Hit) -> bool:
    """Free text may be answered in other words by whatever is about the same."""
    return (
        item.status == "answerable"
        and item.match == "recall"
        and any(gold.path == Path(hit.path).name for gold in item.golds)
    )


def _text(hit: Hit) -> str:
    return embedded_text(hit.prefix, hit.text)


def _sentences(item: Item, hit: Hit, ready: Prepared) -> Iterator[Row]:
    """The sentences of ``hit`` apart, where the set says which of them answer."""
    if item.match != "contains" or not (item.answers or any(g.quotes for g in item.golds)):
        return
    passage = read_passage(hit, HitDocuments(ready.index))
    name = Path(hit.path).name
    text = ready.texts[name]
    quoted = [s for g in item.golds if g.quotes and g.path == name for s in gold_spans(g, text)]
    sides: dict[bool, list[str]] = {True: [], False: []}
    for n in passage.readable:
        unit = passage.units[n]
        start, end = passage.offset + unit.start, passage.offset + unit.end
        says = not item.answers or num_precise(item, [Span(name, start, end)], ready.texts) > 0
        lies = not quoted or any(overlaps((start, end), each) for each in quoted)
        sides[says and lies].append(passage.scored(unit))
    if sides[True] and sides[False]:
        yield {
            "query": item.question,
            "positives": sides[True][:ANSWERS],
            "negatives": sides[False],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--collection", nargs="+", choices=LOADERS)
    parser.add_argument("--items", type=int, default=ITEMS, help="of each collection")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    with load_models() as models:
        for name in args.collection or LOADERS:
            target = args.folder / f"{name}.jsonl"
            collection = LOADERS[name]()
            if collection.language != "en" or target.exists():
                continue
            items = collection.sample(args.items, tuned_on=True)
            if collection.apart:
                items = collection.half(tuned_on=True)[: args.items]
            items = [item for item in items if item.status != "bounded"]
            rows = list(rows_of(collection, items, models))
            target.write_text("".join(json.dumps(row) + "\n" for row in rows))
            print(f"{name}: {len(items)} questions, {len(rows)} rows", flush=True)


if __name__ == "__main__":
    main()
