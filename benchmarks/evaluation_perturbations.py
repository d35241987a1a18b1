"""Our perturbations beside HELM's own code, on BoolQ's passages and questions.

    python benchmarks/evaluation_perturbations.py [--texts N]

Every text has to be equal; a difference ends the run with 1.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
from random import Random

from evaluation_prompts import packaged
from pinned import Wheel, wheel_files
from spine import HERE

from lmstack.evals.benchmarks.packages import PACKAGES
from lmstack.evals.benchmarks.passages import boolq_samples
from lmstack.evals.benchmarks.perturb import (
    contractions,
    dialect,
    gender_pronouns,
    mild_mix,
    misspellings,
    typos,
)

SCRIPT = HERE / "evaluation_peers" / "with_helm.py"
_NAMES = (
    *("__init__", "perturbation", "perturbation_description", "lowercase_perturbation"),
    *("space_perturbation", "misspelling_perturbation", "contraction_expansion_perturbation"),
    *("mild_mix_perturbation", "gender_perturbation", "typos_perturbation"),
    "dialect_perturbation",
)
MEMBERS = (
    *(f"helm/benchmark/augmentations/{name}.py" for name in _NAMES),
    "helm/benchmark/augmentations/correct_to_misspelling.json",
    "helm/common/general.py",
)

# HELM's list is in no package: some words of it, and one with a mark that patterns read.
DIALECT = json.dumps({"with": ["wit"], "the": ["da", "de"], "is": ["iz"], "u.s": ["us"]}).encode()


def by_helm(texts: list[tuple[str, str]]) -> dict[str, list[str]]:
    found = PACKAGES["helm_contractions"]
    first, *_ = wheel_files(Wheel(found.package, found.version, found.wheel_sha256), MEMBERS)
    root = first.parents[3]
    with tempfile.TemporaryDirectory() as folder:
        job = pathlib.Path(folder) / "job.json"
        job.write_text(json.dumps(texts))
        words = pathlib.Path(folder) / "dialect.json"
        words.write_bytes(DIALECT)
        command = [sys.executable, str(SCRIPT), str(root), str(job), str(words)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    perturbed: dict[str, list[str]] = json.loads(done.stdout.strip().splitlines()[-1])
    return perturbed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=600)
    samples = boolq_samples(packaged("boolq"))[: parser.parse_args().texts]
    texts = [(sample.id, f"{sample.metadata['passage']} {sample.text}") for sample in samples]
    contracted = contractions(packaged("helm_contractions"))
    misspelt = misspellings(packaged("helm_misspellings"))
    ours = {
        "contractions": contracted,
        "misspellings": misspelt,
        "mild_mix": mild_mix(contracted, misspelt),
        "gender_pronouns": gender_pronouns(packaged("helm_gender")),
        "typos": typos(packaged("helm_typos")),
        "dialect": dialect(DIALECT),
    }
    wrong = 0
    for name, theirs in by_helm(texts).items():
        mine = [ours[name].change(text, Random(key)) for key, text in texts]
        differ = sum(one != other for one, other in zip(mine, theirs, strict=True))
        changed = sum(other != text for other, (_, text) in zip(theirs, texts, strict=True))
        print(f"{name}: {len(texts)} texts, {changed} changed, {differ} differ")
        wrong += differ
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
