"""A small encoder-decoder trained to translate the Bible's verses, beside copying the source.

    python benchmarks/train_translation.py            English to Spanish, on two cores
    python benchmarks/train_translation.py --steps N  fewer or more than the recipe's epochs
    python benchmarks/train_translation.py --quick    a few steps; records nothing

Two Debian packages carry the texts (`bitext`). Verses of at most 128 characters are kept; every
fiftieth of them is held out. A vocabulary is trained on the others, then `recipes/translation.yaml`
as it is. What counts is chrF of greedy translations of the held-out verses, served by the
engine from the folder that training wrote; beside it that of the sources themselves, which share
names and letters with their translations.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from bitext import verse_pairs
from recording import add_options, result_file
from spine import processor

from lmstack.evals.metrics.bleu import corpus_chrf

RECIPE = pathlib.Path(__file__).resolve().parents[1] / "recipes" / "translation.yaml"
LONGEST, EVERY, TOKENS = 128, 50, 6000


def written(folder: pathlib.Path) -> list[tuple[str, str]]:
    """The rows and the vocabulary of the run, in ``folder``; the held-out pairs."""
    from lmstack.text import VocabularyConfig, train_tokenizer

    pairs = [pair for pair in verse_pairs() if max(map(len, pair)) <= LONGEST]
    held = pairs[::EVERY]
    rows = [pair for place, pair in enumerate(pairs) if place % EVERY]
    with (folder / "pairs.jsonl").open("w", encoding="utf-8") as file:
        for source, target in rows:
            file.write(json.dumps({"source": source, "target": target}) + "\n")
    tokenizer = train_tokenizer((t for pair in rows for t in pair), VocabularyConfig("bpe", TOKENS))
    tokenizer.save(folder / "tokenizer")
    return held


def translated(folder: pathlib.Path, sources: list[str]) -> list[str]:
    """What the trained model writes, by the engine."""
    import lmstack

    with lmstack.load(folder) as model, ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda s: model.generate(s, temperature=0, max_tokens=100), sources))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int)
    add_options(parser, "train_translation")
    args = parser.parse_args()
    from lmstack.train import read_recipe, train

    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        os.environ["LMSTACK_HOME"] = str(folder / "home")
        held = written(folder)
        overrides = [
            f"data={folder / 'pairs.jsonl'}",
            f"tokenizer={folder / 'tokenizer'}",
            f"output={folder / 'made'}",
            f"run={folder / 'run'}",
            "validation=0.005",
        ]
        steps = 5 if args.quick else args.steps
        overrides += [f"steps={steps}"] if steps else []
        started, worked = time.perf_counter(), time.process_time()
        made = train(read_recipe(RECIPE, overrides))
        wall, work = time.perf_counter() - started, time.process_time() - worked
        held = held[:20] if args.quick else held
        sources, targets = ([pair[side] for pair in held] for side in (0, 1))
        found = translated(made.folder, sources)
    result = {
        "machine": processor(),
        "cores": os.cpu_count(),
        "parameters": made.parameters,
        "steps": made.steps,
        "tokens": made.tokens,
        "seconds": wall,
        "processor_seconds": work,
        "validation": dict(made.values),
        "held_out_verses": len(held),
        "chrf": {
            "lmstack": corpus_chrf(found, targets),
            "copying": corpus_chrf(sources, targets),
        },
        "samples": [
            {"source": source, "target": target, "lmstack": text}
            for source, target, text in list(zip(sources, targets, found, strict=True))[::40]
        ],
    }
    text = json.dumps(result, indent=1, ensure_ascii=False)
    result_file(args, "train_translation").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
