"""Index a folder, find passages, answer with citations. Usage: ask_a_folder.py [FOLDER QUESTION]"""

import asyncio
import sys
import tempfile

import lmstack

folder = sys.argv[1] if len(sys.argv) > 1 else "docs"
question = sys.argv[2] if len(sys.argv) > 2 else "Why are pickle files refused?"

with (
    tempfile.TemporaryDirectory() as scratch,
    lmstack.load("smollm2-135m-instruct") as model,
    lmstack.Index.open(scratch, lmstack.load("all-minilm-l6-v2")) as index,
):
    index.update([folder])
    for hit in index.search(question, k=3):
        print(f"{hit.score:.3f} {hit.path}:{hit.start}-{hit.end} {hit.text[:60]!r}")
    answer = asyncio.run(lmstack.Answerer(index, model).answer(question))
    print(answer.answer)
    for c in answer.citations:
        print(f"[{c.id}] {c.path}:{c.start}-{c.end} {c.quote!r}")
