"""How fast one core multiplies int8 matrices in the shapes of MiniLM, on each native path.

    python benchmarks/products.py

Multiply-adds a second of 128 rows, for weights of any size and for narrow ones
(`src/lmstack/engine/kernels/README.md`); the best of many short runs that alternate, by processor
time, so that a busy machine matters little.
"""

from __future__ import annotations

import ctypes
import time

import numpy as np
from spine import processor

from lmstack.engine.kernels import available_paths, select_path
from lmstack.engine.kernels.library import Acts, Matrix, path_now

SHAPES = ((384, 1152), (384, 1536), (1536, 384))
GROUP, ROWS, PANEL, ROUNDS = 128, 128, 16, 60
KINDS = {"any": (1, 256), "narrow": (96, 161)}


class Product:
    """A matrix with codes between the bounds, and rows of activations for it."""

    def __init__(self, inputs: int, outputs: int, low: int, high: int) -> None:
        rng = np.random.default_rng(0)
        groups, panels = inputs // GROUP, outputs // PANEL
        self.outputs, self.work = outputs, inputs * outputs * ROWS
        codes = rng.integers(low, high, inputs * outputs).astype(np.uint8)
        scales = np.ones(groups * outputs, np.float16)
        acts = rng.integers(-127, 128, ROWS * inputs).astype(np.int8)
        ones = np.ones(ROWS * groups, np.float32)
        offsets = -128 * acts.reshape(-1, GROUP).sum(1, dtype=np.int32)
        self.out = np.empty((ROWS, outputs), np.float32)
        self.kept = (codes, scales, acts, ones, offsets)
        at = [each.ctypes.data for each in self.kept]
        self.matrix = Matrix(at[0], at[1], None, outputs, panels, inputs, groups, GROUP, 8, 128, 0)
        self.acts = Acts(at[2], at[3], at[4], at[3])

    def seconds(self) -> float:
        start = time.process_time()
        path_now().multiply(
            ctypes.byref(self.matrix),
            0,
            self.outputs // PANEL,
            ctypes.byref(self.acts),
            0,
            ROWS,
            self.out.ctypes.data,
            self.outputs,
        )
        return time.process_time() - start


def main() -> None:
    print(processor())
    products = {
        (name, shape): Product(*shape, *bounds)
        for name, bounds in KINDS.items()
        for shape in SHAPES
    }
    for path in available_paths():
        select_path(path)
        best = dict.fromkeys(products, float("inf"))
        for _ in range(1 if path == "portable" else ROUNDS):
            for key, product in products.items():
                best[key] = min(best[key], product.seconds())
        for (name, shape), seconds in best.items():
            rate = products[name, shape].work / seconds / 1e9
            print(
                f"{path:10}{name:8}{shape[0]:>6} inputs{shape[1]:>6} outputs{rate:8.1f} billion/s"
            )
    select_path(None)


if __name__ == "__main__":
    main()
