"""The files that the pages on training name, each small and in the format that its page shows."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmstack.pipelines.scaling.laws import LossLaw

__all__ = ["write_alignment_inputs", "write_training_inputs"]

NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
CIFRAS = ["uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve", "diez"]


def write_training_inputs(work: Path) -> None:
    """Below ``work``: rows of every objective, texts in two languages, and runs of three sizes on
    three amounts of data, which end as a law says."""
    words = [(a, b, x, y) for a, x in zip(NUMBERS, CIFRAS, strict=True)
             for b, y in zip(NUMBERS, CIFRAS, strict=True)]  # fmt: skip
    sums = [(f"What is {n} and {n}?", f"{2 * n}.") for n in range(50)]
    chats = [{"instruction": asked, "output": answer} for asked, answer in sums]
    _write(work / "chats.jsonl", chats)
    _write(work / "my.jsonl", chats)
    queries = [
        (f"What follows {a} and {b}?", f"After {a} and {b} comes {a}.") for a, b, *_ in words
    ]
    others = [answer for _, answer in queries]
    _write(work / "searches.jsonl", ({"query": q, "positive": p} for q, p in queries))
    lists = [
        {"query": q, "positive": p, "negatives": [others[i - 1], others[i - 2]]}
        for i, (q, p) in enumerate(queries)
    ]
    _write(work / "lists.jsonl", lists)
    rows = [
        {"query": row["query"], "positives": [row["positive"]][i % 4 // 3 :],
         "negatives": row["negatives"]}
        for i, row in enumerate(lists)
    ]  # fmt: skip
    _write(work / "rows.jsonl", rows)
    (work / "passages.txt").write_text("\n".join(others[:5]) + "\n", encoding="utf-8")
    _write(
        work / "labelled.jsonl",
        (
            {"text": q, "label": "complaint" if i % 2 else "praise"}
            for i, (q, _) in enumerate(queries)
        ),
    )
    _write(
        work / "tagged.jsonl",
        (
            {"tokens": ["Ada", "counts", a, "."], "tags": ["B-PER", "O", "O", "O"]}
            for a, *_ in words
        ),
    )
    pairs = [(f"{a} and {b}", f"{x} y {y}") for a, b, x, y in words]
    _write(work / "translations.jsonl", ({"source": s, "target": t} for s, t in pairs))
    (work / "both-languages").mkdir()
    for name, texts in zip(("english", "spanish"), zip(*pairs, strict=True), strict=True):
        (work / f"both-languages/{name}.txt").write_text("\n".join(texts), encoding="utf-8")
    _write_runs(work / "runs")


def write_alignment_inputs(work: Path, names: Collection[str]) -> None:
    """Those of ``names`` that pages on alignment use: sums of which the short answer is preferred
    to the one that talks about it. Other pages have files of these names in other formats."""
    asked = [(f"What is {n} plus {m}?", n + m) for n in range(1, 9) for m in range(1, 9)]
    pairs = [
        {
            "prompt": prompt,
            "chosen": f"{total}.",
            "rejected": f"It depends. {total - 1} perhaps, or {total + 1}.",
        }
        for prompt, total in asked
    ]
    rated = [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for row in pairs[:24]
        for side in ("chosen", "rejected")
    ]
    both = [
        {"prompt": row["prompt"], "completions": [row["chosen"], row["rejected"]]}
        for row in pairs[:8]
    ]
    prompts = [{"prompt": prompt, "answer": total} for prompt, total in asked]
    rows: dict[str, Sequence[Mapping[str, Any]]] = {
        "answers.jsonl": both,
        "benign.jsonl": prompts[:8],
        "held-out.jsonl": prompts[-8:],
        "judged.jsonl": pairs[:24],
        "mmlu.jsonl": prompts[-8:],
        "pairs.jsonl": pairs[:48],
        "preferences.jsonl": pairs[:48],
        "prompts.jsonl": prompts[:16],
        "questions.jsonl": prompts[-8:],
        "ratings.jsonl": rated,
        "sums.jsonl": prompts[:16],
    }
    for name in rows.keys() & set(names):
        _write(work / name, rows[name])
    if "pairs.parquet" in names:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(pairs[24:48]), work / "pairs.parquet")


def _write_runs(folder: Path) -> None:
    law = LossLaw(A=400, B=400, E=1.7, alpha=0.34, beta=0.28)
    for size in (1e6, 4e6, 16e6):
        for tokens in (1e8, 4e8, 16e8):
            run = folder / f"{size:.0f}-{tokens:.0f}"
            run.mkdir(parents=True)
            (run / "run.json").write_text(json.dumps({"parameters": size}))
            end = {"tokens": tokens, "validation_loss": law.loss(size, tokens)}
            (run / "metrics.jsonl").write_text(json.dumps(end) + "\n")


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
