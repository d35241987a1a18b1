"""Throughput of an encoder-decoder beside transformers and CTranslate2, in one run.

    make bench-seq2seq                         all of it, about ten minutes
    python benchmarks/seq2seq.py --only greedy one measurement
    python benchmarks/seq2seq.py --json FILE   where the result goes (default: results/seq2seq.json)

The model is flan-t5-small-titles; every side has its weights, reads the same token ids and writes
exactly 32 tokens for each input. CTranslate2 lives in an environment of its own,
`benchmarks/.envs/ctranslate2`, made at the first run, and converts the folder that transformers
loads. Each side runs in a fresh process with all cores; sides alternate, and the best of the
rounds counts, because shared machines stall for seconds at a time. transformers and CTranslate2
get the inputs sorted by length in batches of 32, the case that suits them best; lmstack gets them
as separate requests. "agree" is the share of inputs for which a side writes the very tokens that
transformers writes in float32.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

HERE = pathlib.Path(__file__).parent
ENVIRONMENT = HERE / ".envs" / "ctranslate2"
CTRANSLATE2 = "4.8.5"
MODEL = "flan-t5-small-titles"
NEW, BATCH = 32, 32
ROUNDS = 2
# name: (title, inputs, beams)
MEASUREMENTS = {
    "single": ("one input after another, greedy", 4, 1),
    "greedy": ("64 inputs at once, greedy", 64, 1),
    "beams": ("16 inputs at once, 4 beams", 16, 4),
}
SIDES = (
    ("transformers", "float32"),
    ("transformers", "bfloat16"),
    ("ctranslate2", "float32"),
    ("ctranslate2", "int8"),
    ("lmstack", "float32"),
    ("lmstack", "bfloat16"),
)
Ids = list[int]


def inputs(count: int, encode: Callable[[str], Sequence[int]]) -> list[Ids]:
    """``count`` passages of the docs, of 16 to 80 words, that begin differently."""
    words = " ".join(p.read_text() for p in sorted((HERE.parent / "docs").glob("*.md"))).split()
    step = len(words) // count - 1
    texts = (" ".join(words[i * step : i * step + 16 + i % 65]) for i in range(count))
    return [list(encode(f"Passage {i}. Summarize: {t}"))[-200:] for i, t in enumerate(texts)]


# --- the sides: each in a process of its own ---------------------------------------------------


def lmstack_side(folder: pathlib.Path, dtype: str, batch: list[Ids], beams: int, single: bool):
    from lmstack.core import Request, SamplingParams, complete
    from lmstack.serve import LocalModel

    model = LocalModel.load(folder, dtype=dtype)
    sampling = SamplingParams(
        max_tokens=NEW, min_tokens=NEW, temperature=0, num_beams=beams, logprobs=0
    )

    async def run(some: list[Ids]) -> list[Ids]:
        asked = [complete(model, Request(prompt=tuple(ids), sampling=sampling)) for ids in some]
        done = [await a for a in asked] if single else await asyncio.gather(*asked)
        return [[p.id for p in d.choices[0].logprobs] for d in done]

    # What has been read once is not read again, so the warm-up has inputs of its own.
    asyncio.run(run([[*ids[::-1], 1] for ids in batch[:4]]))
    return lambda: asyncio.run(run(batch))


def transformers_side(folder: pathlib.Path, dtype: str, batch: list[Ids], beams: int, single: bool):
    import torch
    import transformers

    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    model = model.eval()

    def group(some: list[Ids]) -> list[Ids]:
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

    group(batch[:2])
    return lambda: in_groups(batch, group, 1 if single else BATCH)


def ctranslate2_side(folder: pathlib.Path, dtype: str, batch: list[Ids], beams: int, single: bool):
    sys.path.insert(0, str(ENVIRONMENT))
    import ctranslate2
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    translator = ctranslate2.Translator(
        str(folder / f"ct2-{dtype}"), compute_type=dtype, intra_threads=os.cpu_count() or 1
    )

    def group(some: list[Ids]) -> list[Ids]:
        out = translator.translate_batch(
            [[tokenizer.id_to_token(i) for i in ids] for ids in some],
            beam_size=beams,
            min_decoding_length=NEW,
            max_decoding_length=NEW,
        )
        return [[tokenizer.token_to_id(t) for t in o.hypotheses[0]] for o in out]

    group(batch[:2])
    return lambda: in_groups(batch, group, 1 if single else BATCH)


def in_groups(batch: list[Ids], group: Callable[[list[Ids]], list[Ids]], size: int) -> list[Ids]:
    """Sorted by length, in groups of ``size``; the results in the order of ``batch``."""
    order = sorted(range(len(batch)), key=lambda i: len(batch[i]))
    found: dict[int, Ids] = {}
    for start in range(0, len(order), size):
        some = order[start : start + size]
        found |= dict(zip(some, group([batch[i] for i in some]), strict=True))
    return [found[i] for i in range(len(batch))]


def side(name: str, dtype: str, measurement: str, folder: pathlib.Path) -> None:
    import tokenizers

    _, count, beams = MEASUREMENTS[measurement]
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    batch = inputs(count, lambda text: tokenizer.encode(text).ids)
    sides = {
        "lmstack": lmstack_side,
        "transformers": transformers_side,
        "ctranslate2": ctranslate2_side,
    }
    run = sides[name](folder, dtype, batch, beams, measurement == "single")
    start = time.perf_counter()
    found = run()
    print(json.dumps({"seconds": time.perf_counter() - start, "tokens": found}))


# --- the run ------------------------------------------------------------------------------------


def run_side(name: str, dtype: str, measurement: str, folder: pathlib.Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, "--side", name, dtype, measurement, str(folder)],
        capture_output=True,
        text=True,
        timeout=1800,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"},
    )
    if done.returncode:
        raise SystemExit(f"{name} {dtype} {measurement} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def prepare(folder: pathlib.Path) -> None:
    """The model as a folder that transformers loads, and as CTranslate2 wants it."""
    import lmstack

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


def measure(name: str, folder: pathlib.Path) -> dict[str, Any]:
    title, count, beams = MEASUREMENTS[name]
    print(f"\n{title}", flush=True)
    runs: dict[str, list[dict[str, Any]]] = {f"{s} {d}": [] for s, d in SIDES}
    for _ in range(ROUNDS):
        for who, dtype in SIDES:
            runs[f"{who} {dtype}"].append(run_side(who, dtype, name, folder))
    reference = runs["transformers float32"][0]["tokens"]
    rows = {}
    for label, each in runs.items():
        best = min(r["seconds"] for r in each)
        same = sum(a == b for a, b in zip(each[0]["tokens"], reference, strict=True))
        rows[label] = {
            "tokens_per_s": count * NEW / best,
            "seconds": [r["seconds"] for r in each],
            "agree": same / count,
        }
        print(
            f"  {label:24}{rows[label]['tokens_per_s']:>8.0f} tokens/s   agree {same}/{count}",
            flush=True,
        )
    return {"title": title, "inputs": count, "beams": beams, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=list(MEASUREMENTS))
    parser.add_argument("--json", type=pathlib.Path, default=HERE / "results" / "seq2seq.json")
    parser.add_argument("--side", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        side(*args.side[:3], pathlib.Path(args.side[3]))
        return
    sys.path.insert(0, str(HERE))
    from spine import processor

    result: dict[str, Any] = {
        "machine": processor(),
        "cores": os.cpu_count(),
        "versions": {p: version(p) for p in ("lmstack", "torch", "transformers")}
        | {"ctranslate2": CTRANSLATE2},
        "new_tokens": NEW,
    }
    print(f"{result['machine']}, {result['cores']} cores")
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        prepare(folder)
        chosen = [args.only] if args.only else list(MEASUREMENTS)
        result["rows"] = {name: measure(name, folder) for name in chosen}
    if args.only is None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
