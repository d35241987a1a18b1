"""Every figure of speed of indexing and search in one go, beside the peers, with its pictures.

    python benchmarks/speed.py                    about ten minutes once the caches are there
    python benchmarks/speed.py --quick            small sizes, records nothing: two minutes once the
                                                  environments are there
    python benchmarks/speed.py --pages            only writes tables and pictures from the results

Runs `retrieval_speed.py`, `words.py`, `chunking.py` and `documents.py` one after the other, writes
what the machine was and what ran beside to `results/speed.json`, and the tables and pictures of
`docs/retrieval.md`. A quiet machine is wanted: other work shows in the figures. The first run
builds an environment for each peer and embeds a hundred thousand passages.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys
import time

from machine import machine
from speed_pages import write_pages
from spine import HERE

RESULTS = HERE / "results"
STEPS = {
    "retrieval_speed": [],
    "words": ["--queries", "0"],
    "chunking": ["--rounds", "3"],
    "documents": ["--pages", "60", "--rounds", "1"],
}


def run(name: str, options: list[str], result: pathlib.Path | None) -> float:
    """Seconds that one script took."""
    options = [*options, "--json", str(result)] if result else options
    print(f"\n== {name} {' '.join(options)}", flush=True)
    started = time.monotonic()
    command = [sys.executable, str(HERE / f"{name}.py"), *options]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "2"})
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--pages", action="store_true")
    args = parser.parse_args()
    if args.quick:
        seconds = {name: round(run(name, ["--quick"], None)) for name in STEPS}
        print(f"\nseconds of each: {seconds}; nothing was recorded")
        return
    if not args.pages:
        record: dict[str, object] = {
            "began": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "before": machine(),
        }
        seconds = {
            name: round(run(name, options, RESULTS / f"{name}.json"))
            for name, options in STEPS.items()
        }
        record |= {"seconds": seconds, "after": machine()}
        (RESULTS / "speed.json").write_text(json.dumps(record, indent=1) + "\n")
        print(f"\nall of it: {sum(seconds.values()) / 60:.0f} minutes")
    write_pages()


if __name__ == "__main__":
    main()
