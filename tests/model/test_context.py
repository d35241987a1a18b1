"""A pass and its context: dropout, activation checkpointing, varlen batches, sharding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from tests.model.test_attention_memory import LENGTHS, peak_bytes, slope
from torch.testing import assert_close

from lmstack.core import ContextLengthError, InputError, UnsupportedError
from lmstack.model import (
    Dropout,
    ForwardContext,
    LayerKind,
    ReferenceOps,
    Transformer,
    TransformerConfig,
)

SIZES = {
    "vocab_size": 41,
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 4,
    "head_dim": 8,
    "intermediate_size": 48,
    "max_positions": 128,
}
DECODERS = {
    "llama": {"num_kv_heads": 2},
    "windows": {"kinds": (LayerKind(window=3), LayerKind()), "pattern": (0, 1)},
    "softcap": {"attention_softcap": 5.0},
    "alibi": {"bias": "alibi", "kinds": (LayerKind(rope=None),), "pattern": (0, 0)},
    "learned": {
        "positions": "learned",
        "norm": "ln",
        "mlp": "plain",
        "kinds": (LayerKind(rope=None),),
        "pattern": (0, 0),
    },
    "parallel": {"parallel": True},
    "encoder": {"causal": False, "norm_place": "post", "norm": "ln"},
    "shared blocks": {"num_blocks": 1},
}


def model(**changes: object) -> Transformer:
    torch.manual_seed(0)
    module = Transformer(TransformerConfig(**SIZES | changes))
    module.reset_parameters(0.3)
    return module


def gradients(module: Transformer) -> dict[str, torch.Tensor]:
    found = {k: p.grad.clone() for k, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    return found


def ids(count: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(5, 41, (count,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", DECODERS)
def test_gradients_of_a_varlen_batch_are_those_of_each_document_alone(kind: str) -> None:
    module = model(**DECODERS[kind]).double()
    lengths = [5, 5, 1, 9, 3]
    row = ids(sum(lengths))
    weigh = torch.randn(41, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    (module(row, lengths=lengths).logits @ weigh).square().sum().backward()
    packed = gradients(module)
    for document in row.split(lengths):
        (module(document[None]).logits @ weigh).square().sum().backward()
    alone = gradients(module)
    assert packed.keys() == alone.keys()
    for key, expected in alone.items():
        assert_close(packed[key], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", [kind for kind in DECODERS if kind != "encoder"])
def test_sequences_that_go_on_have_the_gradients_of_whole_ones(kind: str) -> None:
    """Beginnings are read once; where one is empty or goes on twice in one length, too."""
    module = model(**DECODERS[kind]).double()
    begun, further, continues = (4, 1, 6), (3, 3, 2, 1, 5), (0, 0, 0, 1, 2)
    parts = ids(sum(begun) + sum(further)).split([*begun, *further])
    weigh = torch.randn(41, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    cut = {"lengths": [*begun, *further], "continues": continues}
    scores = module(torch.cat(parts), **cut).logits @ weigh
    scores[sum(begun) :].square().sum().backward()
    shared = gradients(module)
    for before, own in zip(continues, parts[len(begun) :], strict=True):
        whole = torch.cat((parts[before], own))
        (module(whole[None]).logits[0, -len(own) :] @ weigh).square().sum().backward()
    alone = gradients(module)
    assert shared.keys() == alone.keys()
    for key, expected in alone.items():
        assert_close(shared[key], expected, rtol=1e-9, atol=1e-9)


def test_a_sequence_that_goes_on_from_none_is_refused() -> None:
    for continues in ((2,), (-1,), (0, 1, 0)):
        with pytest.raises(InputError, match="continues names"):
            model()(ids(4), lengths=[1, 1, 2], continues=continues)
    with pytest.raises(UnsupportedError, match="causal"):
        model(causal=False)(ids(3), lengths=[1, 2], continues=(0,))
    learned = model(**DECODERS["learned"] | {"max_positions": 4})
    with pytest.raises(ContextLengthError, match="5 tokens, but the model has 4"):
        learned(ids(5), lengths=[3, 2], continues=(0,))


def test_a_varlen_batch_gives_what_a_pooling_head_makes_of_each_document() -> None:
    module = model(causal=False, head="sequence", num_labels=3, pooling="mean")
    row = ids(9)
    found = module(row, lengths=[4, 5]).logits
    for one, document in zip(found, row.split([4, 5]), strict=True):
        assert_close(one, module(document[None]).logits[0])


@pytest.mark.parametrize(
    "kind",
    [
        "llama",
        "windows",
        *(pytest.param(kind, marks=pytest.mark.long) for kind in ("softcap", "alibi")),
    ],
)
def test_memory_of_a_training_step_grows_with_the_tokens_and_not_with_their_square(
    kind: str,
) -> None:
    """Of one long document, forwards and backwards, all layers together."""
    module = model(**DECODERS[kind] | {"max_positions": 4096})

    def step(count: int) -> None:
        row = ids(count)
        module(row, lengths=[count], output_hidden_states=False).last_hidden_state.sum().backward()

    assert slope([peak_bytes(partial(step, count)) for count in LENGTHS]) < 1.1


def test_lengths_that_do_not_cut_the_ids_are_refused() -> None:
    with pytest.raises(InputError, match="add up to 3"):
        model()(ids(4), lengths=[1, 2])
    with pytest.raises(InputError, match=r"of shape \(2, 2\)"):
        model()(ids(4).view(2, 2), lengths=[4])
    with pytest.raises(InputError, match="input_ids run from 5 to 41"):
        model()(torch.tensor([5, 41]), lengths=[2])
    with pytest.raises(ContextLengthError, match="3 tokens, but the model has 2"):
        model(**DECODERS["learned"] | {"max_positions": 2})(ids(4), lengths=[1, 3])
    inner = TransformerConfig(**SIZES, causal=False, head="none")
    with pytest.raises(UnsupportedError, match="varlen"):
        model(encoder=inner)(ids(4), lengths=[4])


@pytest.mark.parametrize("kind", DECODERS)
def test_checkpointing_gives_the_same_gradients_with_dropout_in_it(kind: str) -> None:
    module, row = model(**DECODERS[kind]), ids(12).view(2, 6)
    kept = ForwardContext(dropout=Dropout(0.3, seed=7))
    found = []
    for context in (kept, kept.replace(checkpoint=True), ForwardContext()):
        module(row, context=context).logits.square().sum().backward()
        found.append(gradients(module))
    for key, expected in found[0].items():
        assert_close(found[1][key], expected, rtol=0, atol=0)
    assert any(not torch.equal(found[2][key], found[0][key]) for key in found[0])


def test_checkpointing_keeps_the_inputs_of_blocks_alone() -> None:
    module, row = model(num_layers=4, pattern=(0,) * 4), ids(64)[None]
    counts = []
    for checkpoint in (False, True):
        saved: list[int] = []

        def note(tensor: torch.Tensor, saved: list[int] = saved) -> torch.Tensor:
            saved.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            module(row, context=ForwardContext(checkpoint=checkpoint), output_hidden_states=False)
        counts.append(sum(saved))
    assert counts[1] < counts[0] / 3


def test_dropout_keeps_the_expectation_and_follows_from_its_seed() -> None:
    x = torch.ones(20_000, 2)
    found = Dropout(0.25, seed=3)(x, 1, 0)
    assert_close(found.mean(), torch.tensor(1.0), atol=0.02, rtol=0)
    assert_close(found.unique(), torch.tensor([0.0, 4 / 3]))
    assert torch.equal(found, Dropout(0.25, seed=3)(x, 1, 0))
    others = [Dropout(0.25, 4)(x, 1, 0), Dropout(0.25, 3)(x, 2, 0), Dropout(0.25, 3)(x, 1, 1)]
    assert all(not torch.equal(found, other) for other in others)
    with pytest.raises(InputError, match="dropout of 1"):
        Dropout(1.0, 0)


class Slow(ReferenceOps):
    """Other numbers than the reference, and another thread in the midst of them."""

    def norm(self, x, norm):  # type: ignore[no-untyped-def]
        return super().norm(x, norm) * 2


def test_passes_with_different_ops_over_one_module_do_not_meet() -> None:
    module, row = model(), ids(40)[None]
    contexts = [ForwardContext(), ForwardContext(Slow())] * 8
    with torch.no_grad():
        plain, other = (module(row, context=c).logits for c in contexts[:2])
        assert not torch.equal(plain, other)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda c: _logits(module, row, c), contexts))
    for index, logits in enumerate(found):
        assert torch.equal(logits, (plain, other)[index % 2])


@torch.no_grad()
def _logits(module: Transformer, row: torch.Tensor, context: ForwardContext) -> torch.Tensor:
    return module(row, context=context).logits


SHARDED = """
    import json, os, sys
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.nn.parallel import DistributedDataParallel
    from lmstack.model import Dropout, ForwardContext, Transformer, TransformerConfig

    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    lengths = [3, 4, 5, 4]
    row = torch.randint(5, 41, (sum(lengths),), generator=torch.Generator().manual_seed(1))
    context = ForwardContext(checkpoint=True, dropout=Dropout(0.0, 0))
    found = {}
    for kind in ("one", "fsdp", "ddp"):
        torch.manual_seed(0)
        module = Transformer(TransformerConfig(**json.loads(sys.argv[1])))
        module.reset_parameters(0.3)
        mine = row.split(lengths) if kind == "one" else row.split(lengths)[rank::world]
        if kind == "fsdp":
            mesh = init_device_mesh("cpu", (world,))
            for block in module.blocks:
                fully_shard(block, mesh=mesh)
            fully_shard(module, mesh=mesh)
        elif kind == "ddp":
            module = DistributedDataParallel(module)
        out = module(torch.cat(mine), lengths=[len(d) for d in mine], context=context)
        (out.logits.square().sum() * (1 if kind == "one" else world)).backward()
        found[kind] = {}
        for name, parameter in module.named_parameters():
            grad = parameter.grad
            grad = grad.full_tensor() if hasattr(grad, "full_tensor") else grad
            found[kind][name.removeprefix("module.")] = grad.flatten().double().tolist()
    if rank == 0:
        print(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()
"""


def sharded(rendezvous: str) -> dict[str, dict[str, list[float]]]:
    """Gradients by name: of a process alone, and of two together in both ways."""
    running = []
    for rank in range(2):
        more = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
        more |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": rendezvous}
        settings = json.dumps(SIZES | {"num_kv_heads": 2})
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(SHARDED), settings],
                env=os.environ | more,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    outputs = [process.communicate(timeout=120)[0] for process in running]
    assert all(process.returncode == 0 for process in running)
    found: dict[str, dict[str, list[float]]] = json.loads(outputs[0])
    return found


@pytest.fixture
def port() -> str:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.mark.long
def test_two_processes_get_the_gradients_of_one_through_forward(port: str) -> None:
    """Both ways of sharding by themselves; whole runs of two processes are in
    `tests/train/test_processes.py`."""
    found = sharded(port)
    for kind in ("fsdp", "ddp"):
        assert found[kind].keys() == found["one"].keys()
        for name, expected in found["one"].items():
            torch.testing.assert_close(
                torch.tensor(found[kind][name]), torch.tensor(expected), rtol=1e-4, atol=1e-4
            )
