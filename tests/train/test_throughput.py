"""The operations of a step, and the rate that they are compared with."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from tests.train import tiny
from torch.utils.flop_counter import FlopCounterMode

from lmstack.model import ForwardContext
from lmstack.train import throughput
from lmstack.train.data.examples import padded
from lmstack.train.objectives.causal import next_token_batch
from lmstack.train.objectives.objective import token_loss
from lmstack.train.throughput import matrix_rate, step_flops


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_operations_of_a_batch_are_those_that_torch_counts() -> None:
    module, batch = tiny.model("llama"), next_token_batch(tiny.examples(5))
    with FlopCounterMode(display=False) as counter:
        token_loss(module, batch, ForwardContext()).total.backward()
    counted = step_flops(module, [batch])
    # Not those of the fused attention of a CPU, which torch has no formula for.
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.1)
    assert step_flops(module, [batch, batch]) == 2 * counted


def test_each_token_of_an_answer_is_given_to_the_head() -> None:
    """A pair is one prediction, of many tokens."""
    module, batch = tiny.model("llama"), next_token_batch(tiny.examples(5))
    pairs = dataclasses.replace(batch, weight=2.0)
    assert step_flops(module, [pairs]) == step_flops(module, [batch])
    assert step_flops(module, [dataclasses.replace(batch, weight=0.0)]) < step_flops(
        module, [batch]
    )


def test_padding_counts_for_nothing() -> None:
    module, examples = tiny.model("bert"), tiny.examples(5)
    batch = next_token_batch(examples)
    ids, mask = padded([example.sequences[0] for example in examples], 0)
    inputs = {"input_ids": ids, "attention_mask": mask}
    wide = type(batch)(inputs, batch.labels, batch.weight, batch.tokens)
    assert step_flops(module, [wide]) == step_flops(module, [batch])


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_a_rate_is_measured_once(precision: str) -> None:
    rate = matrix_rate(precision, torch.device("cpu"))
    assert rate > 1e8
    assert matrix_rate(precision, torch.device("cpu")) == rate


def test_another_number_of_threads_has_a_rate_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, products = torch.device("cpu"), list[int]()
    product = torch.mm
    monkeypatch.setattr(throughput, "_SIDE", 8)
    monkeypatch.setattr(torch, "mm", lambda *given: products.append(1) or product(*given))
    throughput._rate.cache_clear()
    counts = []
    for threads in (3, 3, 4):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        matrix_rate("float32", cpu)
        counts.append(len(products))
    throughput._rate.cache_clear()
    assert counts[0] == counts[1] < counts[2]


def test_steps_log_what_their_products_reach(tmp_path: Path) -> None:
    trainer = tiny.trainer(tiny.model("llama", dtype=torch.float32), tmp_path, tiny.examples(9))
    trainer.run()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(line["flops_per_second"] > 0 for line in lines if "tokens_per_second" in line)
    assert trainer.flops > 0
