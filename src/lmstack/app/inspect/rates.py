"""How fast this machine reads memory and multiplies matrices: what bounds every model on it.

Best of many rounds, because shared machines stall. Measured through torch, whose reductions read
as fast as memory gives, and whose products use the tiles or dot products that the processor has.
Without dot products of bytes torch multiplies int8 a thousand times slower than the native ops, so
those are measured too. Not covered: what the processor is called, and keeping the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch

from lmstack.app.inspect.product import ByteProduct
from lmstack.engine.cpu.library import problem

__all__ = ["MatrixType", "Rates", "measure_rates"]

MatrixType = Literal["int8", "bfloat16", "float32"]

MATRIX_TYPES: tuple[MatrixType, ...] = ("int8", "bfloat16", "float32")
# (M, K, N): the products of a small model's prompt, and square ones of a larger model's.
SHAPES = ((512, 576, 3072), (512, 2048, 2048))
NATIVE_SHAPE = (128, 2048, 2048)  # of each core, as a native step gives each its own rows
LEAST_ROUNDS = 3
PASSES = 3
# A product that keeps a core for this long is measured once: without instructions of their own,
# bfloat16 and int8 take a thousand times as long as where there are some. Seconds of processor
# time, which the stalls of a shared machine do not count in.
LONG_S = 0.5


@dataclass(frozen=True)
class Rates:
    """``read_one`` and ``read_all``: bytes a second that one core and all of them read from
    memory; never less for all, since the others need not take part. ``matrix``: operations a
    second of all cores by type of the factors; a multiplication and its addition are two. No type
    is slower than float32, since narrower factors can be widened."""

    read_one: float
    read_all: float
    matrix: dict[MatrixType, float]


def measure_rates(
    cores: int,
    num_bytes: int,
    *,
    seconds: float = 1.0,
    progress: Callable[[int, int, str], None] | None = None,
) -> Rates:
    """Measure each rate for ``seconds``. ``num_bytes``: of the array that is read, several times
    what the caches hold. ``progress(done, total, what)``."""
    words = torch.ones(max(2, num_bytes // 4))
    share = seconds / PASSES
    work: list[tuple[str, int, Callable[[], float | None]]] = [
        ("memory, one core", 1, partial(_read_rate, words, share)),
        (f"memory, {cores} cores", cores, partial(_read_rate, words, share)),
        *(
            (f"matrices, {kind}", cores, partial(_matrix_rate, kind, share))
            for kind in MATRIX_TYPES
        ),
    ]
    if not problem():
        work.append(("matrices, native int8", cores, partial(_native_rate, cores, share)))
    best = [0.0] * len(work)
    slow: set[int] = set()
    # Each in turn and again: a stall of some seconds then spoils one pass and no rate.
    for turn in range(PASSES):
        for index, (label, count, measure) in enumerate(work):
            if progress is not None:
                progress(turn * len(work) + index, PASSES * len(work), label)
            if index in slow:
                continue
            start = time.thread_time()
            with _threads(count):
                best[index] = max(best[index], measure() or 0.0)
            if time.thread_time() - start > seconds + LONG_S:
                slow.add(index)
    if progress is not None:
        progress(PASSES * len(work), PASSES * len(work), "")
    one, several, int8, bfloat16, float32, *native = best
    matrix: dict[MatrixType, float] = {
        "int8": max(int8, float32, *native),
        "bfloat16": max(bfloat16, float32),
        "float32": float32,
    }
    return Rates(one, max(one, several), matrix)


def _read_rate(words: torch.Tensor, seconds: float) -> float:
    """Two ways to read every word once; which is faster depends on the processor."""
    longs = words[: len(words) // 2 * 2].view(torch.int64)
    ways: tuple[Callable[[], object], ...] = (words.sum, longs.max)
    size = words.numel() * words.itemsize
    return max(size / _best_time(way, seconds / len(ways)) for way in ways)


@torch.inference_mode()
def _matrix_rate(kind: MatrixType, seconds: float) -> float | None:
    rates = []
    for M, K, N in SHAPES:
        start = time.thread_time()
        if kind == "int8":
            left, right = (torch.ones(shape, dtype=torch.int8) for shape in ((M, K), (K, N)))
            multiply = torch._int_mm
        else:
            dtype = torch.bfloat16 if kind == "bfloat16" else torch.float32
            left, right = (torch.ones(shape, dtype=dtype) for shape in ((M, K), (K, N)))
            multiply = torch.mm
        try:
            best = _best_time(partial(multiply, left, right), seconds / len(SHAPES))
        except RuntimeError:  # torch has no such product on this processor
            return None
        rates.append(2 * M * K * N / best)
        if time.thread_time() - start > seconds + LONG_S:
            break
    return max(rates)


def _native_rate(cores: int, seconds: float) -> float:
    products = [ByteProduct(*NATIVE_SHAPE) for _ in range(cores)]
    with ThreadPoolExecutor(cores) as threads:
        best = _best_time(lambda: list(threads.map(ByteProduct.__call__, products)), seconds)
    return sum(product.operations for product in products) / best


def _best_time(call: Callable[[], object], seconds: float) -> float:
    """The shortest of the rounds that fit into ``seconds``, of `LEAST_ROUNDS` at least; the
    first pays for what is set up once, so it does not count unless it took so long that it stays
    the only one."""
    start, worked = time.perf_counter(), time.thread_time()
    call()
    if time.thread_time() - worked > LONG_S:
        return time.perf_counter() - start
    best, rounds = float("inf"), 0
    end = time.perf_counter() + seconds
    while rounds < LEAST_ROUNDS or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
        rounds += 1
    return max(best, 1e-9)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
