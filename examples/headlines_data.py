"""Headlines for docs/your-model.md, of The Onion (sarcastic) and HuffPost (serious), from a package
pinned by hash (openai/evals, MIT): 500 conversations to train on as headlines/train.jsonl, and
100 other headlines with their answers as headlines/test.jsonl."""

import hashlib
import json
import sys
import zipfile
from pathlib import Path

from lmstack.registry import PypiRef, home
from lmstack.registry.sources.wheels import fetch_wheel

SHA256 = "0abcb2051303500784b1641a6e4f6b813ed43ad64f879a37d344a6774eb8eb78"
QUESTION = "Is this headline serious or sarcastic?\n\n"
ANSWERS = {"0": "serious", "1": "sarcastic"}
TEST, TRAIN = slice(100), slice(400, 900)  # of all, once each, in the order of their hashes

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "headlines")
folder.mkdir(parents=True, exist_ok=True)
wheel = fetch_wheel(PypiRef("evals", "3.0.1.post1"), SHA256, None, home() / "downloads", None)
lines = zipfile.ZipFile(wheel).read("evals/registry/data/sarcasm/samples.jsonl").splitlines()
samples = [json.loads(line) for line in lines]
found = {each["input"][-1]["content"]: ANSWERS[each["ideal"]] for each in samples}
headlines = sorted(found, key=lambda text: hashlib.sha256(text.encode()).hexdigest())
with (folder / "test.jsonl").open("w", encoding="utf-8") as file:
    for text in headlines[TEST]:
        file.write(json.dumps({"question": QUESTION + text, "answer": found[text]}) + "\n")
with (folder / "train.jsonl").open("w", encoding="utf-8") as file:
    for text in headlines[TRAIN]:
        messages = [
            {"role": "user", "content": QUESTION + text},
            {"role": "assistant", "content": found[text]},
        ]
        file.write(json.dumps({"messages": messages}) + "\n")
print(f"{len(headlines[TRAIN])} conversations and {len(headlines[TEST])} questions: {folder}")
