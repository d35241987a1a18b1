"""A few mutated model folders of every form, and that the runner of many sees what goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.fuzz import run
from tests.fuzz.bases import FORMS, Base, bases
from tests.fuzz.containers import Safetensors
from tests.fuzz.mutations import Mutant
from tests.fuzz.run import PER_BASE, ROOT, one_seed, run_seeds
from tests.fuzz.trial import FindingError, tried

from lmstack.model.formats.mapped.header import QUANTIZED_FILE
from lmstack.model.quant.quantize import quantize_int8

BASES = bases()
STRIDE = 863  # prime to the seeds of a base, so that all forms and many families have their turn
SEEDS = range(7, len(BASES) * PER_BASE, STRIDE)


def test_every_form_is_among_the_few() -> None:
    assert {BASES[seed // PER_BASE].form for seed in SEEDS} == set(FORMS)


@pytest.mark.parametrize("part", range(6))
def test_a_mutated_folder_ends_in_an_error_of_ours_or_in_right_results(part: int) -> None:
    for seed in SEEDS[part::6]:
        assert one_seed(BASES, seed).startswith("end\t")


def test_a_crash_is_reported_with_its_seed_and_the_seeds_after_it_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def dies_at_2(found: list[Base], seed: int) -> str:
        del found
        if seed == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return f"end\t{seed}\tright\n"

    monkeypatch.setattr(run, "one_seed", dies_at_2)
    report = run_seeds(range(5))
    assert report.ends == {"right": 4}
    assert [line.splitlines()[0] for line in report.findings] == [
        "seed 2: the process ended with signal 9"
    ]


def test_what_is_neither_an_error_of_ours_nor_right_is_a_finding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stumbles(*_: object) -> str:
        raise IndexError("of torch")

    monkeypatch.setattr(run, "tried", stumbles)
    found = one_seed(BASES, 7)
    assert found.startswith(f"finding\t7\t{BASES[0].name}, ")
    assert "IndexError: of torch" in found


def test_without_the_checks_a_small_matrix_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """That a trial can fail: rows of zeros for those that are missing are no right result."""
    base = next(base for base in BASES if base.form == "int8")
    matrix = quantize_int8(torch.ones(47, 80))
    file = Safetensors.parsed(base.files[QUANTIZED_FILE])
    matrices = json.loads(file.metadata["matrices"])
    key = "blocks.0.mlp.down.weight"
    assert matrices[key][:2] == [48, 80]
    matrices[key] = [47, 80, matrix.group, 8, 128, 0]
    file.metadata["matrices"] = json.dumps(matrices)
    for tensor in file.tensors:
        if tensor.name.startswith(key):
            held = matrix.buffers()[tensor.name.rpartition(".")[2]]
            tensor.shape = list(held.shape)
            tensor.data = held.view(torch.uint8).numpy().tobytes()
    mutant = Mutant({**base.files, QUANTIZED_FILE: file.written()}, ("a small matrix",))
    assert tried(base, mutant, tmp_path, 0) == "refused: FormatError"
    for place in ("model.loading.check_weights", "engine.cpu.program.check_widths"):
        monkeypatch.setattr(f"lmstack.{place}", lambda *_: None)
    with pytest.raises((FindingError, RuntimeError)):
        tried(base, mutant, tmp_path, 0)


@pytest.mark.long
def test_no_mutated_folder_reads_or_writes_beyond_its_memory() -> None:
    """Every base with each of its seeds, under gcc's sanitizers."""
    count = str(len(BASES) * PER_BASE)
    command = [sys.executable, "-m", "tests.fuzz.run", "--sanitize", "--seeds", count]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
