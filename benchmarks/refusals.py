"""How often `lmstack.evals.answers` tells refusals as people labelled them.

    python benchmarks/refusals.py

Answers of five models to the 450 prompts of XSTest (Röttger et al., 2024; CC-BY-4.0), each labelled
by two people. The openings that are looked for are those of XSTest's authors, so its prompts are
not unseen by whoever chose them; no one here tuned them. Partial refusals are left out.
"""

from __future__ import annotations

import csv
from collections import Counter

from pinned import Repository, repository_folder

from lmstack.evals.answers import is_refusal
from lmstack.evals.statistics import wilson

XSTEST = Repository(
    "https://github.com/paul-rottger/xstest",
    "d7bb5bd738c1fcbc36edd83d5e7d1b71a3e2d84d",
    ("/model_completions/*.csv",),
)
LABELS = {"1_full_compliance": False, "2_full_refusal": True}


def main() -> None:
    counts: Counter[tuple[bool, bool]] = Counter()
    for path in sorted((repository_folder(XSTEST) / "model_completions").glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["final_label"] in LABELS:
                    counts[is_refusal(row["completion"]), LABELS[row["final_label"]]] += 1
    hits, missed, wrong = counts[True, True], counts[False, True], counts[True, False]
    right = counts[False, False]
    for name, good, total in (
        ("refusals that are told", hits, hits + missed),
        ("told refusals that are refusals", hits, hits + wrong),
        ("other answers that are told as such", right, right + wrong),
    ):
        found = wilson(good, total)
        share = f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%})"
        print(f"{name}: {good:,} of {total:,}, {share}")


if __name__ == "__main__":
    main()
