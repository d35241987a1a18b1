"""What a run will take, before it is started: tokens, steps, memory, operations, time.

Counted on the assembled run itself: the module that would be trained, the examples that it would
read. The rate is measured by real steps on this machine, whose changes are thrown away. Does not
cover the price (`lmstack train --price`), several processes, nor objectives that learn from their
own answers, whose lengths nobody knows before.

    operations   `flops`, over all examples
    activations  bytes that autograd keeps of a real pass, by the token
    time         tokens of all steps / measured tokens a second, and the evaluations
"""

from __future__ import annotations

import dataclasses
import math
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from lmstack.core import UnsupportedError
from lmstack.model import ForwardContext, Ops
from lmstack.model.quant.matrix import held_weights
from lmstack.train.assembly import Assembled, check_recipe
from lmstack.train.checkpoint import Checkpoints
from lmstack.train.compute import ops_for
from lmstack.train.cross_entropy import CHUNK
from lmstack.train.flops import Flops, Load, count_flops
from lmstack.train.loader import steps_of
from lmstack.train.loop import Trainer
from lmstack.train.objectives.online import OnlineObjective
from lmstack.train.optim import parameter_groups
from lmstack.train.recipe import Recipe
from lmstack.train.reference import without_reference
from lmstack.train.source import ExampleSource
from lmstack.train.throughput import outputs_of
from lmstack.train.trained import TrainedModule

__all__ = ["Memory", "Rate", "RunPlan", "check_plannable", "plan_run"]

# What Python, torch and the tokenizer take before any weight: measured at 0.3 to 0.4 GB.
PROGRAM_BYTES = 400 << 20
_SAMPLE = 4096  # examples whose sequences are looked at
_PROBED_ROWS = 2
_FLOAT = 4
_EVALUATIONS = 10  # of a run that does not say how many, and one before it
_LOGITS = 3  # arrays of a chunk: logits, their gradient, and what softmax needs between


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of a pass. ``activations``: what is kept for the backward pass as the
    recipe says; ``checkpointed``: what it would be with activation checkpointing."""

    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: int
    checkpointed: int
    logits: int
    program: int = PROGRAM_BYTES

    @property
    def total(self) -> int:
        kept = self.weights + self.gradients + self.optimizer + self.average
        return kept + self.activations + self.logits + self.program


@dataclass(frozen=True)
class Rate:
    """``tokens_per_second``: of ``steps`` real ones with ``tokens`` each, after a pass to warm up.
    ``peak``: bytes of the process at most until then."""

    tokens_per_second: float
    steps: int
    tokens: int
    peak: int


@dataclass(frozen=True)
class RunPlan:
    """``rows``: of an epoch, filled to the share ``fill`` where examples are packed. ``tokens``: of
    all ``steps``. ``held_out``: tokens of the validation, read ``evaluations`` times. ``flops``: of
    all steps; ``seconds``: of steps and evaluations."""

    objective: str
    examples: int
    held_out: int
    rows: int
    fill: float | None
    epochs: float
    steps: int
    tokens: int
    evaluations: int
    trainable: int
    parameters: int
    memory: Memory
    flops: Flops
    operations: int
    rate: Rate
    seconds: float

    @property
    def flops_per_second(self) -> float:
        """That the measured rate means."""
        return self.operations / self.tokens * self.rate.tokens_per_second

    def to_json(self) -> dict[str, Any]:
        memory = {**dataclasses.asdict(self.memory), "total": self.memory.total}
        flops = {**dataclasses.asdict(self.flops), "total": self.operations}
        return {
            **dataclasses.asdict(self),
            "memory": memory,
            "flops": flops,
            "flops_per_second": self.flops_per_second,
        }


def check_plannable(recipe: Recipe) -> None:
    """`UnsupportedError` for an online objective; takes no time."""
    objective, _ = check_recipe(recipe)
    if isinstance(objective, OnlineObjective):
        raise UnsupportedError(
            f"a run of {recipe.objective_name} has no plan: it depends on the answers that the"
            " model will give",
            hint="steps=3 run=trial output=trial tries it; its metrics.jsonl has the seconds of"
            " each part of a step",
            param="objective",
        )


def plan_run(recipe: Recipe, run: Assembled, *, measure_s: float = 5.0) -> RunPlan:
    """The plan of ``run``, whose weights are changed by the steps that are measured: one, and
    more while they fit into ``measure_s``. `UnsupportedError` for an online objective."""
    check_plannable(recipe)
    run = without_reference(run)
    lengths = np.asarray(run.prepared.train.lengths)
    an_epoch = max(run.train.steps(1), 1)
    steps = steps_of(recipe, run.train)
    packs = run.objective.packs if recipe.pack is None else recipe.pack
    rows = run.train.rows()
    tokens = round(run.train.tokens() * steps / an_epoch)
    ops = ops_for(recipe.precision, run.base.module)
    memory = _memory(recipe, run, ops)
    flops = _scaled(count_flops(run.base.module, _load(run)), steps / an_epoch)
    operations = flops.total(checkpointing=recipe.checkpointing)
    rate = _measured(recipe, run, ops, measure_s)
    held = 0 if run.validation is None else run.validation.tokens()
    every = recipe.eval_every or max(steps // _EVALUATIONS, 1)
    evaluations = 0 if run.validation is None else -(-steps // every) + 1
    forward = evaluations * held
    if run.objective.refers:
        forward += run.train.tokens() + held
    read = tokens + forward * flops.forward / max(operations, 1)
    return RunPlan(
        objective=recipe.objective_name,
        examples=len(lengths),
        held_out=held,
        rows=rows,
        fill=float(lengths.sum() / rows / run.reading.max_length) if packs else None,
        epochs=steps / an_epoch,
        steps=steps,
        tokens=tokens,
        evaluations=evaluations,
        trainable=run.trainable,
        parameters=run.parameters,
        memory=memory,
        flops=flops,
        operations=operations,
        rate=rate,
        seconds=read / rate.tokens_per_second,
    )


def _load(run: Assembled) -> Load:
    """Of one epoch. Exact where an example is one sequence; otherwise by a sample of examples."""
    store, config = run.prepared.train, run.base.module.config
    places = np.unique(np.linspace(0, len(store) - 1, min(_SAMPLE, len(store))).astype(np.int64))
    sample = [[len(ids) for ids in store[int(place)].sequences] for place in places]
    batch = run.train.batches(0)[0]
    share = outputs_of(batch) / max(batch.tokens, 1)
    sources = np.zeros(0, np.int64)
    if all(len(sequences) == 1 for sequences in sample):
        lengths = np.asarray(store.lengths, np.int64)
    else:
        repeats = -(-len(store) // len(sample))
        if config.encoder is not None:
            pairs = np.tile(np.array([s[:2] for s in sample], np.int64), (repeats, 1))[: len(store)]
            sources, lengths = pairs[:, 0], pairs[:, 1]
        else:
            lengths = np.tile(np.array([n for s in sample for n in s], np.int64), repeats)
            lengths = lengths[: round(len(lengths) * len(store) / (repeats * len(sample)))]
    tokens = int(lengths.sum())
    outputs = {
        "lm": round(share * run.train.tokens()),
        "token": tokens,
        "span": tokens,
        "sequence": len(lengths),
    }.get(config.head, 0)
    return Load(lengths, outputs, sources)


def _scaled(flops: Flops, factor: float) -> Flops:
    def parts(counts: Mapping[str, int]) -> dict[str, int]:
        return {name: round(count * factor) for name, count in counts.items()}

    recomputed = round(flops.recomputed * factor)
    return Flops(parts(flops.forward_by_part), parts(flops.backward_by_part), recomputed)


def _memory(recipe: Recipe, run: Assembled, ops: Ops) -> Memory:
    module = run.base.module
    trained = [p for p in module.parameters() if p.requires_grad]
    matrices = parameter_groups(module)["matrices"] if recipe.optimizer == "muon" else []
    by_muon = sum(p.numel() for p in matrices)  # one moment instead of AdamW's two
    config = module.config
    longest = int(np.asarray(run.prepared.train.lengths).max())
    tokens = min(max(recipe.micro_tokens, longest), run.train.tokens())
    kept = round(_kept_per_token(run, ops) * tokens)
    blocks = config.num_layers + (config.encoder.num_layers if config.encoder else 0)
    inputs = tokens * config.hidden_size * _FLOAT * blocks
    checkpointed = min(inputs + kept // blocks, kept)
    return Memory(
        weights=sum(weight.nbytes for weight in held_weights(module).values()),
        gradients=_FLOAT * run.trainable,
        optimizer=_FLOAT * (2 * run.trainable - by_muon),
        average=_FLOAT * run.trainable if recipe.ema is not None else 0,
        activations=checkpointed if recipe.checkpointing else kept,
        checkpointed=checkpointed,
        logits=_LOGITS * CHUNK * config.num_outputs * _FLOAT if trained else 0,
    )


def _kept_per_token(run: Assembled, ops: Ops) -> float:
    """Bytes that autograd keeps for a token of a pass without checkpointing."""
    module = run.base.module
    module.train()
    batch = run.train.with_batch(_PROBED_ROWS).batches(0)[0].to(module.device)
    with _KeptBytes(module) as kept:
        loss = run.objective.loss(module, batch, ForwardContext(ops=ops))
    loss.total.backward()  # type: ignore[no-untyped-call]
    module.zero_grad()
    return kept.most / max(batch.tokens, 1)


class _KeptBytes:
    """Counts what autograd holds meanwhile, each storage once, and without ``module``'s own."""

    def __init__(self, module: torch.nn.Module) -> None:
        own = [*module.parameters(), *module.buffers()]
        self._own = {tensor.untyped_storage().data_ptr() for tensor in own}
        self._held: Counter[int] = Counter()
        self._bytes = self.most = 0
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda held: held.tensor)

    def __enter__(self) -> Self:
        self._hooks.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hooks.__exit__(kind, error, trace)

    def _pack(self, tensor: Tensor) -> _Held:
        return _Held(tensor, self)

    def add(self, tensor: Tensor, sign: int) -> None:
        storage = tensor.untyped_storage()
        place = storage.data_ptr()
        if place in self._own:
            return
        before = self._held[place]
        self._held[place] += sign
        if not before or not self._held[place]:
            self._bytes += sign * storage.nbytes()
            self.most = max(self.most, self._bytes)


class _Held:
    """A tensor that autograd keeps, until it lets go of it."""

    def __init__(self, tensor: Tensor, count: _KeptBytes) -> None:
        self.tensor, self._count = tensor, count
        count.add(tensor, 1)

    def __del__(self) -> None:
        self._count.add(self.tensor, -1)


def _measured(recipe: Recipe, run: Assembled, ops: Ops, seconds: float) -> Rate:
    """Real steps of a run that keeps nothing."""
    mean = run.train.tokens() / run.train.rows()
    rows = min(recipe.batch, max(math.ceil(recipe.micro_tokens / mean), 1))
    found: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        trained = TrainedModule(run.base.module, recipe, ops)
        source = ExampleSource(trained, run.objective, run.train.with_batch(rows))
        trainer = Trainer(trained, source, Checkpoints(Path(folder), 1), lambda _: None)
        end = time.perf_counter() + seconds
        while not found or (time.perf_counter() < end and len(found) < trainer.steps):
            started, before = time.perf_counter(), trainer.progress.tokens
            trainer.step()
            found.append((trainer.progress.tokens - before, time.perf_counter() - started))
    tokens, spent = sum(n for n, _ in found), sum(s for _, s in found)
    return Rate(tokens / spent, len(found), tokens // len(found), _peak())


def _peak() -> int:
    status = Path("/proc/self/status")
    # The kernel's other figure, below, begins with what the parent process took.
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
