"""Speed of the spine beside transformers and sentence-transformers, in one run.

    make bench                                   all of it, about ten minutes
    python benchmarks/spine.py --only decode     one measurement
    python benchmarks/spine.py --quick           small prompts, one round; records nothing
    python benchmarks/spine.py --json FILE       where the result goes (default: results/spine.json)

Each side runs in a fresh process with the same weights, token ids and number of threads; sides
alternate, and the best of the rounds counts, because shared machines stall for seconds at a
time. The peers run at the precision that is fastest for them (bfloat16 for generation), except
for embeddings, where both sides are float32 and agree to 1e-5.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version

from recording import add_options, result_file

HERE = pathlib.Path(__file__).parent
SIDES = HERE / "spine_sides.py"


@dataclass(frozen=True)
class Measurement:
    """``higher``: whether a larger figure is the better one."""

    name: str
    title: str
    unit: str
    peer: str
    higher: bool = True
    rounds: int = 2


MEASUREMENTS = (
    Measurement("startup", "start a process, load, first token", "s", "transformers", False),
    Measurement("ttft", "time to first token, 200-token prompt", "s", "transformers", False),
    Measurement("decode", "decode, one stream, 128 tokens", "tokens/s", "transformers"),
    Measurement("prefill", "prefill, 1,024 tokens", "tokens/s", "transformers"),
    Measurement("streams", "32 streams, 64 in / 64 out", "tokens/s", "transformers"),
    Measurement("embed_short", "embed, 24-32 tokens", "texts/s", "sentence-transformers"),
    Measurement("embed_long", "embed, about 200 tokens", "texts/s", "sentence-transformers"),
    Measurement("index", "index documents (peer: embed only)", "chunks/s", "sentence-transformers"),
)


def run_side(side: str, name: str, weights: pathlib.Path, size: str) -> float:
    """One figure, from a fresh process."""
    done = subprocess.run(
        [sys.executable, str(SIDES), side, name, str(weights), size],
        capture_output=True,
        text=True,
        timeout=1200,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"},
    )
    if done.returncode:
        raise SystemExit(f"{side} {name} failed:\n{done.stderr[-3000:]}")
    return float(json.loads(done.stdout.strip().splitlines()[-1])["figure"])


def measure(m: Measurement, weights: pathlib.Path, quick: bool) -> dict[str, object]:
    raw: dict[str, list[float]] = {"lmstack": [], m.peer: []}
    for _ in range(1 if quick else m.rounds):
        for side, figures in raw.items():
            figures.append(run_side(side, m.name, weights, "quick" if quick else "full"))
    best = {side: (max if m.higher else min)(figures) for side, figures in raw.items()}
    ours, theirs = best["lmstack"], best[m.peer]
    ratio = ours / theirs if m.higher else theirs / ours
    return {"title": m.title, "unit": m.unit, "raw": raw, "best": best, "ratio": ratio}


def processor() -> str:
    """Model name and the instruction sets that matter, so that figures can be compared."""
    from lmstack.app.inspect.processor import processor as found

    return str(found())


def prepare(folder: pathlib.Path) -> None:
    """The default model as a folder that transformers loads, from the same weights."""
    import lmstack

    with lmstack.load("smollm2-135m-instruct") as model:
        model.save(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=[m.name for m in MEASUREMENTS])
    add_options(parser, "spine")
    args = parser.parse_args()
    chosen = [m for m in MEASUREMENTS if args.only in (None, m.name)]
    packages = ("lmstack", "torch", "transformers", "sentence-transformers")
    result: dict[str, object] = {
        "machine": processor(),
        "cores": os.cpu_count(),
        "versions": {package: version(package) for package in packages},
    }
    print(f"{result['machine']}, {result['cores']} cores")
    if args.quick:
        print("a quick run: fewer tokens, texts and files than the titles say")
    print(f"{'':44}{'lmstack':>10}{'peer':>10}  {'ratio':>6}  unit, peer")
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        weights = pathlib.Path(scratch)
        prepare(weights)
        for m in chosen:
            row = measure(m, weights, args.quick)
            rows[m.name] = row
            ours, theirs = row["best"]["lmstack"], row["best"][m.peer]  # type: ignore[index]
            print(
                f"{m.title:44}{ours:>10.4g}{theirs:>10.4g}  {row['ratio']:>5.2f}x  "
                f"{m.unit}, {m.peer}",
                flush=True,
            )
    result["rows"] = rows
    if args.only is None:
        result_file(args, "spine").write_text(json.dumps(result, indent=1) + "\n")
    slower = [name for name, row in rows.items() if row["ratio"] < 1]  # type: ignore[operator]
    if slower and not args.quick:
        raise SystemExit(f"slower than the peer: {', '.join(slower)}")


if __name__ == "__main__":
    main()
