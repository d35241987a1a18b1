"""lmstack beside an earlier checkout of itself, in turns: what a change costs in speed.

    python benchmarks/before.py CHECKOUT    one with its own .venv, as `make` makes it
    python benchmarks/before.py             the form that is served by default beside the best one
    python benchmarks/before.py CHECKOUT --only decode,embed_short --rounds 9

The measures are those of `serving.py`, each in a process of its own. One round is a process of each
side with the same job, so the two stand seconds apart and what else the machine does falls on both;
the order changes each round. What counts is the median over rounds of the ratio of a round. A ratio
to a peer falls by as much as this one does, because the peer is the same.

One stream reads every weight for every token, and the same file can be read by a third slower where
the system happens to keep it in memory. So each side has a store of its own, and what it holds of
prepared weights is copied anew for each round.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass

from recording import add_options, result_file
from serving import chosen
from serving_models import GEMMA, quiet_environment, sources
from serving_work import MEASURES, QUICK, Size, job
from spine import HERE, processor

SCRIPT = "benchmarks/serving_peers/with_lmstack.py"
SECONDS = 600


@dataclass(frozen=True)
class Side:
    """``options``: of `with_lmstack.py`. ``home``: its store, which has the models of this one."""

    checkout: pathlib.Path
    python: str
    home: pathlib.Path
    options: tuple[str, ...] = ()

    def move_weights(self) -> None:
        """To other places in memory: a new file is cached on new pages."""
        for path in list((self.home / "packed").glob("*.safetensors")):
            copy = path.with_suffix(".copy")
            shutil.copyfile(path, copy)
            copy.replace(path)

    def measured(self, path: pathlib.Path, names: list[str]) -> dict[str, float]:
        """The best of the figures that each of ``names`` had."""
        done = subprocess.run(
            [self.python, str(self.checkout / SCRIPT), *self.options, "measure", str(path), *names],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env=quiet_environment(os.cpu_count() or 1) | {"LMSTACK_HOME": str(self.home)},
        )
        found = json.loads(done.stdout.strip().splitlines()[-1])
        for name in names:
            if "error" in found[name]:
                raise SystemExit(f"{self.checkout}: {name}: {found[name]['error']}")
        return {name: max(map(float, found[name]["figures"])) for name in names}


def sides(checkout: pathlib.Path | None, scratch: pathlib.Path) -> dict[str, Side]:
    from lmstack.registry import Store

    now, models = HERE.parent, Store().root / "models"
    if checkout is None:
        found = {
            "best form": Side(now, sys.executable, scratch / "best"),
            "default": Side(now, sys.executable, scratch / "default", ("default",)),
        }
    else:
        before = checkout.resolve()
        found = {
            "before": Side(before, str(before / ".venv/bin/python"), scratch / "before"),
            "now": Side(now, sys.executable, scratch / "now"),
        }
    for side in found.values():
        side.home.mkdir()
        (side.home / "models").symlink_to(models)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkout", type=pathlib.Path, nargs="?", help="none: forms of this one")
    parser.add_argument("--only", type=lambda t: chosen(t, list(MEASURES)), help="measures, a,b,c")
    parser.add_argument("--rounds", type=int, default=5)
    add_options(parser, "before")
    args = parser.parse_args()
    names = [n for n in args.only or MEASURES if n != "bandwidth"]
    groups = list(dict.fromkeys(MEASURES[name].group for name in names))
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        from lmstack.registry import load_text

        both = sides(args.checkout, scratch)
        paths = sources()
        docs = sorted((HERE.parent / "docs").glob("*.md"))
        corpus = "\n\n".join(page.read_text() for page in docs)
        gemma = list(load_text(GEMMA).tokenizer.encode(corpus))
        for number in range(1 if args.quick else args.rounds):
            task = job(paths, corpus, gemma, number, QUICK if args.quick else Size(short=True))
            for name in ("embed_short", "embed_long"):
                task[name]["vectors"] = {"lmstack": str(scratch / f"{name}.npy")}
            path = scratch / "job.json"
            path.write_text(json.dumps(task))
            for side in both.values():
                side.move_weights()
            for group in groups:
                own = [name for name in names if MEASURES[name].group == group]
                for label in list(both)[:: 1 if number % 2 == 0 else -1]:
                    for name, figure in both[label].measured(path, own).items():
                        found[name][label].append(figure)
                print(f"round {number + 1}: {group}", flush=True)
    measures = {}
    first, second = both
    print(f"\n{'':20}{first:>10}{second:>10}   ratio of a round: median, least, most")
    for name in names:
        rounds = sorted(b / a for a, b in zip(*(found[name][s] for s in both), strict=True))
        middle = [statistics.median(found[name][side]) for side in both]
        ratio = statistics.median(rounds)
        print(
            f"{name:20}{middle[0]:>10.4g}{middle[1]:>10.4g}   {ratio:.3f}"
            f"  {rounds[0]:.3f}  {rounds[-1]:.3f}"
        )
        measures[name] = {**found[name], "ratio": ratio}
    path = result_file(args, "before")
    result = {"machine": processor(), "cores": os.cpu_count(), "measures": measures}
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
