"""lmstack beside an earlier checkout of itself, in turns: what a change costs in speed.

    python benchmarks/before.py CHECKOUT    one with its own .venv, as `make` makes it
    python benchmarks/before.py CHECKOUT --only decode,embed_short --rounds 9

The measures are those of `serving.py`, each in a process of its own. One round is a process of each
side with the same job, so the two stand seconds apart and what else the machine does falls on both;
the order changes each round. What counts is the median over rounds of the ratio of a round. A ratio
to a peer falls by as much as this one does, because the peer is the same.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from typing import Any

from recording import add_options, result_file
from serving import chosen
from serving_models import GEMMA, quiet_environment, sources
from serving_work import MEASURES, QUICK, Size, job
from spine import HERE, processor

SCRIPT = "benchmarks/serving_peers/with_lmstack.py"
SECONDS = 600


def measured(checkout: pathlib.Path, python: str, path: pathlib.Path, names: list[str]) -> Any:
    """The best of the figures that each of ``names`` had, by the code of ``checkout``."""
    done = subprocess.run(
        [python, str(checkout / SCRIPT), "measure", str(path), *names],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=quiet_environment(os.cpu_count() or 1),
    )
    found = json.loads(done.stdout.strip().splitlines()[-1])
    for name in names:
        if "error" in found[name]:
            raise SystemExit(f"{checkout}: {name}: {found[name]['error']}")
    return {name: max(map(float, found[name]["figures"])) for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkout", type=pathlib.Path)
    parser.add_argument("--only", type=lambda t: chosen(t, list(MEASURES)), help="measures, a,b,c")
    parser.add_argument("--rounds", type=int, default=5)
    add_options(parser, "before")
    args = parser.parse_args()
    before, now = args.checkout.resolve(), HERE.parent
    sides = {"before": (before, str(before / ".venv/bin/python")), "now": (now, sys.executable)}
    names = [n for n in args.only or MEASURES if n != "bandwidth"]
    groups = list(dict.fromkeys(MEASURES[name].group for name in names))
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        from lmstack.registry import load_text

        paths = sources()
        corpus = "\n\n".join(p.read_text() for p in sorted((now / "docs").glob("*.md")))
        gemma = list(load_text(GEMMA).tokenizer.encode(corpus))
        for number in range(1 if args.quick else args.rounds):
            task = job(paths, corpus, gemma, number, QUICK if args.quick else Size(short=True))
            for name in ("embed_short", "embed_long"):
                task[name]["vectors"] = {"lmstack": str(scratch / f"{name}.npy")}
            path = scratch / "job.json"
            path.write_text(json.dumps(task))
            for group in groups:
                own = [name for name in names if MEASURES[name].group == group]
                for side in list(sides)[:: 1 if number % 2 == 0 else -1]:
                    for name, figure in measured(*sides[side], path, own).items():
                        found[name][side].append(figure)
                print(f"round {number + 1}: {group}", flush=True)
    result = {"machine": processor(), "cores": os.cpu_count(), "measures": {}}
    print(f"\n{'':20}{'before':>10}{'now':>10}   ratio of a round: median, least, most")
    for name in names:
        rounds = sorted(b / a for a, b in zip(*(found[name][s] for s in sides), strict=True))
        middle = [statistics.median(found[name][side]) for side in sides]
        ratio = statistics.median(rounds)
        print(
            f"{name:20}{middle[0]:>10.4g}{middle[1]:>10.4g}   {ratio:.3f}"
            f"  {rounds[0]:.3f}  {rounds[-1]:.3f}"
        )
        result["measures"][name] = {**found[name], "ratio": ratio}
    path = result_file(args, "before")
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
