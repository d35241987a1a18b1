"""Throughput of an encoder-decoder beside transformers and CTranslate2, in one run.

    make bench-seq2seq                         all of it, about ten minutes
    python benchmarks/seq2seq.py --only greedy one measurement
    python benchmarks/seq2seq.py --threads 2   threads of each side (default: 1)
    python benchmarks/seq2seq.py --json FILE   where the result goes (default: results/seq2seq.json)

The model is flan-t5-small-titles; every side has its weights, reads the same token ids and writes
exactly 32 tokens for each input. CTranslate2 lives in an environment of its own,
`benchmarks/.envs/ctranslate2`, made at the first run, and converts the folder that transformers
loads. Each side runs in a fresh process. With one thread the figure is tokens per second of
processor time, all threads of the process counted, which other work on the machine hardly moves;
with more it is tokens per second. transformers and CTranslate2 get the inputs sorted by length in
batches of 32, the case that suits them best; lmstack gets them as separate requests. "agree" is
the share of inputs for which a side writes the very tokens that transformers writes in float32.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from recording import add_options, result_file

HERE = pathlib.Path(__file__).parent
ENVIRONMENT = HERE / ".envs" / "ctranslate2"
CTRANSLATE2 = "4.8.5"
MODEL = "flan-t5-small-titles"
NEW, BATCH = 32, 32
# Scripts beside this one may be named like packages that are imported here.
sys.path[:] = [p for p in sys.path if pathlib.Path(p).resolve() != HERE.resolve()]
ROUNDS = 1
# name: (title, inputs, beams)
MEASUREMENTS = {
    "single": ("one input after another, greedy", 4, 1),
    "greedy": ("32 inputs at once, greedy", 32, 1),
    "beams": ("8 inputs at once, 4 beams", 8, 4),
}
SIDES = (
    ("transformers", "float32"),
    ("transformers", "bfloat16"),
    ("ctranslate2", "float32"),
    ("ctranslate2", "int8"),
    ("lmstack", "float32"),
    ("lmstack", "bfloat16"),
    ("lmstack", "int8"),
)
Ids = list[int]


def inputs(corpus: str, count: int, encode: Callable[[str], Sequence[int]]) -> list[Ids]:
    """``count`` passages, of 16 to 80 words, that begin differently."""
    words = corpus.split()
    step = len(words) // count - 1
    texts = (" ".join(words[i * step : i * step + 16 + i % 65]) for i in range(count))
    return [list(encode(f"Passage {i}. Summarize: {t}"))[-200:] for i, t in enumerate(texts)]


# --- the sides: each in a process of its own ---------------------------------------------------

Run = Callable[[list[Ids], int, bool], list[Ids]]


def lmstack_side(folder: pathlib.Path, dtype: str) -> Run:
    from lmstack.core import Request, SamplingParams, complete
    from lmstack.engine import EngineConfig
    from lmstack.serve import LocalModel

    # What was read before is not read again, which would not be fair here.
    model = LocalModel.load(folder, weights=dtype, engine=EngineConfig(prefix_cache=False))

    async def run(batch: list[Ids], beams: int, single: bool) -> list[Ids]:
        sampling = SamplingParams(
            max_tokens=NEW, min_tokens=NEW, temperature=0, num_beams=beams, logprobs=0
        )
        asked = [complete(model, Request(prompt=tuple(ids), sampling=sampling)) for ids in batch]
        done = [await a for a in asked] if single else await asyncio.gather(*asked)
        return [[p.id for p in d.choices[0].logprobs] for d in done]

    return lambda batch, beams, single: asyncio.run(run(batch, beams, single))


def transformers_side(folder: pathlib.Path, dtype: str) -> Run:
    import torch
    import transformers

    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    model = model.eval()

    def group(some: list[Ids], beams: int) -> list[Ids]:
        width = max(map(len, some))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in some])
        with torch.inference_mode():
            out = model.generate(
                ids,
                attention_mask=(ids != 0).long(),
                num_beams=beams,
                do_sample=False,
                min_new_tokens=NEW,
                max_new_tokens=NEW,
            )
        return out[:, 1:].tolist()

    return lambda batch, beams, single: in_groups(batch, beams, group, 1 if single else BATCH)


def ctranslate2_side(folder: pathlib.Path, dtype: str) -> Run:
    sys.path.insert(0, str(ENVIRONMENT))
    import ctranslate2
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    translator = ctranslate2.Translator(
        str(folder / f"ct2-{dtype}"),
        compute_type=dtype,
        intra_threads=int(os.environ["OMP_NUM_THREADS"]),
    )

    def group(some: list[Ids], beams: int) -> list[Ids]:
        out = translator.translate_batch(
            [[tokenizer.id_to_token(i) for i in ids] for ids in some],
            beam_size=beams,
            min_decoding_length=NEW,
            max_decoding_length=NEW,
        )
        return [[tokenizer.token_to_id(t) for t in o.hypotheses[0]] for o in out]

    return lambda batch, beams, single: in_groups(batch, beams, group, 1 if single else BATCH)


def in_groups(
    batch: list[Ids], beams: int, group: Callable[[list[Ids], int], list[Ids]], size: int
) -> list[Ids]:
    """Sorted by length, in groups of ``size``; the results in the order of ``batch``."""
    order = sorted(range(len(batch)), key=lambda i: len(batch[i]))
    found: dict[int, Ids] = {}
    for start in range(0, len(order), size):
        some = order[start : start + size]
        found |= dict(zip(some, group([batch[i] for i in some], beams), strict=True))
    return [found[i] for i in range(len(batch))]


def side(name: str, dtype: str, folder: pathlib.Path, names: Sequence[str]) -> None:
    """Each of the measurements ``names`` after a warm-up; prints seconds and tokens."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    sides = {
        "lmstack": lmstack_side,
        "transformers": transformers_side,
        "ctranslate2": ctranslate2_side,
    }
    run = sides[name](folder, dtype)
    corpus = (folder / "corpus.txt").read_text()
    found = {}
    for measurement in names:
        _, count, beams = MEASUREMENTS[measurement]
        batch = inputs(corpus, count, lambda text: list(tokenizer.encode(text).ids))
        run(batch[:2], beams, True)
        start, processor = time.perf_counter(), time.process_time()
        tokens = run(batch, beams, measurement == "single")
        found[measurement] = {
            "seconds": time.perf_counter() - start,
            "processor_seconds": time.process_time() - processor,
            "tokens": tokens,
        }
    print(json.dumps(found))


# --- the run ------------------------------------------------------------------------------------


def run_side(
    name: str, dtype: str, folder: pathlib.Path, names: Sequence[str], options: argparse.Namespace
) -> dict[str, Any]:
    quick = ["--quick"] if options.quick else []
    done = subprocess.run(
        [sys.executable, __file__, *quick, "--side", name, dtype, str(folder), *names],
        capture_output=True,
        text=True,
        timeout=1800,
        env=os.environ
        | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
        | {"OMP_NUM_THREADS": str(options.threads)},
    )
    if done.returncode:
        raise SystemExit(f"{name} {dtype} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def prepare(folder: pathlib.Path) -> None:
    """The model as a folder that transformers loads, and as CTranslate2 wants it; and the docs as
    they are now, so that all sides read the same."""
    import lmstack

    docs = sorted((HERE.parent / "docs").glob("*.md"))
    (folder / "corpus.txt").write_text(" ".join(p.read_text() for p in docs))

    with lmstack.load(MODEL, dtype="float32") as model:
        model.save(folder)
    if not (ENVIRONMENT / "ctranslate2").is_dir():
        packages = (f"ctranslate2=={CTRANSLATE2}", "pyyaml", "setuptools")
        where = ("--quiet", "--no-deps", "--target", str(ENVIRONMENT))
        subprocess.run([sys.executable, "-m", "pip", "install", *where, *packages], check=True)
    sys.path.insert(0, str(ENVIRONMENT))
    from ctranslate2.converters import TransformersConverter

    for dtype in ("float32", "int8"):
        converter = TransformersConverter(str(folder))
        converter.convert(str(folder / f"ct2-{dtype}"), quantization=dtype)


def smaller() -> None:
    """A quick run's inputs."""
    for name, (title, count, beams) in MEASUREMENTS.items():
        MEASUREMENTS[name] = (title, max(2, count // 8), beams)


def summary(name: str, runs: dict[str, list[dict[str, Any]]], kind: str) -> dict[str, Any]:
    """One measurement of all sides, printed and as it goes into the results."""
    title, count, beams = MEASUREMENTS[name]
    print(f"\n{title}")
    reference = runs["transformers float32"][0][name]["tokens"]
    rows = {}
    for label, rounds in runs.items():
        seconds = [found[name][kind] for found in rounds]
        tokens = rounds[0][name]["tokens"]
        same = sum(a == b for a, b in zip(tokens, reference, strict=True))
        rate = count * NEW / min(seconds)
        rows[label] = {"tokens_per_s": rate, "seconds": seconds, "agree": same / count}
        print(f"  {label:24}{rate:>8.0f} tokens/s   agree {same}/{count}", flush=True)
    return {"title": title, "inputs": count, "beams": beams, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=list(MEASUREMENTS))
    add_options(parser, "seq2seq")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--side", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        smaller()
    if args.side:
        name, dtype, folder, *names = args.side
        side(name, dtype, pathlib.Path(folder), names)
        return
    kind = "processor_seconds" if args.threads == 1 else "seconds"
    result: dict[str, Any] = {
        "machine": runpy.run_path(str(HERE / "spine.py"))["processor"](),
        "cores": os.cpu_count(),
        "versions": {p: version(p) for p in ("lmstack", "torch", "transformers")}
        | {"ctranslate2": CTRANSLATE2},
        "new_tokens": NEW,
        "threads": args.threads,
        "time": kind,
    }
    print(f"{result['machine']}, {result['cores']} cores", flush=True)
    chosen = [args.only] if args.only else list(MEASUREMENTS)
    runs: dict[str, list[dict[str, Any]]] = {f"{s} {d}": [] for s, d in SIDES}
    with tempfile.TemporaryDirectory() as scratch:
        prepare(pathlib.Path(scratch))
        for _ in range(ROUNDS):
            for name, dtype in SIDES:
                runs[f"{name} {dtype}"].append(
                    run_side(name, dtype, pathlib.Path(scratch), chosen, args)
                )
    result["rows"] = {name: summary(name, runs, kind) for name in chosen}
    if args.only is None:
        result_file(args, "seq2seq").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
