"""Whether a model's weights in each quantized form are the same numbers wherever they are made.

    python benchmarks/same_forms.py

The default model is brought to each form by a process with two threads and all instructions of the
processor, and by others with one thread, with AVX2 alone, or both. Prints the start of the SHA-256
of all tensors; exits with 1 where they differ. Five minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import subprocess
import sys
import time

from torch import Tensor

from lmstack.model.forms import Form
from lmstack.model.loading import read_weights
from lmstack.model.quant.smoothquant import calibration_text
from lmstack.registry import load
from lmstack.registry.store import Store

MODEL = "smollm2-135m-instruct"
FORMS: tuple[Form, ...] = ("int8", "q4", "nf4", "file8")
AVX2 = dict.fromkeys(("MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA"), "AVX2")
PLACES = {
    "two threads": {"OMP_NUM_THREADS": "2"},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "two threads, AVX2": {"OMP_NUM_THREADS": "2", "ATEN_CPU_CAPABILITY": "avx2", **AVX2},
    "one thread, AVX2": {"OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "avx2", **AVX2},
}


def made(form: Form) -> str:
    """The SHA-256 of all tensors of the default model in ``form``, made here."""
    folder, loaded = Store().resolve(MODEL), load(MODEL)
    ids = loaded.tokenizer.encode(calibration_text())
    assert folder.gguf is not None
    _, weights = read_weights(folder.gguf, form, ids)
    found = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        found.update(name.encode())
        held = [weight] if isinstance(weight, Tensor) else _tensors(weight)
        for tensor in held:
            found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


def _tensors(matrix: object) -> list[Tensor]:
    assert dataclasses.is_dataclass(matrix)
    values = (getattr(matrix, field.name) for field in dataclasses.fields(matrix))
    return [value for value in values if isinstance(value, Tensor)]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--form", choices=FORMS, help="only print the hash of this one, made here")
    form = parser.parse_args().form
    if form is not None:
        print(made(form))
        return 0
    differ = False
    for form in FORMS:
        hashes = set()
        for place, variables in PLACES.items():
            start = time.monotonic()
            done = subprocess.run(
                [sys.executable, __file__, "--form", form],
                env={**os.environ, **variables},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            hashes.add(done.stdout)
            seconds = time.monotonic() - start
            print(f"{form:8}{place:20}{done.stdout[:16]}  {seconds:5.1f} s", flush=True)
        differ |= len(hashes) > 1
    print("they differ" if differ else "the same everywhere")
    return int(differ)


if __name__ == "__main__":
    sys.exit(main())
