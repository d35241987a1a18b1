"""The models of `serving.py`, as its peers want them: folders that transformers loads, and what a
peer's own tool makes of them. Written once and kept beside the environments."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
from typing import Any

from serving_environments import CACHE, SCRIPTS, BuildError, Peer

__all__ = ["GEMMA", "LANGUAGE", "converted", "quiet_environment", "saved", "sources"]

LANGUAGE, GEMMA = "smollm2-135m-instruct", "gemma3-270m"
EMBEDDER, TRANSLATOR = "all-minilm-l6-v2", "flan-t5-small-titles"
CONVERT_SECONDS = 1200


def sources() -> dict[str, Any]:
    """Where the models are that the peers load or convert; folders are written once and kept."""
    from lmstack.registry import Store

    store = Store()
    paths: dict[str, Any] = {"smollm2": saved(LANGUAGE), "t5": saved(TRANSLATOR)}
    paths["gguf"] = str(store.resolve(LANGUAGE).gguf)
    paths["gemma_gguf"] = str(store.resolve(GEMMA).gguf)
    embedder = store.resolve(EMBEDDER).path
    paths["minilm"] = str(embedder)
    settings = json.loads((embedder / "sentence_bert_config.json").read_text())
    paths["minilm_length"] = settings["max_seq_length"]
    return paths


def saved(name: str) -> str:
    """The folder that transformers loads of the model ``name``."""
    from lmstack.registry import Store, load

    store = Store()
    digest = str(store.resolve(name).card.digest).removeprefix("sha256:")[:16]
    folder = CACHE / "models" / f"{name}-{digest}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            made = pathlib.Path(scratch) / "model"
            load(name, store).save(made)
            made.rename(folder)
    return str(folder)


def converted(peer: Peer, paths: dict[str, Any], scratch: pathlib.Path) -> None:
    """The models in the peer's own format, made in its environment once for each of its builds."""
    if not peer.converts:
        return
    key = json.dumps([peer.wanted, paths["smollm2"], paths["t5"], paths["minilm"]])
    folder = CACHE / "models" / f"{peer.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    paths[peer.name] = str(folder)
    if folder.is_dir():
        return
    making = folder.with_name(f"{folder.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    spec = scratch / f"convert-{peer.name}.json"
    spec.write_text(json.dumps({"paths": paths | {peer.name: str(making)}}))
    done = subprocess.run(
        [str(peer.python), str(SCRIPTS / peer.script), "convert", str(spec)],
        capture_output=True,
        text=True,
        timeout=CONVERT_SECONDS,
        env=quiet_environment(os.cpu_count() or 1),
    )
    if done.returncode:
        raise BuildError(f"{peer.name} does not convert its models: {done.stderr[-2000:]}")
    making.rename(folder)


def quiet_environment(threads: int) -> dict[str, str]:
    quiet = {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    counted = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS"), str(threads))
    return os.environ | quiet | counted | {"TOKENIZERS_PARALLELISM": "true"}
