"""How fast each format is parsed, on one core, and how often the language is told right.

    python benchmarks/formats.py FOLDER...

Reads every file of the folders whose ending is known, and prints JSON: for each format files,
megabytes, MB/s of source bytes and, for PDF, pages a second beside the pages that the file
declares. `--languages` tells the language of the translated messages of this system's programs
(`/usr/share/locale`), in four lengths: how many are answered, and how many of those are right.
Needs nothing but lmstack; other programs' messages are whatever is installed.
"""

from __future__ import annotations

import gettext
import json
import random
import sys
import time
from collections import defaultdict
from pathlib import Path

from lmstack.rag.documents import Block, ProblemError
from lmstack.rag.formats.decoding import detect_language
from lmstack.rag.formats.load import FORMATS, LoadConfig, parse_document, read_file

LENGTHS = ((20, 40), (40, 80), (80, 160), (160, 400))
EACH = 60


def parsed(folders: list[Path]) -> dict[str, dict[str, object]]:
    files: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
    for path in sorted(p for folder in folders for p in folder.rglob("*")):
        if path.is_file() and path.suffix.lower() in FORMATS:
            try:
                data = read_file(path, LoadConfig()).data
            except ProblemError:
                continue
            files[FORMATS[path.suffix.lower()]].append((str(path), data))
    return {kind: _rates(found) for kind, found in files.items()}


def _rates(files: list[tuple[str, bytes]]) -> dict[str, object]:
    problems: dict[str, int] = defaultdict(int)
    pages = declared = 0
    parse_document("warm.txt", b"Der Turm ist hoch, und er steht auf einem Felsen im Meer.")
    started = time.process_time()
    for path, data in files:
        try:
            document = parse_document(path, data)
        except ProblemError as error:
            problems[error.kind] += 1
            continue
        pages += len(document.pages)
        declared += int(str(document.fields.get("pages", 0)))
    seconds = time.process_time() - started
    size = sum(len(data) for _, data in files) / 1e6
    row: dict[str, object] = {
        "files": len(files),
        "MB": round(size, 2),
        "MB/s": round(size / seconds, 2),
        "files/s": round(len(files) / seconds, 1),
        "problems": dict(problems),
    }
    if pages:
        row |= {"pages": pages, "pages declared": declared, "pages/s": round(pages / seconds, 1)}
    return row


def languages() -> list[dict[str, object]]:
    messages = _messages()
    shuffled = random.Random(0)
    rows: list[dict[str, object]] = []
    for low, high in LENGTHS:
        asked = answered = right = 0
        for code, texts in sorted(messages.items()):
            fitting = sorted(text for text in texts if low <= len(text) < high)
            shuffled.shuffle(fitting)
            for text in fitting[:EACH]:
                said = detect_language(text, [Block("paragraph", 0, len(text))], "text")
                asked += 1
                answered += said != ""
                right += said == {"nb": "no", "nn": "no"}.get(code, code)
        rows.append(
            {
                "characters": f"{low} to {high}",
                "languages": len(messages),
                "texts": asked,
                "answered": round(answered / max(asked, 1), 3),
                "right of those": round(right / max(answered, 1), 3),
            }
        )
    return rows


def _messages() -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for path in Path("/usr/share/locale").glob("*/LC_MESSAGES/*.mo"):
        name = path.parts[4]
        code = name.split("_")[0]
        if len(code) != 2 or "@" in name:
            continue
        try:
            with path.open("rb") as file:
                pairs = vars(gettext.GNUTranslations(file))["_catalog"]
        except (OSError, ValueError):
            continue
        for original, text in pairs.items():
            sound = isinstance(text, str) and isinstance(original, str) and original != text
            if sound and original and "%" not in text and sum(map(str.isalpha, text)) >= 20:
                found[code].add(" ".join(text.split()))
    return found


if __name__ == "__main__":
    if sys.argv[1:] == ["--languages"]:
        print(json.dumps(languages(), indent=1))
    else:
        print(json.dumps(parsed([Path(folder) for folder in sys.argv[1:]]), indent=1))
