"""Serving beside its peers in one run: llama.cpp, OpenVINO GenAI, vLLM, transformers,
sentence-transformers, ONNX Runtime, CTranslate2.

    make bench-serving                                 all of it
    make bench-serving SHORT=1                         under 15 minutes, without vLLM
    make bench-serving QUICK=1                         small prompts, one round; records nothing
    python benchmarks/serving.py --only decode,prefill measures of your choice
    python benchmarks/serving.py --peers llamacpp      peers of your choice
    python benchmarks/serving.py --json FILE           where the result goes

Each peer lives in an environment of its own (`serving_environments`), which is built at the first
run and takes its time once; one that cannot be built is reported with the reason. In each round
every side computes every measure in a fresh process, one after the other, on the same prompts
(`serving_work`) and with the same number of threads. Shared machines stall for seconds at a time,
so the best of all rounds counts; medians and spread are kept beside it. Greedy tokens are compared
with those of transformers in float32, sentence vectors with sentence-transformers in float32.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import numpy as np
from recording import add_options, result_file
from serving_environments import PEERS, SCRIPTS, BuildError, build, versions
from serving_models import GEMMA, converted, quiet_environment, sources
from serving_work import MEASURES, QUICK, SIDES, Ids, Side, Size, agreement, job, ratios, summary
from spine import HERE, processor

REFERENCE_COSINE = "sentence_transformers_float32"
SIDE_SECONDS = 1200
LMSTACK = "with_lmstack.py"


@contextmanager
def others_busy() -> Iterator[list[float | None]]:
    """The share of the machine that processes other than ours take meanwhile, where Linux says:
    figures beside a busy neighbour are to be measured again."""

    def busy() -> float | None:
        try:
            fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        except OSError:
            return None
        user, nice, system, _idle, _wait, *interrupts = map(int, fields)
        return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")

    def own() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    share: list[float | None] = [None]
    start, before, ours = time.monotonic(), busy(), own()
    yield share
    after = busy()
    if before is not None and after is not None:
        available = (time.monotonic() - start) * (os.cpu_count() or 1)
        share[0] = round(max(0.0, after - before - (own() - ours)) / available, 3)


# --- one run -----------------------------------------------------------------------------------


class Run:
    """What was found so far, in the shape of the results."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.start = time.monotonic()
        self.raw: dict[str, dict[str, list[dict[str, Any]]]] = {name: {} for name in args.only}
        self.failures: dict[str, dict[str, str]] = {}
        self.checks: dict[str, dict[str, Any]] = {}
        self.problems: list[str] = []
        self.reference: dict[str, list[Ids]] = {}
        self.weight_bytes: dict[str, int] = {}
        self.rates: dict[str, Any] = {}
        self.peers: dict[str, dict[str, Any]] = {}
        self.sides = [side for side in SIDES if side.peer is None]
        self.rounds = 0

    def say(self, text: str) -> None:
        seconds = int(time.monotonic() - self.start)
        print(f"[{seconds // 60:>3}:{seconds % 60:02}] {text}", flush=True)

    def build(self, paths: dict[str, Any], scratch: pathlib.Path) -> None:
        """Environments and converted models of the peers that are asked for."""
        wanted = [PEERS[name] for name in self.args.peers]
        while wanted:
            peer = wanted.pop(0)
            self.say(f"environment of {peer.name}")
            try:
                seconds = build(peer)
                converted(peer, paths, scratch)
            except (BuildError, OSError, subprocess.SubprocessError) as error:
                self.peers[peer.name] = {"built": False, "error": str(error)}
                self.say(f"{peer.name} cannot be built: {str(error)[-300:]}")
                if peer.fallback:
                    self.say(f"{peer.fallback} instead of it")
                    wanted.insert(0, PEERS[peer.fallback])
                continue
            found = {"built": True, "build_seconds": seconds, "versions": versions(peer)}
            self.peers[peer.name] = found
            self.sides += [side for side in SIDES if side.peer == peer.name]

    # -- sides

    def tasks(self, round_: int) -> Iterable[tuple[Side, list[str]]]:
        """A process each: the sides of a group one after the other, in another order each round."""
        chosen = [name for name in MEASURES if name in self.args.only]
        started: set[str] = set()
        for group in dict.fromkeys(MEASURES[name].group for name in chosen):
            sides = self.sides[:: 1 if round_ % 2 == 0 else -1]
            for side in sides:
                mine = [m for m in chosen if m in side.measures and m not in self.failed(side)]
                names = [m for m in mine if MEASURES[m].group == group]
                if names and side.peer and PEERS[side.peer].slow_start:
                    names = [] if side.name in started else mine
                    started.add(side.name)
                if names:
                    yield side, names

    def failed(self, side: Side) -> dict[str, str]:
        return self.failures.get(side.name, {})

    def process(self, side: Side, path: pathlib.Path, names: Sequence[str]) -> dict[str, Any]:
        """What the side prints; an error for each measure where it prints nothing."""
        peer = PEERS[side.peer] if side.peer else None
        python = str(peer.python) if peer else sys.executable
        script = str(SCRIPTS / (peer.script if peer else LMSTACK))
        command = [python, script, *side.arguments, "measure", str(path), *names]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=SIDE_SECONDS,
                env=quiet_environment(self.args.threads),
            )
        except subprocess.TimeoutExpired:
            return {name: {"error": f"no result within {SIDE_SECONDS} s"} for name in names}
        try:
            found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        except (IndexError, ValueError):
            said = f"exit {done.returncode}: {(done.stderr or done.stdout)[-2000:]}"
            return {name: {"error": said} for name in names}
        return found

    def round(self, paths: dict[str, Any], texts: tuple[str, Ids], scratch: pathlib.Path) -> None:
        task = job(paths, *texts, self.rounds, QUICK if self.args.quick else Size(self.args.short))
        for name in ("embed_short", "embed_long"):
            files = {side.name: str(scratch / f"{side.name}-{name}.npy") for side in self.sides}
            task[name]["vectors"] = files
        path = scratch / f"round-{self.rounds}.json"
        path.write_text(json.dumps(task))
        if self.rounds == 0 and "transformers" in (side.name for side in self.sides):
            self.say("the reference: transformers in float32")
            side = next(side for side in self.sides if side.name == "transformers")
            found = self.process(side, path, ["reference"])["reference"]
            self.reference = found.get("reference", {})
            if "error" in found:
                self.problems.append(f"no reference: {found['error']}")
        for side, names in self.tasks(self.rounds):
            with others_busy() as others:
                answers = self.process(side, path, names)
            for name, found in answers.items():
                self.keep(side, name, found, others[0])
        for name in ("embed_short", "embed_long"):
            self.compare_vectors(name, task[name]["vectors"])
        self.rounds += 1

    def keep(self, side: Side, name: str, found: dict[str, Any], others: float | None) -> None:
        if "error" in found:
            self.failures.setdefault(side.name, {})[name] = found["error"]
            self.say(f"{name:18}{side.name:32} failed: {found['error'][-300:]}")
            return
        figures = [float(f) for f in found["figures"]]
        self.raw[name].setdefault(side.name, []).append({"figures": figures, "others": others})
        notes = {k: found[k] for k in ("requests", "cached_tokens", "served") if k in found}
        self.rates = found.get("machine", self.rates)
        if notes:
            self.checks.setdefault(name, {}).setdefault(side.name, {}).update(notes)
        if "weight_bytes" in found and side is SIDES[0]:
            self.weight_bytes[name] = found["weight_bytes"]
        # Only the first round's translations have a reference.
        comparable = name == "decode" or self.rounds == 0
        if "tokens" in found and name in self.reference and comparable:
            same = agreement(found["tokens"], self.reference[name])
            self.checks.setdefault(name, {}).setdefault(side.name, {}).update(same)
        shown = " ".join(f"{figure:.4g}" for figure in figures)
        beside = f" (others take {others:.0%} of the machine)" if others and others > 0.05 else ""
        self.say(f"{name:18}{side.name:32} {shown} {MEASURES[name].unit}{beside}")

    def compare_vectors(self, name: str, files: dict[str, str]) -> None:
        """Cosine with sentence-transformers in float32, the lowest of all rounds and the mean."""
        found = {s: np.load(f) for s, f in files.items() if pathlib.Path(f).is_file()}
        if name not in self.args.only or REFERENCE_COSINE not in found:
            return
        reference = found[REFERENCE_COSINE]
        reference = reference / np.linalg.norm(reference, axis=1, keepdims=True)
        for side, vectors in found.items():
            cosines = (vectors * reference).sum(1) / np.linalg.norm(vectors, axis=1)
            check = self.checks.setdefault(name, {}).setdefault(side, {})
            check["cosine_min"] = min(check.get("cosine_min", 1.0), float(cosines.min()))
            check["cosine_mean"] = float(cosines.mean())

    # -- results

    def sane(self) -> list[str]:
        """What is wrong with the outputs that are compared."""
        wrong = list(self.problems)
        for name, sides in self.checks.items():
            for side, check in sides.items():
                if check.get("cosine_min", 1.0) < 0.99:
                    wrong.append(f"{name}: {side} has cosine {check['cosine_min']:.4f}, below 0.99")
                if check.get("begin", 1.0) < 0.5:
                    wrong.append(
                        f"{name}: only {check['begin']:.0%} of the texts of {side} begin like "
                        "those of transformers in float32"
                    )
        return wrong

    def result(self) -> dict[str, Any]:
        flat = {name: {s: every(r) for s, r in sides.items()} for name, sides in self.raw.items()}
        read = self.weight_bytes.get("decode")
        best, missing = ratios(flat, read, "best")
        medians, _ = ratios(flat, read, "median")
        return {
            "machine": processor(),
            "cores": os.cpu_count(),
            "threads": self.args.threads,
            "short": self.args.short,
            "quick": self.args.quick,
            "rounds": self.rounds,
            "complete": self.rounds == self.args.rounds,
            "seconds": round(time.monotonic() - self.start),
            "versions": {package: version(package) for package in ("lmstack", "torch")},
            "peers": self.peers,
            "ratios": best,
            "ratios_of_medians": medians,
            "missing": missing,
            "checks": self.checks,
            "problems": self.sane(),
            "failures": self.failures,
            "weight_bytes": self.weight_bytes,
            "rates": self.rates,
            "measures": {
                name: {
                    "title": MEASURES[name].title,
                    "unit": MEASURES[name].unit,
                    "note": MEASURES[name].note,
                    "sides": {s: summary(f) | {"raw": self.raw[name][s]} for s, f in sides.items()},
                }
                for name, sides in flat.items()
            },
        }

    def write(self) -> dict[str, Any]:
        result = self.result()
        self.args.json.parent.mkdir(parents=True, exist_ok=True)
        self.args.json.write_text(json.dumps(result, indent=1) + "\n")
        return result


def every(rounds: Iterable[dict[str, Any]]) -> list[float]:
    """The figures of all rounds."""
    return [figure for once in rounds for figure in once["figures"]]


# --- the command -------------------------------------------------------------------------------


def table(result: dict[str, Any]) -> None:
    for measure in result["measures"].values():
        print(f"\n{measure['title']} ({measure['unit']}): best, median, spread")
        for side, row in sorted(measure["sides"].items(), key=lambda item: -item[1]["best"]):
            print(f"  {side:32}{row['best']:>12.5g}{row['median']:>12.5g}{row['spread']:>8.0%}")
    print("\nRatios, of the best and of the medians (above 1: lmstack is faster)")
    for key, ratio in result["ratios"].items():
        if ratio is None:
            print(f"  {key:40}{'-':>8}  {result['missing'][key]}")
        else:
            print(f"  {key:40}{ratio:>8.2f}{result['ratios_of_medians'][key]:>8.2f}")
    for problem in result["problems"]:
        print(f"  problem: {problem}")


def chosen(text: str, known: Sequence[str]) -> list[str]:
    """Names of a comma-separated list."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r}; known: {', '.join(known)}")
    return names


def arguments() -> argparse.Namespace:
    peers = [name for name in PEERS if not any(p.fallback == name for p in PEERS.values())]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--short", action="store_true", help="fewer repeats, without vLLM")
    parser.add_argument("--only", type=lambda t: chosen(t, list(MEASURES)), help="measures, a,b,c")
    parser.add_argument("--peers", type=lambda t: chosen(t, list(PEERS)), help="peers, a,b,c")
    parser.add_argument("--rounds", type=int, help="default: 5, short 3, quick 1")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    add_options(parser, "serving")
    args = parser.parse_args()
    if args.json is None:
        # A part of the measures does not replace the whole.
        part = args.only is not None or args.peers is not None
        args.json = result_file(args, "serving")
        if part:
            args.json = pathlib.Path(tempfile.gettempdir()) / "serving-part.json"
    args.only = args.only or list(MEASURES)
    if args.peers is None:
        less = args.short or args.quick
        args.peers = [name for name in peers if PEERS[name].quick or not less]
    if args.quick:  # what compiles for minutes is left to whole runs
        args.peers = [PEERS[name].fallback or name for name in args.peers]
    args.rounds = args.rounds or (1 if args.quick else 3 if args.short else 5)
    return args


def main() -> None:
    args = arguments()
    run = Run(args)
    print(f"{processor()}, {args.threads} threads", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        try:
            run.say("models as the peers want them")
            from lmstack.registry import load_text

            paths = sources()
            corpus = "\n\n".join(p.read_text() for p in sorted((HERE.parent / "docs").glob("*.md")))
            gemma = list(load_text(GEMMA).tokenizer.encode(corpus))
            run.build(paths, scratch)
            built = run.start = time.monotonic()
            for _ in range(args.rounds):
                run.round(paths, (corpus, gemma), scratch)
                run.write()
            run.say(f"measured in {(time.monotonic() - built) / 60:.1f} minutes")
        except KeyboardInterrupt:
            if not any(run.raw.values()):
                raise SystemExit(130) from None
            print("\ninterrupted; what was measured is kept", flush=True)
    table(run.write())
    print(f"\nwritten to {args.json}")
    if run.rounds < args.rounds:
        raise SystemExit(130)
    if any("lmstack" in problem for problem in run.sane()):
        raise SystemExit("outputs of lmstack are not what they should be; see above")


if __name__ == "__main__":
    main()
