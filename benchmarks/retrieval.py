"""How good search is, stage by stage, beside Chroma and bm25s, on two judged collections.

    make bench-retrieval                             half an hour on two quiet cores, then minutes
    python benchmarks/retrieval.py --queries 100     fewer queries of each collection
    python benchmarks/retrieval.py --only fitz-gov   one collection
    python benchmarks/retrieval.py --quick           a small part of one; records nothing
    python benchmarks/retrieval.py --tune            the other half of the queries; records nothing
    python benchmarks/retrieval.py --names           single names, to be found where they stand
    python benchmarks/retrieval.py --tune --set rerank_weight=1 --search fusion=rrf

nDCG@10, recall@10 and MRR@10 of whole documents, with bootstrap intervals; paired randomisation
tests of the default against each peer, adjusted by Holm. The settings were chosen on one half of
the queries (``--tune``); what is reported is a sample of the other half. Indexes and the scores of
rerankers are kept in the benchmark cache, so that a second run takes minutes. Not covered: speed
beside the peers (`retrieval_speed.py`); the times here are ours alone, for stages to be weighed
against what they add.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ranking import METRICS, holm, interval, p_value
from recording import add_options, result_file
from retrieval_data import COLLECTIONS, Collection, Query, load
from retrieval_picture import draw
from retrieval_systems import (
    BGE,
    EMBEDDERS,
    MINILM,
    PEERS,
    Ranked,
    System,
    our_rankings,
    peer_rankings,
)
from serving_environments import versions
from spine import HERE, processor

from lmstack.app.wiring import DEFAULT_EMBEDDER
from lmstack.rag import RetrievalConfig, SearchConfig, preset
from lmstack.registry import Store

QUERIES = 1000
# Documents of a quick run.
QUICK = 60
# Candidates that a reranker reads.
DEPTH = 10
PLAIN = RetrievalConfig(versions="as_found", duplicates=None)
SHORT = {MINILM: "MiniLM", BGE: "bge-small"}
DEFAULT = "default"


def systems(embedders: Sequence[str], changes: Mapping[str, Any]) -> list[System]:
    """Each stage with each embedder, and the presets with the default one; ``changes`` are to
    the default's settings."""
    found = [System("lexical", None, PLAIN.replace(mode="lexical"))]
    for name in embedders:
        short = SHORT[name]
        found += [
            System(f"dense, {short}", name, PLAIN.replace(mode="dense")),
            System(f"hybrid, {short}", name, PLAIN),
            System(f"hybrid + rerank, {short}", name, PLAIN.replace(rerank_depth=DEPTH)),
            System(f"hybrid + late, {short}", name, PLAIN.replace(late_depth=DEPTH)),
        ]
    if DEFAULT_EMBEDDER in embedders:
        found += [
            System(DEFAULT, DEFAULT_EMBEDDER, preset("default", **changes)),
            System("best", DEFAULT_EMBEDDER, preset("best")),
        ]
    return found


def steps(embedders: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of systems of which the second has a stage more."""
    found = []
    for name in embedders:
        short = SHORT[name]
        found += [
            ("lexical", f"hybrid, {short}"),
            (f"dense, {short}", f"hybrid, {short}"),
            (f"hybrid, {short}", f"hybrid + rerank, {short}"),
            (f"hybrid, {short}", f"hybrid + late, {short}"),
        ]
    return found


def settings(given: Sequence[str]) -> dict[str, Any]:
    """Each NAME=VALUE, the value as JSON where it is."""
    found: dict[str, Any] = {}
    for each in given:
        name, _, value = each.partition("=")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def measures(ranked: Ranked, queries: Sequence[Query]) -> dict[str, list[float]]:
    pairs = list(zip(ranked.rankings, queries, strict=True))
    return {
        name: [metric(ranking, query.relevant) for ranking, query in pairs]
        for name, metric in METRICS.items()
    }


def summary(ranked: Ranked, values: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, each in values.items():
        low, high = interval(each)
        row[name] = {"mean": round(statistics.mean(each), 4), "low": low, "high": high}
    if ranked.ms:
        row["p50_ms"] = round(statistics.median(ranked.ms), 1)
    return row


def difference(a: Sequence[float], b: Sequence[float]) -> dict[str, float]:
    """Of the second over the first, query by query."""
    apart = np.asarray(b) - np.asarray(a)
    low, high = interval(apart)
    return {"mean": float(apart.mean()), "low": low, "high": high, "p": p_value(apart)}


def compare(
    values: Mapping[str, Mapping[str, Sequence[float]]], pairs: Sequence[tuple[str, str]]
) -> dict[str, dict[str, float]]:
    """nDCG@10 of each pair; p adjusted over all of them."""
    found = {
        f"{b} over {a}": difference(values[a]["ndcg@10"], values[b]["ndcg@10"])
        for a, b in pairs
        if a in values and b in values
    }
    adjusted = holm({name: each["p"] for name, each in found.items()})
    return {name: each | {"p_holm": adjusted[name]} for name, each in found.items()}


def measure(collection: Collection, args: argparse.Namespace, store: Store) -> dict[str, Any]:
    if args.names:
        queries = collection.names(args.queries)
    else:
        queries = collection.sample(args.queries, tuned_on=args.tune)
    print(f"{collection.name}: {len(collection.documents)} documents, {len(queries)} queries")
    known = systems(args.embedders, settings(args.set))
    wanted = [each for each in known if each.name not in args.skip]
    search = SearchConfig.from_mapping(settings(args.search))
    ranked = our_rankings(collection, queries, wanted, store, search)
    if not args.no_peers:
        ranked |= peer_rankings(collection, queries, store)
    values = {name: measures(each, queries) for name, each in ranked.items()}
    return {
        "documents": len(collection.documents),
        "queries": len(queries),
        "systems": {name: summary(each, values[name]) for name, each in ranked.items()},
        "against_peers": compare(values, [(peer, DEFAULT) for peer in PEERS]),
        "steps": compare(values, steps(args.embedders)),
    }


def print_result(result: Mapping[str, Any]) -> None:
    print(f"\n  {'':30}{'nDCG@10':>22}{'recall@10':>11}{'MRR@10':>9}{'p50 ms':>9}")
    for name, row in result["systems"].items():
        ndcg = row["ndcg@10"]
        shown = f"{ndcg['mean']:.3f} ({ndcg['low']:.3f}-{ndcg['high']:.3f})"
        others = f"{row['recall@10']['mean']:>11.3f}{row['mrr@10']['mean']:>9.3f}"
        print(f"  {name:30}{shown:>22}{others}{row.get('p50_ms', ''):>9}")
    for kind in ("against_peers", "steps"):
        print()
        for name, each in result[kind].items():
            interval_text = f"{each['mean']:+.3f} ({each['low']:+.3f} to {each['high']:+.3f})"
            print(f"  {name:60}{interval_text:>28}   p {each['p_holm']:.4f}")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--queries", type=int, default=QUERIES)
    parser.add_argument("--only", choices=COLLECTIONS, nargs="+", default=list(COLLECTIONS))
    parser.add_argument("--embedders", choices=list(EMBEDDERS), nargs="+", default=list(EMBEDDERS))
    parser.add_argument("--skip", nargs="+", default=[], help="systems to leave out")
    parser.add_argument("--set", nargs="+", default=[], help="settings of the default")
    parser.add_argument("--search", nargs="+", default=[], help="settings of every search")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--names", action="store_true", help="records nothing")
    parser.add_argument("--store", type=pathlib.Path, help="where the models are")
    add_options(parser, "retrieval")
    args = parser.parse_args()
    store = Store(args.store) if args.store else Store()
    results = {}
    if args.quick:
        args.only, args.queries = args.only[:1], 10
    for name in args.only:
        collection = load(name)
        if args.quick:
            collection = collection.part(QUICK)
        results[name] = measure(collection, args, store)
        print_result(results[name])
    if args.tune or args.names or args.no_peers or args.set or args.search:
        return
    record = {
        "machine": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: versions(peer) for name, peer in PEERS.items()},
        "default": {"embedder": DEFAULT_EMBEDDER, **dataclasses.asdict(preset("default"))},
        "collections": results,
    }
    result_file(args, "retrieval").write_text(json.dumps(record, indent=1) + "\n")
    if not args.quick:
        draw(record, HERE.parent / "docs" / "pictures")


if __name__ == "__main__":
    main()
