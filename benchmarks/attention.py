"""Memory of attention by length: linear by default, quadratic only where the weights are asked for.

    python benchmarks/attention.py                        1k to 16k, some minutes, 8 GB
    python benchmarks/attention.py --lengths 1024 4096    fewer lengths
    python benchmarks/attention.py --quick                one mask, 256 and 512; records nothing
    python benchmarks/attention.py --json FILE            default: results/attention.json

Two figures for each length and variant: the most that torch's allocator had in use at once, which
no other program changes, and how far the resident memory of a fresh process rose, which is what
a machine must have. The slope is that of the least-squares line through log(bytes) over
log(length): 1 is linear, 2 quadratic; ``last`` is that of the last two lengths, where the fixed
part (a kernel's scratch, the first tile) weighs least. A picture is written beside the result.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from recording import add_options, picture_file, result_file

LENGTHS = (1024, 2048, 4096, 8192, 16384)
HEADS, HEAD_DIM = 2, 64
WAYS = ("tiled", "eager")
PASSES = ("forward", "backward")
# Eager keeps several (length, length) matrices for the backward pass: 16k would take 16 GB.
EAGER_BACKWARD_LIMIT = 8192


def options_of(variant: str) -> dict[str, Any]:
    import torch

    from lmstack.model.biases import AlibiBias, alibi_slopes

    return {
        "causal": {"causal": True},
        "window": {"causal": True, "window": 1024},
        "softcap": {"causal": True, "softcap": 50.0},
        "alibi": {"causal": True, "bias": AlibiBias(alibi_slopes(HEADS).to(torch.float32))},
    }[variant]


VARIANTS = ("causal", "window", "softcap", "alibi")


def one_call(variant: str, way: str, direction: str, length: int) -> Callable[[], None]:
    import torch

    from lmstack.model import scaled_dot_product_attention

    backward, options = direction == "backward", options_of(variant)
    tensors = [torch.randn(1, HEADS, length, HEAD_DIM, requires_grad=backward) for _ in range(3)]

    def call() -> None:
        if way == "eager":
            out, _ = scaled_dot_product_attention(*tensors, **options, return_weights=True)
        else:
            out = scaled_dot_product_attention(*tensors, **options)
        if backward:
            out.sum().backward()

    return call


def allocated(call: Callable[[], None]) -> int:
    """The most that torch's allocator has in use at once during ``call``, in bytes."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = top = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        top = max(top, now)
    return top


def resident(call: Callable[[], None]) -> int:
    """How far the resident memory of this process rises during ``call``, in bytes."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the high-water mark starts anew
    before = _status("VmRSS")
    call()
    return max(_status("VmHWM") - before, 0)


def _status(key: str) -> int:
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def measure(variant: str, way: str, direction: str, length: int) -> dict[str, Any]:
    """In this process, which should do nothing else."""
    one_call(variant, way, direction, 300)()  # what is loaded at the first call counts for none
    call = one_call(variant, way, direction, length)
    rise = resident(call) if sys.platform == "linux" else None
    return {"allocated": allocated(call), "resident": rise}


def in_fresh_process(*what: Any) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, "--one", *map(str, what)],
        capture_output=True,
        text=True,
        timeout=1200,
        check=True,
        # Freed memory goes back at once, so that the resident memory is what is in use.
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"},
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def slope(lengths: list[int], sizes: list[int]) -> float:
    """Of the least-squares line on two logarithmic axes."""
    xs, ys = [math.log(x) for x in lengths], [math.log(y) for y in sizes]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    above = sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True))
    return above / sum((a - x) ** 2 for a in xs)


def run(lengths: list[int], variants: Sequence[str]) -> dict[str, Any]:
    curves = []
    for variant in variants:
        for way in WAYS:
            for direction in PASSES:
                curves.append(_curve(variant, way, direction, lengths))
                last = curves[-1]
                print(
                    f"{variant:8} {way:6} {direction:9} slope {last['slope']:.2f}"
                    f" (last {last['last']:.2f})"
                    f"   {last['allocated'][-1] / 1e6:9,.1f} MB at {last['lengths'][-1]:,}",
                    flush=True,
                )
    import torch

    return {
        "torch": torch.__version__,
        "machine": platform.machine(),
        "heads": HEADS,
        "head_dim": HEAD_DIM,
        "dtype": "float32",
        "curves": curves,
    }


def _curve(variant: str, way: str, direction: str, lengths: list[int]) -> dict[str, Any]:
    if way == "eager" and direction == "backward":
        lengths = [length for length in lengths if length <= EAGER_BACKWARD_LIMIT]
    rows = [in_fresh_process(variant, way, direction, length) for length in lengths]
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    return {
        "variant": variant,
        "way": way,
        "pass": direction,
        "slope": round(slope(lengths, columns["allocated"]), 3),
        "last": round(slope(lengths[-2:], columns["allocated"][-2:]), 3),
        "lengths": lengths,
        **columns,
    }


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(PASSES), figsize=(11, 4.6), sharey=True)
    colours = dict(zip(VARIANTS, plt.rcParams["axes.prop_cycle"].by_key()["color"], strict=False))
    for axis, direction in zip(axes, PASSES, strict=True):
        for curve in result["curves"]:
            if curve["pass"] != direction:
                continue
            axis.plot(
                curve["lengths"],
                [size / 1e6 for size in curve["allocated"]],
                "o-" if curve["way"] == "tiled" else "s--",
                color=colours[curve["variant"]],
                markersize=4,
                label=f"{curve['variant']}, {curve['way']}: slope {curve['slope']:.2f}",
            )
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xlabel("tokens")
        axis.set_title("forward" if direction == "forward" else "forward and backward")
        axis.grid(True, which="major", alpha=0.3)
        axis.legend(fontsize=7, loc="upper left")
        axis.set_ylim(top=1e6)
    axes[0].set_ylabel("peak memory, MB")
    figure.suptitle(
        f"Attention, {HEADS} heads of {HEAD_DIM} channels, float32: tiled (default) and eager"
    )
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS))
    add_options(parser, "attention")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        variant, way, direction, length = given.one
        print(json.dumps(measure(variant, way, direction, int(length))))
        return
    result = run([256, 512], VARIANTS[:1]) if given.quick else run(given.lengths, VARIANTS)
    path = result_file(given, "attention")
    path.write_text(json.dumps(result, indent=1) + "\n")
    draw(result, picture_file(path, "attention-memory.png"))


if __name__ == "__main__":
    main()
