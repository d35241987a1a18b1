"""How fast one core multiplies int8 matrices in the shapes of MiniLM, on each native path.

    python benchmarks/products.py

Multiply-adds a second of 128 rows, for weights of any size and for narrow ones
(`src/lmstack/engine/cpu/README.md`); the best of many short runs that alternate, by processor
time, so that a busy machine matters little.
"""

from __future__ import annotations

import time

from spine import processor

from lmstack.app.inspect.product import ByteProduct
from lmstack.engine.cpu import available_paths, select_path

SHAPES = ((384, 1152), (384, 1536), (1536, 384))
ROWS, ROUNDS = 128, 60
KINDS = {"any": (1, 256), "narrow": (96, 161)}


def seconds(product: ByteProduct) -> float:
    start = time.process_time()
    product()
    return time.process_time() - start


def main() -> None:
    print(processor())
    products = {
        (name, shape): ByteProduct(ROWS, *shape, low=low, high=high)
        for name, (low, high) in KINDS.items()
        for shape in SHAPES
    }
    for path in available_paths():
        select_path(path)
        best = dict.fromkeys(products, float("inf"))
        for _ in range(1 if path == "portable" else ROUNDS):
            for key, product in products.items():
                best[key] = min(best[key], seconds(product))
        for (name, shape), least in best.items():
            rate = products[name, shape].operations / 2 / least / 1e9
            print(
                f"{path:10}{name:8}{shape[0]:>6} inputs{shape[1]:>6} outputs{rate:8.1f} billion/s"
            )
    select_path(None)


if __name__ == "__main__":
    main()
