"""Where a benchmark writes its figures, and its quick run, which records nothing.

A quick run takes the same path on less work, to show that the benchmark still works: its figures
mean little. `make TARGET QUICK=1` asks for it. Only whole runs write to `results/`.
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile

__all__ = ["RESULTS", "add_options", "picture_file", "result_file"]

RESULTS = pathlib.Path(__file__).resolve().parent / "results"


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """``--quick``, and ``--json`` for the file of the result."""
    parser.add_argument(
        "--quick", action="store_true", help="the same on less work; records nothing"
    )
    parser.add_argument(
        "--json", type=pathlib.Path, help=f"default: results/{name}.json, elsewhere with --quick"
    )


def result_file(args: argparse.Namespace, name: str) -> pathlib.Path:
    """What `add_options` was given; of a quick run a file in the system's temporary folder."""
    given: pathlib.Path | None = args.json
    if given is not None:
        return given
    if not args.quick:
        return RESULTS / f"{name}.json"
    folder = pathlib.Path(tempfile.gettempdir()) / "lmstack-bench-quick"
    folder.mkdir(exist_ok=True)
    return folder / f"{name}.json"


def picture_file(result: pathlib.Path, name: str) -> pathlib.Path:
    """Of a recorded result a picture of the documentation, of another a file beside it."""
    recorded = result.resolve().parent == RESULTS
    return (RESULTS.parents[1] / "docs" / "pictures" if recorded else result.parent) / name
