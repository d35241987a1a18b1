"""One step of LoRA, on one core: seconds of the processor, loss, gradient, and where the time goes.

    python benchmarks/training_step.py                 every precision
    python benchmarks/training_step.py --threads 2     as many cores

SmolLM2-135M-Instruct, LoRA of rank 16 on q and v, some 2,000 tokens of conversations
(`training_data`) in one pass. The best of three steps after one that is not counted. Losses are
those of the batch, without dropout, as far as precisions compute them alike; gradients are compared
with float32's by their cosine.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import tempfile
import time
from typing import Any

import torch
from training_data import chat_files

from lmstack.model import ForwardContext, LoraConfig, Ops, Transformer, add_adapter
from lmstack.registry import load
from lmstack.train.compute import ops_for
from lmstack.train.data.examples import Batch
from lmstack.train.data.rows import Row
from lmstack.train.objectives import objective_named
from lmstack.train.objectives.objective import Objective, Reading

TOKENS = 2000
STEPS = 3
# Operations of torch, and native ones by their autograd functions, by what they are for; the rest
# are norms, activations and their gradients.
KINDS = {
    "products": (
        *("aten::mm", "aten::addmm", "aten::addmm_", "aten::_int_mm"),
        *("_Packed", "_PackedBackward"),
    ),
    "attention": (
        *("_Attended", "_AttendedBackward"),
        "aten::bmm",
        "aten::_softmax",
        "aten::_softmax_backward_data",
        "aten::_scaled_dot_product_flash_attention_for_cpu",
        "aten::_scaled_dot_product_flash_attention_for_cpu_backward",
    ),
    "copies and casts": (
        "aten::copy_",
        "aten::cat",
        "aten::index_select",
        "aten::fill_",
        "aten::index",
    ),
    "quantizing activations": ("aten::abs", "aten::amax", "aten::round_"),
    "loss": ("_Softmax", "_SoftmaxBackward"),
}


def batch_of(objective: Objective, reading: Reading) -> Batch:
    with tempfile.TemporaryDirectory() as folder:
        files = chat_files(pathlib.Path(folder), turns=4, train=40, held_out=1)
        lines = pathlib.Path(files["train"]).read_text(encoding="utf-8").splitlines()
    chosen = []
    for line in lines:
        if sum(example.tokens for example in chosen) < TOKENS:
            chosen += objective.encode(Row(json.loads(line), ""), reading)
    return objective.collate(sorted(chosen, key=lambda example: example.tokens), reading)


class Step:
    def __init__(self, objective: Objective, module: Transformer, batch: Batch) -> None:
        self.objective, self.module, self.batch = objective, module, batch

    def __call__(self, ops: Ops) -> tuple[float, torch.Tensor]:
        """Mean loss, and the gradient of everything that is trained."""
        self.module.zero_grad()
        loss = self.objective.loss(self.module, self.batch, ForwardContext(ops=ops)).total
        (loss / self.batch.weight).backward()  # type: ignore[no-untyped-call]
        grads = [p.grad.flatten() for p in self.module.parameters() if p.grad is not None]
        return float(loss.detach()) / self.batch.weight, torch.cat(grads)

    def shares(self, ops: Ops) -> dict[str, float]:
        """Of the processor's time, by kind."""
        activities = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=activities) as profiler:
            self(ops)
        times = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
        whole = sum(times.values())
        found = {
            kind: sum(times.get(name, 0.0) for name in names) / whole
            for kind, names in KINDS.items()
        }
        return {**found, "norms, activations and the rest": 1 - sum(found.values())}

    def measure(self, precision: str) -> tuple[dict[str, Any], torch.Tensor]:
        ops = ops_for(precision, self.module)
        loss, gradient = self(ops)
        seconds = []
        for _ in range(STEPS):
            start = time.process_time()
            self(ops)
            seconds.append(time.process_time() - start)
        found = {
            "loss": loss,
            "processor_seconds": min(seconds),
            "tokens_per_processor_second": self.batch.tokens / min(seconds),
            "shares": self.shares(ops),
        }
        return found, gradient


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="float32,bfloat16,int8", help="precisions, a,b,c")
    parser.add_argument("--json", type=pathlib.Path, help="where the result goes")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    base = load("smollm2-135m-instruct", weights="float32")
    objective = objective_named("sft", {})
    batch = batch_of(objective, Reading(base.tokenizer, base.template, 1024))
    torch.manual_seed(0)
    add_adapter(base.module, LoraConfig(r=16, alpha=32, targets=("q_proj", "v_proj")))
    step = Step(objective, base.module.train(), batch)
    results: dict[str, Any] = {}
    reference = None
    for precision in args.only.split(","):
        found, gradient = step.measure(precision)
        reference = gradient if reference is None else reference
        found["cosine"] = float(torch.nn.functional.cosine_similarity(gradient, reference, dim=0))
        results[precision] = found
        shares = ", ".join(f"{kind} {share:.0%}" for kind, share in found["shares"].items())
        print(
            f"{precision:10}{found['processor_seconds']:>7.2f} s for {batch.tokens} tokens, loss"
            f" {found['loss']:.4f}, cosine {found['cosine']:.4f}: {shares}",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
