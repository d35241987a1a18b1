"""A reward model on people's ratings of their conversations: how often it ranks two as they did.

    make bench-reward [QUICK=1]

chitchat-dataset: who had a conversation rated it from 1 to 10 as witty, interesting and upbeat;
the mean of the three is learned and predicted. Conversations of two people are taken; the one who
speaks last is the assistant. A conversation is trained on or tested on by a hash of its id, half
and half. Of the half to train on a tenth validates, and the weights of the best evaluation are
kept; nothing is chosen on the other half. Most people are on both sides, because few talked to
many: what is learned may be in part how they rate.

Pairwise accuracy: of all pairs of tested conversations whose ratings differ, the share that the
score ranks as the ratings do, half for a tie. Beside it stand what needs no model, the number of
turns and of characters, and the same share among pairs that are about equally long, which those
cannot rank. Intervals are 95 % of a bootstrap over conversations.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import recording
import torch
from machine import machine
from pinned import wheel_files
from training_data import CHITCHAT, FILE

import lmstack
from lmstack.train import Recipe, train

BASE = "all-minilm-l6-v2"
DRAWS = 1000
BANDS = 10
Row = dict[str, Any]
Floats = npt.NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    recording.add_options(parser, "reward_ratings")
    parser.add_argument("--base", default=BASE)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = rated()
    halves = [[row for row in rows if half_of(row) == half] for half in (0, 1)]
    learned, tested = (half[:64] if args.quick else half for half in halves)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        model, values = trained(learned, args, pathlib.Path(folder))
        seconds = time.perf_counter() - started
        scores = scored(model, tested, args.max_length)
    found = {
        **{"base": args.base, "rows": "ratings", "epochs": args.epochs, "lr": args.lr},
        **{"max_length": args.max_length, "precision": args.precision, "seed": args.seed},
        **{"trained_on": len(learned), "tested": len(tested), "seconds": seconds},
        "validation": dict(values),
        **seen_people(learned, tested),
        **compared(scores, tested),
    }
    path = recording.result_file(args, "reward_ratings")
    path.write_text(json.dumps({"machine": machine(), **found}, indent=1) + "\n")
    print(f"written: {path}")


def rated() -> list[Row]:
    """Rated conversations of two people, as rows to train on; ``people`` and ``id`` beside."""
    (path,) = wheel_files(CHITCHAT, (FILE,))
    found = []
    for key, row in sorted(json.loads(path.read_text(encoding="utf-8")).items()):
        said = [each for turn in row["messages"] for each in turn if each["text"].strip()]
        people = sorted({each["sender"] for each in said})
        if "ratings" not in row or len(people) != 2:
            continue
        turns: list[dict[str, str]] = []
        for each in said:
            role = "assistant" if each["sender"] == said[-1]["sender"] else "user"
            if turns and turns[-1]["role"] == role:
                turns[-1]["content"] += "\n" + each["text"].strip()
            else:
                turns.append({"role": role, "content": each["text"].strip()})
        rating = statistics.mean(map(float, row["ratings"].values()))
        found.append({"messages": turns, "rating": rating, "id": key, "people": people})
    return found


def half_of(row: Row) -> int:
    """0: to train on; 1: to test on."""
    return hashlib.sha256(row["id"].encode()).digest()[0] % 2


def trained(
    rows: Sequence[Row], args: argparse.Namespace, folder: pathlib.Path
) -> tuple[str, Mapping[str, float]]:
    data = folder / "ratings.jsonl"
    kept = ({"messages": row["messages"], "rating": row["rating"]} for row in rows)
    data.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    settings = {
        **{"objective": "reward", "base": args.base, "data": str(data), "validation": 0.1},
        **{"output": str(folder / "model"), "run": str(folder / "run"), "batch": 16},
        **{"max_length": args.max_length, "epochs": args.epochs, "lr": args.lr, "warmup": 0.1},
        **{"schedule": "linear", "final_lr": 0, "metric": "pearson", "seed": args.seed},
        **{"precision": args.precision, "save_every": 1 << 30},
    }
    result = train(Recipe.from_mapping(settings))
    print(f"trained on {len(rows)}: {result.steps} steps, {dict(result.values)}")
    return str(result.folder), result.values


def scored(model: str, rows: Sequence[Row], max_length: int) -> Floats:
    """Of each row, read as in training."""
    task = lmstack.task("reward", model, truncate=True, max_length=max_length)
    found = task([{"messages": row["messages"]} for row in rows])
    return np.array([each.score for each in found])


def seen_people(learned: Sequence[Row], tested: Sequence[Row]) -> dict[str, int]:
    known = {person for row in learned for person in row["people"]}
    new = sum(not known & set(row["people"]) for row in tested)
    print(f"{new} of {len(tested)} tested conversations are of people who are not trained on")
    return {"tested_with_new_people_alone": new}


def compared(scores: Floats, rows: Sequence[Row]) -> dict[str, Any]:
    """Pairwise accuracy of the scores, and of what needs no model."""
    ratings = np.array([row["rating"] for row in rows])
    said = [[turn["content"] for turn in row["messages"]] for row in rows]
    sides = {
        "reward model": scores,
        "turns": np.array([float(len(turns)) for turns in said]),
        "characters": np.array([float(sum(map(len, turns))) for turns in said]),
    }
    bands = np.argsort(np.argsort(sides["characters"], kind="stable")) * BANDS // len(rows)
    every = np.ones((len(rows), len(rows)), bool)
    subsets = {
        "all pairs": every,
        "ratings 2 or more apart": np.abs(ratings[:, None] - ratings) >= 2,
        f"of one tenth by length ({BANDS})": bands[:, None] == bands,
    }
    found: dict[str, Any] = {"pearson": float(np.corrcoef(scores, ratings)[0, 1])}
    print(f"{len(rows)} tested, correlation with the rating {found['pearson']:.3f}")
    for subset, among in subsets.items():
        found[subset] = {"pairs": int((np.triu(among, 1) & _differ(ratings)).sum())}
        print(f"{subset}: {found[subset]['pairs']:,} pairs with different ratings")
        for side, values in sides.items():
            figure, low, high = pairwise(values, ratings, among)
            found[subset][side] = {"accuracy": figure, "95": [low, high]}
            print(f"  {side:13} {figure:.3f} [{low:.3f}, {high:.3f}]")
    return found


def _differ(ratings: Floats) -> npt.NDArray[np.bool_]:
    return ratings[:, None] != ratings


def pairwise(
    scores: Floats, ratings: Floats, among: npt.NDArray[np.bool_]
) -> tuple[float, float, float]:
    """The share of pairs that scores rank as ratings do, and its 95 % interval: items are drawn
    with replacement, and a pair counts as often as both of its items were drawn."""
    better = ratings[:, None] > ratings
    pairs = (better & among).astype(np.float32)
    gaps = scores[:, None] - scores
    right = pairs * np.where(gaps > 0, 1.0, np.where(gaps == 0, 0.5, 0.0)).astype(np.float32)
    chance = np.random.default_rng(0)
    count = len(ratings)
    drawn = [np.bincount(chance.integers(count, size=count), minlength=count) for _ in range(DRAWS)]
    weights = np.array([np.ones(count), *drawn], np.float32)
    rights = np.einsum("dn,dn->d", weights @ right, weights)
    totals = np.einsum("dn,dn->d", weights @ pairs, weights)
    shares = rights / totals
    low, high = np.quantile(shares[1:], [0.025, 0.975])
    return float(shares[0]), float(low), float(high)


if __name__ == "__main__":
    main()
