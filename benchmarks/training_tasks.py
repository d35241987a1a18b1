"""Fine-tuning for tasks: lmstack beside transformers' Trainer, and an embedder before and after.

    make bench-training-tasks [QUICK=1]

Classification (28,614 headlines, sarcastic or not; 6,000 e-mails, spam or not) and names in 240
sentences of CoNLL-2003: both sides start from all-MiniLM-L6-v2, with the same split, batches,
learning rate, schedule, epochs, length and precision, in processes that take turns; the Trainer
has what its own examples have (dropout of .1, batches padded to their longest row). Differences
have 95 % intervals of a bootstrap over test items, paired. Seconds are those from the loading of
the base to the trained model, of the wall and of the processor.

Retrieval: the base embedder is tuned on BoolQ's questions and the passages that they were asked
about, with `recipes/contrastive.yaml` as it is, and both search all passages. Neither the questions
nor the passages of the test half are trained on. Reranking: the same with a cross-encoder and
`recipes/reranking.yaml`; negatives are what the embedder finds beside the passage.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import recording
import retrieval_data
import training_environments
import training_tasks_data
from machine import machine

from lmstack.registry import Store
from lmstack.serve.embedder import LocalEmbedder
from lmstack.serve.tasks import LocalReranker
from lmstack.train import read_recipe, train
from lmstack.train.objectives.token_classification import entities_of

BASE, CROSS = "all-minilm-l6-v2", "ms-marco-minilm-l12"
PEERS = pathlib.Path(__file__).parent / "training_peers"
RECIPES = pathlib.Path(__file__).parents[1] / "recipes"
DRAWS = 2000
PASSAGES, RERANKED = 6000, 1500  # of BoolQ
NEGATIVES = 3
Row = Mapping[str, Any]
Floats = npt.NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    recording.add_options(parser, "training_tasks")
    parser.add_argument("--rows", type=int, help="at most so many of each set")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument(
        "--only", action="append", help="sarcasm, spam, ner, retrieval or reranking"
    )
    args = parser.parse_args()
    if args.quick:
        args.rows, args.seeds = args.rows or 96, 1
    searching = {"retrieval": retrieval, "reranking": reranking}
    wanted = args.only or [*training_tasks_data.TASKS, *searching]
    found: dict[str, Any] = {"rows": args.rows, "seeds": args.seeds, "precision": args.precision}
    for name in wanted:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = searching.get(name, task)(name, args, pathlib.Path(folder))
    path = recording.result_file(args, "training_tasks")
    path.write_text(json.dumps({"machine": machine(), **found}, indent=1) + "\n")
    print(f"written: {path}")


def task(name: str, args: argparse.Namespace, folder: pathlib.Path) -> dict[str, Any]:
    """Both sides, a seed after the other."""
    plan = training_tasks_data.TASKS[name]
    rows = list(plan.rows())
    random.Random(0).shuffle(rows)
    rows = rows[: args.rows]
    labels = sorted({x for row in rows for x in (row.get("tags") or [row["label"]])})
    python = {"lmstack": sys.executable, "Trainer": str(training_environments.build().python)}
    script = {"lmstack": "fine_tune_lmstack.py", "Trainer": "fine_tune.py"}
    scores: dict[str, list[Floats]] = {side: [] for side in python}
    took: dict[str, list[dict[str, float]]] = {side: [] for side in python}
    for seed in range(
        training_tasks_data.FOLDS if plan.every_fold and not args.quick else args.seeds
    ):
        fold = seed % training_tasks_data.FOLDS if plan.every_fold else 0
        test = [row for row in rows if training_tasks_data.fold_of(row) == fold]
        train_rows = [row for row in rows if training_tasks_data.fold_of(row) != fold]
        for side in list(python) if seed % 2 else list(python)[::-1]:
            job = {
                **{"objective": plan.objective, "labels": labels, "seed": seed, "batch": 32},
                **{"max_length": plan.max_length, "epochs": plan.epochs, "lr": plan.lr},
                **{"warmup": 0.1, "weight_decay": 0.01, "precision": args.precision},
                **{"threads": args.threads, "base": str(Store().resolve(BASE).path)},
                "output": str(folder / f"{side}-{seed}.json"),
                "train": written(folder / f"{seed}-train.jsonl", train_rows),
                "test": written(folder / f"{seed}-test.jsonl", test),
            }
            result = run(python[side], PEERS / script[side], job, folder)
            took[side].append({key: result[key] for key in ("wall", "processor")})
            scores[side].append(counts(plan.objective, test, result["predicted"]))
    if plan.every_fold:  # each seed has items of its own
        items = {side: np.concatenate(each) for side, each in scores.items()}
    else:  # an item is drawn with all its seeds
        items = {side: np.sum(each, axis=0) for side, each in scores.items()}
    metric = "accuracy" if plan.objective == "sequence-classification" else "entity F1"
    found = {
        "rows": len(rows),
        "metric": metric,
        **quality(f"{name}, {len(rows)} rows", metric, items),
    }
    found["by_seed"] = {side: [score(each) for each in many] for side, many in scores.items()}
    return {**found, **speed(took)}


def written(path: pathlib.Path, rows: Sequence[Row]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def run(
    python: str, script: pathlib.Path, job: Mapping[str, Any], folder: pathlib.Path
) -> dict[str, Any]:
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    done = subprocess.run([python, str(script), str(path)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{script.name} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(pathlib.Path(job["output"]).read_text())
    return found


def counts(objective: str, rows: Sequence[Row], predicted: Sequence[Any]) -> Floats:
    """(items, 3) of which `score` makes a figure: right, predicted and actual."""
    if objective == "sequence-classification":
        pairs = zip(rows, predicted, strict=True)
        return np.array([[row["label"] == each, 1, 1] for row, each in pairs], float)
    found = []
    for row, tags in zip(rows, predicted, strict=True):
        ours, actual = set(entities_of(tags)), set(entities_of(row["tags"]))
        found.append([len(ours & actual), len(ours), len(actual)])
    return np.array(found, float)


def score(items: Floats) -> float:
    """Accuracy, or F1 of entities."""
    right, predicted, actual = items.sum(0)
    return float(2 * right / (predicted + actual)) if predicted + actual else 0.0


def quality(title: str, metric: str, items: Mapping[str, Floats]) -> dict[str, Any]:
    ours, theirs = items["lmstack"], items["Trainer"]
    gap = interval(len(ours), lambda drawn: score(ours[drawn]) - score(theirs[drawn]))
    print(f"{title}, {len(ours)} tested")
    for side, each in items.items():
        low, high = interval(len(each), lambda drawn, each=each: score(each[drawn]))  # type: ignore[misc]
        print(f"  {side:8} {metric} {score(each):.4f} [{low:.4f}, {high:.4f}]")
    difference = score(ours) - score(theirs)
    print(f"  difference {difference:+.4f} [{gap[0]:+.4f}, {gap[1]:+.4f}]")
    figures = {side: score(each) for side, each in items.items()}
    return {"tested": len(ours), **figures, "difference": difference, "difference_95": gap}


def speed(took: Mapping[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Ratios of a turn are of runs beside each other; their median is said."""
    found: dict[str, Any] = {"seconds": took}
    for clock in ("wall", "processor"):
        turns = zip(took["lmstack"], took["Trainer"], strict=True)
        found[f"{clock}_ratio"] = statistics.median(b[clock] / a[clock] for a, b in turns)
        middle = {side: statistics.median(each[clock] for each in took[side]) for side in took}
        print(
            f"  {clock} seconds: lmstack {middle['lmstack']:.1f}, Trainer {middle['Trainer']:.1f};"
            f" Trainer takes {found[f'{clock}_ratio']:.2f} times as long"
        )
    return found


def interval(count: int, figure: Callable[[npt.NDArray[np.int64]], float]) -> list[float]:
    """Of a bootstrap over ``count`` items, 95 %."""
    chance = np.random.default_rng(0)
    drawn = [figure(chance.integers(count, size=count)) for _ in range(DRAWS)]
    return [float(x) for x in np.quantile(drawn, [0.025, 0.975])]


@dataclass(frozen=True)
class Searches:
    """Questions that are ``learned`` from, with the passage that answers each, and to ``test``
    with: neither their questions nor their passages are learned from."""

    collection: retrieval_data.Collection
    learned: list[tuple[str, int]]
    test: list[retrieval_data.Query]

    @classmethod
    def of(cls, passages: int, most: int | None) -> Searches:
        collection = retrieval_data.load("boolq").part(passages)
        is_held = [hashlib.sha256(d.encode()).digest()[0] % 2 for d in collection.documents]
        learned, test = [], []
        for query in collection.queries:
            if query.tuned_on:
                learned += [(query.text, d) for d in sorted(query.relevant) if not is_held[d]]
            elif all(is_held[d] for d in query.relevant):
                test.append(query)
        return cls(collection, learned[:most], test[:most])


def trained(recipe: str, rows: Sequence[Row], folder: pathlib.Path, precision: str) -> str:
    """The folder of what ``recipe``, as it is, makes of ``rows``."""
    changes = {"data": written(folder / "rows.jsonl", rows), "precision": precision}
    changes |= {"output": str(folder / "model"), "run": str(folder / "run"), "validation": "0"}
    found = read_recipe(RECIPES / f"{recipe}.yaml", [f"{k}={v}" for k, v in changes.items()])
    return str(train(found).folder)


def retrieval(name: str, args: argparse.Namespace, folder: pathlib.Path) -> dict[str, Any]:
    """nDCG@10 of the base and of the tuned embedder, on questions and passages held out."""
    searches = Searches.of(PASSAGES, args.rows)
    collection, test = searches.collection, searches.test
    pairs = [{"query": q, "positive": collection.documents[d]} for q, d in searches.learned]
    models = {"base": BASE, "tuned": trained("contrastive", pairs, folder, args.precision)}
    beside = range(len(collection.documents) if args.rows is None else args.rows)
    places = sorted({d for query in test for d in query.relevant} | set(beside))
    found = {
        side: ndcg(LocalEmbedder.load(ref, weights="float32"), collection, places, test)
        for side, ref in models.items()
    }
    print(f"{name}: {len(pairs)} pairs, {len(test)} questions held out")
    return {"pairs": len(pairs), **raised("nDCG@10", found)}


def reranking(name: str, args: argparse.Namespace, folder: pathlib.Path) -> dict[str, Any]:
    """1 / rank of the right one among the ten passages that the embedder finds, by the base and by
    the tuned cross-encoder, where it is among them; on questions and passages held out."""
    searches = Searches.of(RERANKED, args.rows)
    documents, embedder = searches.collection.documents, LocalEmbedder.load(BASE, weights="float32")
    passages = embedder.embed(documents, "passage")

    def ten(questions: Sequence[str]) -> npt.NDArray[np.int64]:
        asked = embedder.embed(questions, "query")
        return np.argsort(-(asked @ passages.T), kind="stable")[:, :10]

    rows = [
        {
            "query": question,
            "positive": documents[right],
            "negatives": [documents[n] for n in near if n != right][:NEGATIVES],
        }
        for (question, right), near in zip(
            searches.learned, ten([q for q, _ in searches.learned]), strict=True
        )
    ]
    found_by = zip(searches.test, ten([q.text for q in searches.test]), strict=True)
    test = [(q, near) for q, near in found_by if q.relevant & set(near.tolist())]
    models = {"base": CROSS, "tuned": trained("reranking", rows, folder, args.precision)}
    found = {}
    for side, ref in models.items():
        ranks, reranker = [], LocalReranker.load(ref, cut=True)
        for query, near in test:
            scores = reranker.score(query.text, [documents[n] for n in near])
            right = max(s for s, n in zip(scores, near, strict=True) if int(n) in query.relevant)
            ranks.append(1 / float((scores >= right).sum()))
        found[side] = np.array(ranks)
    print(f"{name}: {len(rows)} lists, {len(test)} questions held out")
    return {"lists": len(rows), **raised("MRR of ten", found)}


def raised(metric: str, found: Mapping[str, Floats]) -> dict[str, Any]:
    """Of items in pairs, by the base and tuned."""
    gain = found["tuned"] - found["base"]
    gap = interval(len(gain), lambda drawn: float(gain[drawn].mean()))
    figures = {side: float(each.mean()) for side, each in found.items()}
    print(f"  {metric} base {figures['base']:.4f}, tuned {figures['tuned']:.4f}")
    print(f"  difference {gain.mean():+.4f} [{gap[0]:+.4f}, {gap[1]:+.4f}]")
    return {
        **{"tested": len(gain), "metric": metric, **figures},
        **{"difference": float(gain.mean()), "difference_95": gap},
    }


def ndcg(
    embedder: LocalEmbedder,
    collection: retrieval_data.Collection,
    places: Sequence[int],
    queries: Sequence[Any],
) -> Floats:
    """(queries,): of the first 10 of the passages at ``places``, binary relevance (Järvelin and
    Kekäläinen, 2002)."""
    passages = embedder.embed([collection.documents[place] for place in places], "passage")
    asked = embedder.embed([query.text for query in queries], "query")
    discounts = 1 / np.log2(np.arange(2, 12))
    found = []
    for vector, query in zip(asked, queries, strict=True):
        best = np.argsort(-(passages @ vector), kind="stable")[:10]
        gains = [float(places[int(n)] in query.relevant) for n in best]
        ideal = discounts[: min(len(query.relevant), 10)].sum()
        found.append(float(np.dot(gains, discounts) / ideal))
    return np.array(found)


if __name__ == "__main__":
    main()
