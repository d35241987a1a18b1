"""Each verdict of the gate as `lmstack release promote` prints it, on a real model and benchmark.

    python benchmarks/promotion.py            the transcript of docs/evaluation.md

In a store of its own, with the default model and the data of HellaSwag from yours (`lmstack pull`,
`lmstack eval fetch hellaswag`): the model is promoted as the first release; then its weights in
int8 are asked about with a margin that 100 items can show and with one that they cannot, and a copy
of it whose weights had noise added, in int8 as well, with a bar of 0.45. Yours is not changed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

import torch

from lmstack.app import wiring
from lmstack.app.cli import main as lmstack
from lmstack.registry import load
from lmstack.registry.card import CARD
from lmstack.registry.store import Store

MODEL = "smollm2-135m-instruct"
NOISE = 1.0  # of each matrix's standard deviation
GATE = """\
rules:
  - {task: hellaswag, kind: at_least, threshold: 0.25}
  - {task: hellaswag, kind: non-inferior, margin: %s}
"""
BAR = "rules:\n  - {task: hellaswag, kind: at_least, threshold: 0.45}\n"


def linked(source: Path, target: Path) -> None:
    """The files of ``source``; the card is a copy, because verdicts are written to it."""
    target.mkdir(parents=True)
    for path in source.iterdir():
        if path.name == CARD:
            shutil.copy(path, target / path.name)
        else:
            (target / path.name).symlink_to(path.resolve())


def damaged(source: Path, target: Path) -> None:
    """The model as floats, with noise in its matrices."""
    generator = torch.Generator().manual_seed(0)
    loaded = load(source, weights="float32")
    with torch.no_grad():
        for each in loaded.module.parameters():
            if each.ndim == 2:
                each.add_(torch.randn(each.shape, generator=generator) * each.std() * NOISE)
    loaded.save(target)


def shown(*words: str) -> None:
    print(f"\n$ lmstack {' '.join(words)}", flush=True)
    start = time.monotonic()
    code = lmstack(["--quiet", *words])
    print(f"# exit code {code}, {time.monotonic() - start:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="keep everything there [default: temporary]")
    folder = parser.parse_args().folder or Path(tempfile.mkdtemp(prefix="lmstack-promotion-"))
    model, data = Store().resolve(MODEL).path, wiring.home() / "evals" / "data"
    home = (folder / "home").absolute()
    if not home.exists():
        linked(model, home / "models" / MODEL)
        (home / "evals").mkdir()
        (home / "evals" / "data").symlink_to(data.resolve())
    for name, margin in (("gate", 0.1), ("strict", 0.01)):
        (folder / f"{name}.yaml").write_text(GATE % margin)
    (folder / "bar.yaml").write_text(BAR)
    if not (folder / "damaged").exists():
        damaged(home / "models" / MODEL, folder / "damaged")
    os.environ["LMSTACK_HOME"] = str(home)
    os.chdir(folder)
    shown("release", "promote", MODEL, "--to", "prod", "--gate", "gate.yaml", "--first")
    words = ("--weights", "int8", "--to", "prod", "--gate")
    shown("release", "promote", MODEL, *words, "strict.yaml", "--new-rules")
    shown("release", "promote", "./damaged", *words, "bar.yaml", "--new-rules")
    shown("release", "promote", MODEL, *words, "gate.yaml")
    shown("release", "list")
    shown("release", "rollback", "prod")
    shown("release", "list", "prod")


if __name__ == "__main__":
    main()
