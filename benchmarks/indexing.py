"""`lmstack index add` of 4 MB of text with its default settings, beside what embeds its passages.

    make bench-indexing                  some twenty minutes on two quiet cores
    make bench-indexing QUICK=1          a few files, one round; records nothing
    python benchmarks/indexing.py --rounds 3 --seconds 300

The texts are State of the Union addresses, cut to some 17,000 characters each. lmstack's figure is
that of the command as typed, from its start to its end: start, load, read, cut, embed, store. A
peer only embeds the same passages, its start and load left out; each has an environment of its own
(`serving_environments`), which is built at the first run and kept. In each round every side runs in
a fresh process, one after the other, in another order each time, for `--seconds` at most (its rate
is that of what it did until then); the best round counts. A side that is less than half as fast as
the fastest is not measured again. The lowest cosine of each side's vectors is to those of
sentence-transformers in float32.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from machine import machine
from passages import speeches
from serving_environments import CACHE, PEERS, BuildError, Peer, build, versions
from serving_models import quiet_environment
from spine import HERE
from spine_sides import Recorder

from lmstack.app.wiring.retrieval import DEFAULT_EMBEDDER, embedder_named
from lmstack.rag import Index
from lmstack.registry import Store

SCRIPT = HERE / "indexing_peers" / "embed.py"
FILES, CHARACTERS = 235, 17_000
ROUNDS, SECONDS = 2, 240
QUICK_FILES, QUICK_SECONDS = 4, 5
# A side that misses the best by more is not measured again.
FAR = 2.0
REFERENCE = "sentence-transformers float32"
ADD = "lmstack index add"


@dataclass(frozen=True)
class Side:
    """``peer``: whose environment; None for lmstack itself."""

    name: str
    library: str
    form: str
    peer: Peer | None


SIDES = (
    Side(ADD, "", "", None),
    Side("lmstack, embedding alone", "lmstack", "default", None),
    *(
        Side(f"{title} {form}", library, form, PEERS[library])
        for title, library, forms in (
            ("sentence-transformers", "sentence_transformers", ("float32", "bfloat16")),
            ("ONNX Runtime", "onnxruntime", ("int8", "float32")),
            ("OpenVINO", "openvino", ("int8", "float32")),
        )
        for form in forms
    ),
)


@dataclass
class Work:
    """``folder`` holds the documents, ``scratch`` what a run leaves; ``texts``: their passages as
    they are embedded, in an order that says nothing about their lengths."""

    folder: pathlib.Path
    scratch: pathlib.Path
    texts: list[str]

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.iterdir())


def prepare(scratch: pathlib.Path, files: int) -> Work:
    folder = scratch / "files"
    folder.mkdir()
    for number, speech in enumerate(speeches()[:files]):
        (folder / f"{number:03}.txt").write_text(speech[:CHARACTERS], "utf-8")
    recorder = Recorder(embedder_named(DEFAULT_EMBEDDER))
    with Index.open(scratch / "recorded.idx", recorder) as index:
        index.add([folder])
    texts = list(recorder.passages)
    random.Random(0).shuffle(texts)
    (scratch / "texts.json").write_text(json.dumps(texts))
    return Work(folder, scratch, texts)


# --- sides ---------------------------------------------------------------------------------------


def add(work: Work, threads: int) -> dict[str, Any]:
    """The command as it is typed, into a new index."""
    place = work.scratch / "added.idx"
    shutil.rmtree(place, ignore_errors=True)
    command = [sys.executable, "-m", "lmstack", "index", "add", "--index", place, work.folder]
    start = time.perf_counter()
    done = _run([*command, "--json"], threads)
    seconds = time.perf_counter() - start
    said = json.loads(done)
    if said["problems"]:
        raise RuntimeError(f"not all was indexed: {said['problems'][:3]}")
    return {"texts": said["chunks"], "seconds": seconds, "update_seconds": said["seconds"]}


def embed_alone(work: Work, side: Side, threads: int, seconds: float) -> dict[str, Any]:
    """In a process of its own, by this file."""
    job = _job(work, side, threads, seconds)
    return _last(_run([sys.executable, __file__, "--side", job], threads))


def lmstack_side(path: pathlib.Path) -> None:
    """What `embed_alone` runs: as `indexing_peers/embed.py` does it, with our embedder."""
    sys.path.insert(0, str(SCRIPT.parent))
    import embed as peers

    embedder = embedder_named(DEFAULT_EMBEDDER)
    peers.LIBRARIES["lmstack"] = lambda _: embedder.embed
    found = peers.measure(json.loads(path.read_text()))
    print("\n" + json.dumps(found | {"digest": embedder.info.digest}))


def peer_side(work: Work, side: Side, threads: int, seconds: float) -> dict[str, Any]:
    assert side.peer is not None
    job = _job(work, side, threads, seconds)
    return _last(_run([side.peer.python, SCRIPT, "measure", job], threads))


def _job(work: Work, side: Side, threads: int, seconds: float) -> pathlib.Path:
    model = Store().resolve(DEFAULT_EMBEDDER).path
    settings = json.loads((model / "sentence_bert_config.json").read_text())
    path = work.scratch / f"{side.library}-{side.form}.json"
    path.write_text(
        json.dumps(
            {
                "library": side.library,
                "form": side.form,
                "model": str(model),
                "max_tokens": settings["max_seq_length"],
                "converted": str(_converted(side)),
                "texts": str(work.scratch / "texts.json"),
                "vectors": str(_vectors(work, side)),
                "threads": threads,
                "seconds": seconds,
            }
        )
    )
    return path


def _vectors(work: Work, side: Side) -> pathlib.Path:
    return work.scratch / f"{side.library}-{side.form}.npy"


def _converted(side: Side) -> pathlib.Path:
    """Where the model of a side lies in its own format, one for each build and model."""
    wanted = [side.peer.wanted if side.peer else None, Store().resolve(DEFAULT_EMBEDDER).digest]
    key = hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:16]
    return CACHE / "models" / f"indexing-{side.library}-{key}"


def _run(command: Sequence[object], threads: int) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        errors="replace",
        env=quiet_environment(threads),
    )
    if done.returncode:
        raise RuntimeError(f"exit {done.returncode}: {(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


def _last(printed: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
    return found


# --- the run -------------------------------------------------------------------------------------


def built(work: Work, sides: Sequence[Side]) -> Iterator[tuple[Side, str]]:
    """Each side with why it cannot run, "" where it can: its environment and model are made."""
    for side in sides:
        problem = ""
        if side.peer is not None:
            try:
                build(side.peer)
                _convert(work, side)
            except (BuildError, RuntimeError) as error:
                problem = str(error)
        yield side, problem


def _convert(work: Work, side: Side) -> None:
    target = _converted(side)
    assert side.peer is not None
    if not side.peer.converts or target.is_dir():
        return
    making = target.with_name(f"{target.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    job = _job(work, side, os.cpu_count() or 1, 0)
    job.write_text(json.dumps(json.loads(job.read_text()) | {"converted": str(making)}))
    _run([side.peer.python, SCRIPT, "convert", job], os.cpu_count() or 1)
    making.rename(target)


def measured(work: Work, side: Side, args: argparse.Namespace) -> dict[str, Any]:
    if side.name == ADD:
        return add(work, args.threads)
    if side.peer is None:
        return embed_alone(work, side, args.threads, args.seconds)
    return peer_side(work, side, args.threads, args.seconds)


def rounds(
    work: Work, sides: Sequence[Side], args: argparse.Namespace, failures: dict[str, str]
) -> dict[str, Any]:
    """What each side did in each round, by its name; ``failures`` also takes those that fail."""
    raw: dict[str, list[dict[str, Any]]] = {side.name: [] for side in sides}
    for number in range(args.rounds):
        best = max((rate(each) for each in raw.values() if each), default=0.0)
        for side in sides[:: 1 if number % 2 == 0 else -1]:
            if side.name in failures:
                continue
            if raw[side.name] and rate(raw[side.name]) * FAR < best:
                continue
            try:
                found = measured(work, side, args)
            except RuntimeError as error:
                failures[side.name] = str(error)
                continue
            raw[side.name].append(found)
            print(f"  {side.name:32}{found['texts'] / found['seconds']:8.1f} texts/s", flush=True)
    return raw


def rate(done: Sequence[dict[str, Any]]) -> float:
    """The best of all rounds, texts a second."""
    return max(float(each["texts"] / each["seconds"]) for each in done)


def cosines(work: Work, sides: Sequence[Side]) -> dict[str, dict[str, float]]:
    """Of each side's vectors with the reference's, as far as both came."""
    found = {side.name: _vectors(work, side) for side in sides}
    if REFERENCE not in found or not found[REFERENCE].exists():
        return {}
    reference = np.load(found[REFERENCE])
    rows = {}
    for name, path in found.items():
        if not path.exists():
            continue
        vectors = np.load(path)
        both = min(len(vectors), len(reference))
        a, b = vectors[:both], reference[:both]
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        alike = (a * b).sum(axis=1) / lengths
        rows[name] = {"texts": both, "least": float(alike.min()), "mean": float(alike.mean())}
    return rows


def result(
    work: Work, sides: Sequence[Side], raw: dict[str, Any], failures: dict[str, str]
) -> dict[str, Any]:
    rates = {name: rate(done) for name, done in raw.items() if done}
    peers = {side.name: rates[side.name] for side in sides if side.peer and side.name in rates}
    best = max(peers, key=peers.__getitem__, default=None)
    return {
        "machine": machine(),
        "files": len(list(work.folder.iterdir())),
        "bytes": work.bytes,
        "passages": len(work.texts),
        "texts_per_second": {name: round(each, 1) for name, each in rates.items()},
        "best_peer": best,
        "ratio": None if best is None else round(rates[ADD] / peers[best], 3),
        "cosine_to_float32": cosines(work, sides),
        "failures": failures,
        "versions": {side.peer.name: versions(side.peer) for side in sides if side.peer},
        "raw": raw,
    }


def print_result(found: dict[str, Any]) -> None:
    print(f"\n{found['files']} files, {found['bytes'] / 1e6:.1f} MB, {found['passages']} passages")
    for name, each in sorted(found["texts_per_second"].items(), key=lambda item: -item[1]):
        alike = found["cosine_to_float32"].get(name)
        least = "" if alike is None else f"   cosine to float32 at least {alike['least']:.4f}"
        print(f"  {name:32}{each:8.1f} texts/s{least}")
    for name, why in found["failures"].items():
        print(f"  {name} cannot run: {why[-300:]}")
    if found["ratio"] is not None:
        print(f"\n{ADD} is {found['ratio']:.2f} times as fast as {found['best_peer']} embeds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a few files; records nothing")
    parser.add_argument("--rounds", type=int, help=f"default: {ROUNDS}, quick 1")
    parser.add_argument("--seconds", type=float, help=f"of a peer in a round: {SECONDS}")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=pathlib.Path, default=HERE / "results" / "indexing.json")
    parser.add_argument("--side", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side is not None:
        lmstack_side(args.side)
        return
    args.rounds = args.rounds or (1 if args.quick else ROUNDS)
    args.seconds = args.seconds or (QUICK_SECONDS if args.quick else SECONDS)
    with tempfile.TemporaryDirectory() as scratch:
        work = prepare(pathlib.Path(scratch), QUICK_FILES if args.quick else FILES)
        print(f"{len(work.texts)} passages", flush=True)
        failures = {side.name: why for side, why in built(work, SIDES) if why}
        sides = [side for side in SIDES if side.name not in failures]
        raw = rounds(work, sides, args, failures)
        found = result(work, sides, raw, failures)
    print_result(found)
    if not args.quick:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
