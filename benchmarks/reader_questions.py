"""What the reader is trained on where nobody asked: questions that a model asks about documents.

    python benchmarks/reader_questions.py FOLDER [--passages 40] [--model NAME]

Documents are those that answer questions of the tuning half of a collection of `answers.py` in
English, and none of its test half. `lmstack data questions` asks about a sample of the passages of
each collection; FOLDER/rows.jsonl has them all, for `lmstack train recipes/reader.yaml data=...`,
and what was trained is tried by `reader.py`. Stopped, it goes on where it was.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from answers import LOADERS
from answers_data import Collection


def tuning_documents(collection: Collection) -> dict[str, str]:
    """Those that answer in the tuning half alone."""
    golds = {
        half: {gold.path for item in collection.half(tuned_on=half) for gold in item.golds}
        for half in (True, False)
    }
    names = sorted(golds[True] - golds[False])
    return {name: collection.documents[name] for name in names if name in collection.documents}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--passages", type=int, default=40, help="asked about, of each collection")
    parser.add_argument("--model", default="qwen2.5-coder-1.5b-instruct")
    args = parser.parse_args()
    made = []
    for name, load in LOADERS.items():
        collection = load()
        documents = tuning_documents(collection)
        if collection.language != "en" or not documents:
            continue
        files = args.folder / name / "files"
        files.mkdir(parents=True, exist_ok=True)
        for path, text in documents.items():
            (files / path).write_text(text, encoding="utf-8")
        rows = args.folder / name / "questions.jsonl"
        if not rows.exists():
            print(f"{name}: {len(documents)} documents", flush=True)
            command = [sys.executable, "-m", "lmstack", "data", "questions", str(files)]
            command += ["--output", str(rows), "--passages", str(args.passages)]
            subprocess.run([*command, "--model", args.model, "--quiet"], check=True)
        made.append(rows.read_text(encoding="utf-8"))
    (args.folder / "rows.jsonl").write_text("".join(made), encoding="utf-8")
    print(f"{sum(text.count(chr(10)) for text in made)} rows", flush=True)


if __name__ == "__main__":
    main()
