"""What a trained reader is worth: `lmstack ask` with it beside `lmstack ask` as it is, paired.

    python benchmarks/reader.py MODEL                     the tuning halves, collections in English
    python benchmarks/reader.py MODEL --collection quac   some of them, such as those left out of
                                                          its training; records nothing
    python benchmarks/reader.py MODEL --test --why "..."  the test halves, in sums only

MODEL is what `--reader` takes. Items, verdicts and halves are those of `answers.py`, and a look at
the test half is logged with its looks. Each item is asked of both in turn, so that their seconds
are of the same minutes. Proportions are compared by McNemar's exact test, areas under the curve of
the confidence by DeLong's for paired scores.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
from collections.abc import Callable, Sequence
from typing import Any

from answers import ITEMS, LOADERS, commit, look
from answers_data import Collection, Item
from answers_outcomes import Outcome, judged, summary
from answers_systems import Asked, Models, load_models, prepared
from machine import machine
from recording import add_options, result_file

from lmstack.app.wiring import retrieval
from lmstack.evals.metrics.calibration import auc_difference
from lmstack.evals.statistics import mcnemar

Paired = tuple[Outcome, Outcome]
VERDICTS: dict[str, tuple[str, Callable[[Outcome], bool]]] = {
    "right": ("answerable", lambda o: o.right),
    "refused_wrongly": ("answerable", lambda o: o.refused),
    "refused_taken_away": ("taken_away", lambda o: o.refused),
    "refused_near_miss": ("near_miss", lambda o: o.refused),
}


def measure(collection: Collection, items: Sequence[Item], both: Sequence[Models]) -> list[Paired]:
    """The outcomes of each item, of today's models and of those with the reader."""
    found = []
    with prepared(collection, both[0]) as ready:
        ways = [Asked(dataclasses.replace(ready, models=models)) for models in both]
        for place, item in enumerate(items):
            shown = {n: ways[n](item) for n in ((0, 1) if place % 2 else (1, 0))}
            outcomes = [
                judged(collection, name, item, shown[n], ready.texts)
                for n, name in enumerate(("default", "reader"))
            ]
            found.append((outcomes[0], outcomes[1]))
    return found


def compared(pairs: Sequence[Paired]) -> dict[str, Any]:
    """Both summaries, and of what differs how often and how likely that is by chance."""
    judged_ones = [pair for pair in pairs if not pair[0].trivial]
    result: dict[str, Any] = {
        "default": summary([one for one, _ in pairs]),
        "reader": summary([other for _, other in pairs]),
        "changes": {},
        "auc": {},
    }
    for name, (status, holds) in VERDICTS.items():
        of_it = [pair for pair in judged_ones if pair[0].status == status]
        gained = sum(holds(new) and not holds(old) for old, new in of_it)
        lost = sum(holds(old) and not holds(new) for old, new in of_it)
        result["changes"][name] = {"gained": gained, "lost": lost, "p": mcnemar(gained, lost)}
    for status in ("taken_away", "near_miss"):
        names = {old.collection for old, _ in pairs if old.status == status}
        above = [p for p in pairs if p[0].status == "answerable" and p[0].collection in names]
        below = [p for p in pairs if p[0].status == status]
        if min(len(above), len(below)) > 1:
            sides = [
                tuple([pair[n].confidence for pair in group] for group in (above, below))
                for n in (0, 1)
            ]
            found = auc_difference(sides[0], sides[1])
            result["auc"][status] = {"difference": found.value, "p": found.p}
    return result


def show(result: dict[str, Any]) -> None:
    for name, change in result["changes"].items():
        old, new = (result[side][name] for side in ("default", "reader"))
        if old["of"]:
            print(
                f"{name}: {old['share']:.3f} -> {new['share']:.3f} of {old['of']}"
                f" (+{change['gained']} -{change['lost']}, p {change['p']:.4f})"
            )
    for status, change in result["auc"].items():
        areas = [result[side][f"auc_{status}"]["area"] for side in ("default", "reader")]
        print(f"AUC, {status}: {areas[0]:.3f} -> {areas[1]:.3f} (p {change['p']:.4f})")
    for name in ("precise", "valid"):
        print(f"{name}: " + " -> ".join(f"{result[s][name]['share']:.3f}" for s in SIDES))
    seconds = " -> ".join(f"{result[s]['seconds_an_answer']:.3f}" for s in SIDES)
    print(f"seconds an answer: {seconds}")


SIDES = ("default", "reader")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("reader", metavar="MODEL")
    parser.add_argument("--items", type=int, default=ITEMS, help="of each collection")
    parser.add_argument("--collection", nargs="+", choices=LOADERS, help="records nothing")
    parser.add_argument("--test", action="store_true", help="the half that is only summed up")
    parser.add_argument("--why", help="why the test half is looked at")
    add_options(parser, "reader")
    args = parser.parse_args()
    if args.test and not args.why:
        parser.error("say why the test half is looked at: --why REASON")
    return args


def main() -> None:
    args = arguments()
    reader = retrieval.answer_reranker(print, args.reader)
    assert reader is not None
    if args.test:
        look(args.why)
    pairs: list[Paired] = []
    with load_models() as models:
        both = [models, dataclasses.replace(models, reranker=reader)]
        for name in args.collection or LOADERS:
            collection = LOADERS[name]()
            if collection.language == "en" and not collection.apart:
                items = collection.sample(args.items, tuned_on=not args.test)
                pairs += measure(collection, items[: 8 if args.quick else None], both)
                print(f"{name}: {len(items)} items", flush=True)
    result = {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "machine": machine(),
        "reader": reader.info.digest,
        "half": "test" if args.test else "tuning",
        **compared(pairs),
    }
    show(result)
    if args.json or not args.collection:
        result_file(args, "reader").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
