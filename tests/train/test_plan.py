"""The plan of a run, against the run itself, torch's counter, and the memory of a process."""

from __future__ import annotations

import dataclasses
import json
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.train import tiny
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lmstack.model import ForwardContext, ReferenceOps
from lmstack.registry import ModelFolder
from lmstack.text import VocabularyConfig, train_tokenizer
from lmstack.train import Recipe, train
from lmstack.train import plan as plan_module
from lmstack.train.assembly import Assembled, assemble
from lmstack.train.data.examples import IGNORED, Batch, Example
from lmstack.train.flops import Flops
from lmstack.train.parallel import Parallel
from lmstack.train.plan import Memory, Rate, RunPlan, _KeptBytes, plan_run

TEXTS = [f"the cat number {n} sat on the mat " * (1 + n % 4) for n in range(30)]
MODEL = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}


RECIPE = Path(__file__).parents[2] / "recipes/sft-lora.yaml"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    torch.set_num_threads(1)
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    train_tokenizer(TEXTS, VocabularyConfig(vocab_size=280)).save(tmp_path / "tokenizer")
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    return {
        "objective": "causal",
        "model": MODEL,
        "tokenizer": str(tmp_path / "tokenizer"),
        "data": str(data),
        "output": str(tmp_path / "made"),
        "run": str(tmp_path / "run"),
        "max_length": 48,
        "micro_tokens": 96,
        "batch": 4,
        "epochs": 2,
    }


def planned(settings: dict[str, Any], **more: Any) -> tuple[RunPlan, Assembled, Recipe]:
    recipe = Recipe.from_mapping(settings | more)
    run = assemble(recipe, recipe.folder / "examples", Parallel())
    return plan_run(recipe, run, measure_s=0.0), run, recipe


@pytest.mark.parametrize("more", [{}, {"steps": 7}, {"pack": False}, {"epochs": 1.5}])
def test_a_run_does_what_its_plan_says(settings: dict[str, Any], more: dict[str, Any]) -> None:
    plan, run, recipe = planned(settings, **more)
    result = train(recipe)
    assert plan.steps == result.steps
    assert plan.trainable == result.trainable
    assert plan.parameters == result.parameters
    # The epochs that a run does not end differ by the rows that they begin with.
    is_whole = plan.epochs == int(plan.epochs)
    assert plan.tokens == pytest.approx(result.tokens, rel=0 if is_whole else 0.1)
    assert plan.held_out == run.validation.tokens()
    assert (plan.fill is None) == (recipe.pack is False)
    lines = (recipe.folder / "metrics.jsonl").read_text().splitlines()
    evaluated = sum("validation_loss" in line for line in lines)
    assert plan.evaluations == pytest.approx(evaluated + 1, abs=2)


@pytest.mark.parametrize("lora", [None, {"r": 4, "targets": ["q_proj", "v_proj"]}])
def test_operations_are_those_that_torch_counts_of_an_epoch(
    settings: dict[str, Any], lora: dict[str, Any] | None
) -> None:
    if lora is not None:
        train(Recipe.from_mapping(settings | {"steps": 1, "output": settings["output"] + "-base"}))
        base = {k: v for k, v in settings.items() if k not in ("model", "tokenizer")}
        settings = base | {"base": settings["output"] + "-base", "run": settings["run"] + "-2"}
    plan, run, _ = planned(settings, epochs=1, lora=lora, micro_tokens=48)
    module = run.base.module
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        for step in range(run.train.steps(1)):
            for batch in run.train.batches(step):
                run.objective.loss(module, batch, ForwardContext()).total.backward()
    # torch counts every pair of a sequence, those that are hidden too.
    lengths = run.prepared.train.lengths
    per_pair = 4 * 32 * 3 * 3
    hidden = sum(int(n) * int(n) - int(n) * (int(n) + 1) // 2 for n in lengths) * per_pair
    # The share of tokens that are predicted is that of the first pass.
    assert plan.operations + hidden == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_activations_are_those_of_a_whole_pass(settings: dict[str, Any]) -> None:
    plan, run, recipe = planned(settings, micro_tokens=480, batch=10)
    (batch,) = run.train.batches(0)
    run.base.module.train()
    with _KeptBytes(run.base.module) as kept:
        run.objective.loss(run.base.module, batch, ForwardContext())
    per_token = plan.memory.activations / min(480, run.train.tokens())
    assert kept.most / batch.tokens == pytest.approx(per_token, rel=0.15)
    assert plan.memory.checkpointed < plan.memory.activations / 2
    again, *_ = planned(settings, micro_tokens=480, batch=10, checkpointing=True)
    assert again.memory.activations == again.memory.checkpointed
    assert again.operations > plan.operations
    del recipe


def test_activations_are_those_of_the_recipes_precision(settings: dict[str, Any]) -> None:
    plain, _, _ = planned(settings, precision="float32")
    half, _, _ = planned(settings, precision="bfloat16")
    assert half.memory.activations < 0.9 * plain.memory.activations


def test_checkpointing_keeps_the_inputs_of_blocks_and_what_one_block_keeps(
    settings: dict[str, Any],
) -> None:
    plan, run, _ = planned(settings, micro_tokens=96)
    inputs = 96 * 32 * 4 * 3
    assert plan.memory.checkpointed == inputs + plan.memory.activations // 3
    assert plan.memory.logits == 3 * 256 * run.base.module.config.vocab_size * 4
    assert plan.memory.program == 400 << 20
    parts = ("weights", "gradients", "optimizer", "average", "activations", "logits", "program")
    assert plan.memory.total == sum(getattr(plan.memory, part) for part in parts)
    assert plan.memory.average == 0
    # A row that is longer than a pass is read by itself; a pass is not longer than an epoch.
    longest = int(max(run.prepared.train.lengths))
    for micro, tokens in ((1, longest), (1 << 20, run.train.tokens())):
        again, *_ = planned(settings, micro_tokens=micro)
        kept = plan.memory.activations / 96
        assert again.memory.activations == pytest.approx(kept * tokens, rel=0.02)


def test_a_plan_counts_steps_evaluations_and_what_they_read(settings: dict[str, Any]) -> None:
    for more, every in (
        ({"steps": 25}, 2),
        ({"steps": 25, "eval_every": 10}, 10),
        ({"steps": 5}, 1),
    ):
        plan, run, _ = planned(settings, **more)
        assert plan.evaluations == -(-more["steps"] // every) + 1
        an_epoch = run.train.steps(1)
        assert plan.epochs == more["steps"] / an_epoch
        assert plan.tokens == round(run.train.tokens() * more["steps"] / an_epoch)
        assert plan.examples == len(run.prepared.train.lengths)
        assert plan.rows == run.train.rows()
        assert plan.fill == pytest.approx(run.train.tokens() / plan.rows / 48)
        read = plan.evaluations * plan.held_out * plan.flops.forward / plan.operations
        wanted = (plan.tokens + read) / plan.rate.tokens_per_second
        assert plan.seconds == pytest.approx(wanted)
        assert plan.rate.steps == 1
        assert 0 < plan.rate.tokens <= run.train.tokens()
    alone, run, _ = planned(settings, validation=0.0)
    assert (alone.held_out, alone.evaluations, run.validation) == (0, 0, None)
    assert alone.seconds == pytest.approx(alone.tokens / alone.rate.tokens_per_second)
    assert alone.objective == "causal"


def test_blocks_of_an_encoder_keep_their_inputs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "_kept_per_token", lambda run, ops: 1000.0)
    module = tiny.model("t5")
    config = module.config
    assert config.encoder is not None
    blocks = config.num_layers + config.encoder.num_layers
    store = SimpleNamespace(lengths=[5, 8, 3])
    run: Any = SimpleNamespace(
        base=SimpleNamespace(module=module),
        prepared=SimpleNamespace(train=store),
        train=SimpleNamespace(tokens=lambda: 16),
        trainable=10,
    )
    recipe: Any = SimpleNamespace(optimizer="adamw", micro_tokens=4, ema=None, checkpointing=False)
    memory = plan_module._memory(recipe, run, ReferenceOps())
    assert memory.activations == 8 * 1000
    assert memory.checkpointed == 8 * config.hidden_size * 4 * blocks + 8000 // blocks
    assert (memory.gradients, memory.optimizer, memory.average) == (40, 80, 0)


class Stored(list[Example]):
    @property
    def lengths(self) -> list[int]:
        return [example.tokens for example in self]


@pytest.mark.parametrize(
    ("sizes", "encoder", "head", "lengths", "sources", "outputs"),
    [
        ([(5,), (3,), (4,)], None, "lm", [5, 3, 4], [], 18),
        ([(5,), (3,), (4,)], None, "token", [5, 3, 4], [], 12),
        ([(5, 2), (3, 1), (4, 6)], None, "sequence", [5, 2, 3, 1, 4, 6], [], 6),
        ([(5, 2), (3, 1), (4, 6)], None, "none", [5, 2, 3, 1, 4, 6], [], 0),
        ([(5, 2), (3, 1), (4, 6)], "one", "lm", [2, 1, 6], [5, 3, 4], 18),
        ([(1, 2)] * 300, None, "span", [1, 2] * 300, [], 900),  # by a sample
        ([(1, 2)] * 300, "one", "lm", [2] * 300, [1] * 300, 18),
    ],
)
def test_what_is_read_of_an_epoch_is_each_sequence(
    sizes: list[tuple[int, ...]],
    encoder: str | None,
    head: str,
    lengths: list[int],
    sources: list[int],
    outputs: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan_module, "_SAMPLE", 7)
    examples = [Example(tuple(np.zeros(n, np.int32) for n in each)) for each in sizes]
    config = SimpleNamespace(encoder=encoder, head=head)
    labels = torch.tensor([3, 3, IGNORED, IGNORED])  # half of the tokens are predicted
    batch = Batch({"input_ids": labels}, labels, 2.0, 4)
    run: Any = SimpleNamespace(
        prepared=SimpleNamespace(train=Stored(examples)),
        base=SimpleNamespace(module=SimpleNamespace(config=config)),
        train=SimpleNamespace(batches=lambda step: [batch], tokens=lambda: 36),
    )
    load = plan_module._load(run)
    assert load.lengths.tolist() == lengths
    assert load.sources.tolist() == sources
    assert load.outputs == outputs


@pytest.mark.parametrize(
    ("status", "platform", "peak"),
    [
        ("Name:\tpython\nVmHWM:\t   12 kB\nVmRSS:\t 7 kB\n", "linux", 12 << 10),
        ("Name:\tpython\n", "linux", 5 << 10),
        (None, "linux", 5 << 10),
        (None, "darwin", 5),  # where the unit is a byte
    ],
)
def test_the_peak_is_in_bytes_whoever_tells_it(
    monkeypatch: pytest.MonkeyPatch, status: str | None, platform: str, peak: int
) -> None:
    file = SimpleNamespace(exists=lambda: status is not None, read_text=lambda: status)
    monkeypatch.setattr(plan_module, "Path", lambda name: {"/proc/self/status": file}[name])
    monkeypatch.setattr(resource, "getrusage", lambda _: SimpleNamespace(ru_maxrss=5))
    monkeypatch.setattr(sys, "platform", platform)
    assert plan_module._peak() == peak


def test_bytes_of_what_is_trained_follow_from_it(settings: dict[str, Any]) -> None:
    plan, *_ = planned(settings, ema=0.9)
    assert plan.memory.weights == 4 * plan.parameters
    assert plan.memory.gradients == plan.memory.average == 4 * plan.trainable
    assert plan.memory.optimizer == 8 * plan.trainable
    muon, *_ = planned(settings, optimizer="muon")
    assert 4 * plan.trainable < muon.memory.optimizer < 8 * plan.trainable


def test_a_plan_is_json_with_its_totals() -> None:
    memory = Memory(1, 2, 4, 8, 16, 32, 64, 128)
    flops = Flops({"products": 3}, {"products": 6}, 1)
    plan = RunPlan(
        *("sft", 9, 8, 7, 0.5, 1.0, 6, 50, 4, 3, 2),
        *(memory, flops, 900, Rate(10.0, 1, 2, 3), 1.5),
    )
    written = json.loads(json.dumps(plan.to_json()))
    assert written == {
        **json.loads(json.dumps(dataclasses.asdict(plan))),
        "memory": {**vars(memory), "total": 1 + 2 + 4 + 8 + 16 + 64 + 128},
        "flops": {**vars(flops), "total": 900},
        "flops_per_second": 180.0,
    }
    assert (flops.forward, flops.backward) == (3, 6)


def test_a_plan_leaves_nothing_that_a_run_would_stumble_over(settings: dict[str, Any]) -> None:
    _, _, recipe = planned(settings, steps=2)
    assert not (recipe.folder / "checkpoints").exists()
    assert not (recipe.folder / "metrics.jsonl").exists()
    assert train(recipe).steps == 2


PEAK = """
import json, resource, sys
from pathlib import Path
from lmstack.train import read_recipe, train
from lmstack.train.assembly import assemble
from lmstack.train.parallel import Parallel
from lmstack.train.plan import plan_run
recipe = read_recipe(sys.argv[1], sys.argv[3:])
if sys.argv[2] == "plan":
    run = assemble(recipe, recipe.folder / "examples", Parallel())
    print(plan_run(recipe, run, measure_s=0).memory.total)
else:
    train(recipe)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.long
@pytest.mark.weights
@pytest.mark.parametrize("checkpointing", [False, True])
def test_memory_is_within_a_quarter_of_what_a_lora_run_of_smollm2_takes(
    smollm2: ModelFolder, tmp_path: Path, checkpointing: bool
) -> None:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Say something about number {n}. " * 8},
                {"role": "assistant", "content": f"The number {n} follows {n - 1}. " * 12},
            ]
        }
        for n in range(80)
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = (
        *("steps=2", "batch=4", "micro_tokens=2048", "validation=0", "precision=float32"),
        f"data={tmp_path}/data.jsonl",
        f"base={smollm2.path}",
        f"checkpointing={str(checkpointing).lower()}",
    )
    found = []
    for what in ("plan", "run"):
        command = [sys.executable, "-c", PEAK, str(RECIPE), what, *given]
        command += [f"run={tmp_path}/{what}", f"output={tmp_path}/out-{what}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(int(done.stdout.split()[-1]))
    planned_bytes, peak = found
    assert planned_bytes == pytest.approx(peak, rel=0.25), found
