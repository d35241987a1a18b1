"""What rounding costs: perplexity, KL divergence and greedy agreement against float32.

    make bench-quantization        about five minutes

SmolLM2 on the text that ships with the package, or on those that are given. First schemes,
imitated in float32: activations and weights rounded to int8 with a scale for each token or row,
or for each group. Then the served forms on the native ops, with both forms of keys and values;
for the blocks of the file float32 is the same file dequantized. Last the matrices of blocks as NF4
in float32: with scales by the largest, by us and by bitsandbytes, and as they are loaded, with
scales fitted to what activations weigh. Writes results/quantization.json.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import time
from collections.abc import Iterable
from typing import Any

import torch
from recording import add_options, result_file
from torch import Tensor

from lmstack.app.inspect.processor import processor
from lmstack.engine.cpu.executor import NativeExecutor
from lmstack.engine.executor import Executor, SequenceSpan
from lmstack.engine.torch.executor import TorchExecutor
from lmstack.model import ReferenceOps
from lmstack.model.quant.quantize import quantize_nf4
from lmstack.registry import Store, load

HERE = pathlib.Path(__file__).parent
MODEL, LENGTH, BLOCK = "smollm2-135m-instruct", 512, 16
# (name, group of activations, group of weights); 0: as they are, -1: a token or a row.
SCHEMES = (
    ("activations a token", -1, 0),
    ("activations in 64", 64, 0),
    ("activations in 32", 32, 0),
    ("weights a row, activations a token", -1, -1),
    ("weights a row, activations in 64", 64, -1),
    ("both in 64", 64, 64),
    ("both in 32", 32, 32),
)
FORMS = (
    *(("file", "bfloat16"), ("file", "int8"), ("int8", "bfloat16"), ("int8", "int8")),
    ("nf4", "int8"),
)


def rounded(x: Tensor, group: int) -> Tensor:
    """``x`` as int8 with a scale for each ``group`` of its last dimension would hold it."""
    if not group:
        return x
    grouped = x.unflatten(-1, (-1, x.shape[-1] if group < 0 else group))
    scale = grouped.abs().amax(-1, keepdim=True).clamp(min=1e-12) / 127
    return ((grouped / scale).round() * scale).view(x.shape)


class Rounding(ReferenceOps):
    """The reference, its products over rounded numbers."""

    def __init__(self, activations: int, weights: int) -> None:
        self._activations, self._weights = activations, weights
        self._made: dict[int, Tensor] = {}

    def linear(self, x: Tensor, weight: Any) -> Tensor:
        if id(weight) not in self._made:
            self._made[id(weight)] = rounded(weight.weight, self._weights)
        return torch.nn.functional.linear(
            rounded(x, self._activations), self._made[id(weight)], weight.bias
        )


def log_probabilities(executor: Executor, rows: Tensor) -> Tensor:
    """(texts, LENGTH, V)."""
    table, places = list(range(LENGTH // BLOCK)), list(range(LENGTH))
    found = []
    for row in rows:
        hidden = executor.hidden(row.tolist(), places, [SequenceSpan(table, 0, LENGTH)], None)
        found.append(executor.logits(hidden).log_softmax(-1))
    return torch.stack(found)


def perplexity(scores: Tensor, rows: Tensor) -> float:
    chosen = scores[:, :-1].gather(2, rows[:, 1:, None])
    return math.exp(-chosen.mean().item())


def compared(scores: Tensor, exact: Tensor, rows: Tensor) -> dict[str, float]:
    own, base = perplexity(scores, rows), perplexity(exact, rows)
    return {
        "perplexity": own,
        "change": own / base - 1,
        "kl": (exact.exp() * (exact - scores)).sum(-1).mean().item(),
        "agreement": (scores.argmax(-1) == exact.argmax(-1)).float().mean().item(),
    }


def measured(texts: Iterable[pathlib.Path], count: int) -> dict[str, Any]:
    store = Store()
    folder = store.resolve(MODEL)
    model = load(folder, store)
    text = "\n".join(path.read_text(encoding="utf-8") for path in texts)
    ids = model.tokenizer.encode(text[: 8 * count])[: count // LENGTH * LENGTH]
    rows = torch.tensor(ids).view(-1, LENGTH)
    blocks = LENGTH // BLOCK
    reference = TorchExecutor(model.module, blocks, BLOCK)
    exact = log_probabilities(reference, rows)
    result: dict[str, Any] = {"tokens": rows.numel(), "float32": perplexity(exact, rows)}
    for name, activations, weights in SCHEMES:
        rounding = TorchExecutor(model.module, blocks, BLOCK, Rounding(activations, weights))
        result[name] = compared(log_probabilities(rounding, rows), exact, rows)
        show(name, result[name])
    for form, kv in FORMS:
        module = load(folder, store, weights=form).module
        native = NativeExecutor(module, blocks, BLOCK, kv)
        name = f"served {form}, keys and values {kv}"
        result[name] = compared(log_probabilities(native, rows), exact, rows)
        show(name, result[name])
    loaded = TorchExecutor(load(folder, store, weights="nf4").module, blocks, BLOCK)
    result["nf4 as it is loaded"] = compared(log_probabilities(loaded, rows), exact, rows)
    show("nf4 as it is loaded", result["nf4 as it is loaded"])
    kept = {key: weight.clone() for key, weight in matrices(model.module)}
    for name, form in (("nf4", ours_in_nf4), ("nf4 of bitsandbytes", theirs_in_nf4)):
        for key, weight in matrices(model.module):
            weight.copy_(form(kept[key]))
        result[name] = compared(log_probabilities(reference, rows), exact, rows)
        show(name, result[name])
    return result


def matrices(module: torch.nn.Module) -> list[tuple[str, Tensor]]:
    """Those of the blocks."""
    return [
        (k, w) for k, w in module.named_parameters() if k.startswith("blocks.") and w.dim() == 2
    ]


def ours_in_nf4(weight: Tensor) -> Tensor:
    return quantize_nf4(weight).dequantized()


def theirs_in_nf4(weight: Tensor) -> Tensor:
    from bitsandbytes import functional

    given = weight.contiguous()
    packed, state = functional.quantize_4bit(given, quant_type="nf4", compress_statistics=True)
    found: Tensor = functional.dequantize_4bit(packed, state)
    return found


def show(name: str, found: dict[str, float]) -> None:
    print(
        f"{name:44} {found['change']:+.2%}  KL {found['kl']:.4f}  same {found['agreement']:.1%}",
        flush=True,
    )


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", nargs="*", type=pathlib.Path, help="default: the package's own")
    parser.add_argument("--tokens", type=int, default=3072)
    add_options(parser, "quantization")
    given = parser.parse_args()
    if given.quick:
        given.tokens = LENGTH
    texts = given.texts or sorted((HERE.parent / "src/lmstack/app/inspect/text").glob("*.txt"))
    start = time.monotonic()
    found = measured(texts, given.tokens)
    result = {
        "machine": str(processor()),
        "texts": [path.name for path in texts],
        "seconds": round(time.monotonic() - start),
        **found,
    }
    result_file(given, "quantization").write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
