"""How often the one document that is named is found among thousands that look like it.

    make bench-lookalikes                                the kept set, which is reported
    python benchmarks/lookalikes.py --set second         a set that rules were tuned on; no record
    python benchmarks/lookalikes.py --set first --sizes 5000 --misses 20   also what went wrong
    python benchmarks/lookalikes.py --quick              120 documents; records nothing

What is asked: `lookalikes_data` and `lookalikes_kept`. The rank of a document is that of its best
passage. Beside the default search stand words alone (BM25), meaning alone, and their reciprocal
rank fusion as it is usual (k 60, equal weights, of a hundred each). Of `lmstack ask`: how often it
gives an answer with the value that is asked for, and how often one that quotes a look-alike, a page
of the same template, which is **wrong**; any is where the document is not there. The figures from
before look-alikes were told apart are kept in the results as ``before``.
Indexes are kept in the benchmark cache and brought up to date.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from answers_systems import Models, load_models
from lookalikes_data import TEMPLATES, Corpus, Question, corpus
from lookalikes_eighth import EIGHTH
from lookalikes_fifth import FIFTH
from lookalikes_fourth import FOURTH
from lookalikes_kept import KEPT
from lookalikes_ninth import NINTH
from lookalikes_seventh import SEVENTH
from lookalikes_sixth import SIXTH
from lookalikes_tenth import TENTH
from machine import machine
from recording import add_options, result_file
from serving_environments import CACHE

from lmstack.app.wiring import documents
from lmstack.evals.statistics import wilson
from lmstack.rag import Answer, Answerer, Index, Retriever, preset
from lmstack.rag.retrieve.hybrid import Hit, fuse

SIZES, QUICK = (500, 5_000, 20_000), 120
# Of each template.
NAMED, ABSENT = 30, 15
DEEP, RRF_K = 100, 60.0
Ranker = Callable[[str], list[str]]
SETS = {
    "first": [each for each in TEMPLATES if each.tuned_on],
    "second": [each for each in TEMPLATES if not each.tuned_on],
    "kept": KEPT,
    "fourth": FOURTH,
    "fifth": FIFTH,
    "sixth": SIXTH,
    "seventh": SEVENTH,
    "eighth": EIGHTH,
    "ninth": NINTH,
    "tenth": TENTH,
}


def rankers(index: Index, folder: Path, models: Models) -> dict[str, Ranker]:
    """Ways from a question to documents, best first."""
    retriever = Retriever(index, preset("default"), reranker=models.reranker)

    def ordered(hits: Sequence[Hit]) -> list[str]:
        paths = (Path(hit.path).resolve().relative_to(folder).as_posix() for hit in hits)
        return list(dict.fromkeys(paths))

    def fused(question: str) -> list[str]:
        lists = {mode: index.search(question, DEEP, mode) for mode in ("lexical", "dense")}
        found = {hit.chunk_id: hit for hits in lists.values() for hit in hits}
        ids = {mode: [hit.chunk_id for hit in hits] for mode, hits in lists.items()}
        best = fuse(ids, dict.fromkeys(ids, 1.0), RRF_K)
        return ordered([found[number] for number, _ in best])

    return {
        "words": lambda question: ordered(index.search(question, DEEP, "lexical")),
        "meaning": lambda question: ordered(index.search(question, DEEP, "dense")),
        "reciprocal ranks": fused,
        "default": lambda question: ordered(retriever.search(question, 30).hits),
    }


def outcome(question: Question, answer: Answer, folder: Path) -> str:
    """``right``, ``wrong`` (an answer that quotes another page of the template), ``beside`` (an
    answer without the value), or that there was none."""
    if answer.outcome != "answer":
        return answer.outcome
    shown = [
        (Path(cited.path).resolve().relative_to(folder).as_posix(), cited.quote)
        for cited in answer.citations
    ]
    wanted = [quote for path, quote in shown if path == question.path]
    if question.status == "ordinary":
        return "right" if wanted else "wrong"
    if any(path.startswith(f"{question.folder}/") and path != question.path for path, _ in shown):
        return "wrong"
    return "right" if any(question.value in quote for quote in wanted) else "beside"


def measure(size: int, args: argparse.Namespace, models: Models) -> dict[str, Any]:
    asked = corpus(SETS[args.set], size, named=args.named, absent=args.absent)
    place = CACHE / "lookalikes" / f"{args.set}-{size}"
    folder = place / "files"
    _write(asked, folder)
    with documents.open_index(place / "index", None, create=True, sources=[folder]) as index:
        started = time.perf_counter()
        index.update([folder])
        print(f"{size} documents, indexed in {time.perf_counter() - started:.0f} s", flush=True)
        found = _search(asked.questions, rankers(index, folder.resolve(), models), args.misses)
        answerer = Answerer(index, models.model, reranker=models.reranker)
        said = _ask(asked.questions, answerer, folder.resolve(), args.misses)
        return {"documents": len(asked.pages), "search": found, "ask": said}


def _write(asked: Corpus, folder: Path) -> None:
    for page in asked.pages:
        path = folder / page.path
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(page.text, "utf-8")


def _search(
    questions: Sequence[Question], ways: Mapping[str, Ranker], misses: int
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, way in ways.items():
        ranks: dict[str, list[int | None]] = {}
        ms = []
        for question in questions:
            if question.status == "absent":
                continue
            started = time.perf_counter()
            ranking = way(question.text)
            ms.append(1e3 * (time.perf_counter() - started))
            rank = ranking.index(question.path) + 1 if question.path in ranking else None
            ranks.setdefault(question.kind, []).append(rank)
            if name == "default" and rank != 1 and misses > 0:
                misses -= 1
                print(f"    rank {rank}: {question.text} ({question.path}; {ranking[:3]})")
        kinds = {kind: _recalls(own) for kind, own in ranks.items()}
        named = [rank for kind, own in ranks.items() if kind != "ordinary" for rank in own]
        kinds = {"named": _recalls(named), **kinds}
        found[name] = {"kinds": kinds, "p50_ms": round(statistics.median(ms), 1)}
    return found


def _recalls(ranks: Sequence[int | None]) -> dict[str, Any]:
    first = sum(rank == 1 for rank in ranks)
    ten = sum(rank is not None and rank <= 10 for rank in ranks)
    return {"questions": len(ranks), "first": first, "among_ten": ten}


def _ask(
    questions: Sequence[Question], answerer: Answerer, folder: Path, misses: int
) -> dict[str, Any]:
    counts: dict[str, dict[str, int]] = {}
    seconds = []
    for question in questions:
        started = time.perf_counter()
        answer = asyncio.run(answerer.answer(question.text))
        seconds.append(time.perf_counter() - started)
        end = outcome(question, answer, folder)
        of_kind = counts.setdefault(question.status, {"questions": 0})
        of_kind["questions"] += 1
        of_kind[end] = of_kind.get(end, 0) + 1
        if misses > 0 and end != "right" and (question.status == "named" or end == "wrong"):
            misses -= 1
            shown = [(cited.path[-30:], cited.point[:60]) for cited in answer.citations]
            print(f"    {question.status}, {end}: {question.text} -> {shown} {answer.confidence}")
    return {"outcomes": counts, "p50_s": round(statistics.median(seconds), 3)}


def print_result(size: int, result: Mapping[str, Any]) -> None:
    search = result["search"]
    kinds = list(search["default"]["kinds"])
    print(f"\n{size} documents: first / among ten, of 100")
    print(f"  {'':18}" + "".join(f"{kind:>12}" for kind in kinds) + f"{'p50 ms':>9}")
    for name, way in search.items():
        cells = (
            f"{100 * row['first'] / row['questions']:.0f} / "
            f"{100 * row['among_ten'] / row['questions']:.0f}"
            for row in way["kinds"].values()
        )
        print(f"  {name:18}" + "".join(f"{cell:>12}" for cell in cells) + f"{way['p50_ms']:>9}")
    for status, ends in result["ask"]["outcomes"].items():
        count = ends["questions"]
        wrong = wilson(ends.get("wrong", 0), count)
        others = ", ".join(f"{end} {n}" for end, n in ends.items() if end != "questions")
        print(
            f"  ask, {status}: {count} questions; {others}; wrong {wrong.low:.3f}-{wrong.high:.3f}"
        )
    print(f"  ask: {result['ask']['p50_s']} s in the median", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--named", type=int, default=NAMED, help="questions of each template")
    parser.add_argument("--absent", type=int, default=ABSENT, help="questions of each template")
    parser.add_argument("--misses", type=int, default=0, metavar="N", help="not of the kept set")
    parser.add_argument("--set", choices=SETS, default="kept", help="only kept is recorded")
    add_options(parser, "lookalikes")
    args = parser.parse_args()
    if args.misses and args.set == "kept":
        parser.error("items of the set that is reported are not looked at: leave --misses out")
    if args.quick:
        args.sizes, args.named, args.absent, args.set = [QUICK], 3, 1, "first"
    results = {}
    with load_models() as models:
        for size in args.sizes:
            results[str(size)] = measure(size, args, models)
            print_result(size, results[str(size)])
    if args.set != "kept" and not args.quick and args.json is None:
        return
    path = result_file(args, "lookalikes")
    known = json.loads(path.read_text()) if path.exists() else {}
    known |= {"machine": machine(), "cores": os.cpu_count(), "sizes": results}
    path.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
