"""What processes know of each other, with what goes between them given by hand."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tests.train import tiny

from lmstack.core import EngineError, InputError
from lmstack.model import Transformer
from lmstack.train.parallel import ALONE, Parallel, _sharded

BOTH = (Parallel(0, 2), Parallel(1, 2))


def test_all_processes_know_what_the_first_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step that a run goes on from: neither a mean over processes nor anybody else's word."""
    said, group = (12, 7, 0), [Parallel(rank, 3) for rank in range(3)]
    given: list[torch.Tensor] = []
    monkeypatch.setattr(dist, "all_reduce", lambda sums: given.append(sums.clone()))
    for parallel, value in zip(group, said, strict=True):
        parallel.told_by_first(value)
    total = torch.stack(given).sum(0)
    monkeypatch.setattr(dist, "all_reduce", lambda sums: sums.copy_(total))
    assert [p.told_by_first(value) for p, value in zip(group, said, strict=True)] == [12] * 3
    assert ALONE.told_by_first(7) == 7


def test_sums_keep_the_digits_of_large_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "all_reduce", lambda sums: sums.mul_(2))
    assert BOTH[1].summed(2**40 + 1, 0.5) == [2.0**41 + 2, 1.0]
    assert ALONE.summed(3, 0.5) == [3, 0.5]


@pytest.mark.parametrize(("has_gpu", "backend"), [(False, "gloo"), (True, "cpu:gloo,cuda:nccl")])
def test_a_process_is_what_torchrun_says_and_joins_the_group_once(
    monkeypatch: pytest.MonkeyPatch, has_gpu: bool, backend: str
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(dist, "is_initialized", lambda: bool(calls))
    monkeypatch.setattr(dist, "init_process_group", calls.append)
    monkeypatch.setattr(atexit, "register", calls.append)
    monkeypatch.setenv("RANK", "1")
    for size in (None, "1"):
        monkeypatch.delenv("WORLD_SIZE", raising=False)
        if size is not None:
            monkeypatch.setenv("WORLD_SIZE", size)
        assert Parallel.from_environment() == ALONE == Parallel(0, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for _ in range(2):
        assert Parallel.from_environment() == BOTH[1]
    assert calls == [backend, dist.destroy_process_group]
    assert [p.device for p in (ALONE, *BOTH)] == ["cpu", *["cuda" if has_gpu else "cpu"] * 2]
    assert [p.is_first for p in (ALONE, *BOTH)] == [True, True, False]


def test_what_all_have_comes_in_their_order_and_ones_own_is_not_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tensors = [torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([3.0])]

    def gather(found: list[Any], own: Sequence[Any]) -> None:
        assert not any(getattr(each, "requires_grad", False) for each in own)
        found[:] = [[tensors[0].detach()], [tensors[1]]] if torch.is_tensor(own[0]) else ["ab", own]

    monkeypatch.setattr(dist, "all_gather_object", gather)
    for parallel in BOTH:
        found = parallel.of_all(tensors[parallel.rank])
        assert [each.tolist() for each in found] == [[1, 2], [3]]
        assert found[parallel.rank] is tensors[parallel.rank]
    assert BOTH[1].joined(["c", "d"]) == ["a", "b", "c", "d"]
    assert (ALONE.joined("ab"), ALONE.of_all(tensors[0])) == (["a", "b"], [tensors[0]])


def test_the_first_process_alone_holds_what_is_gathered() -> None:
    weight = torch.nn.Parameter(torch.ones(2, 3))
    for parallel, shape in ((ALONE, (2, 3)), (BOTH[0], (2, 3)), (BOTH[1], (0,))):
        ((name, found),) = parallel.gathered({"w": weight})
        assert (name, tuple(found.shape), found.requires_grad) == ("w", shape, False)
    # Plain tensors are whole, on one process and on several.
    for parallel in (ALONE, *BOTH):
        assert parallel.whole(weight) is weight
        assert parallel.dealt(weight, torch.ones(2, 3)) is weight


def test_the_first_goes_before_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(dist, "barrier", lambda: done.append("wait"))
    for parallel in (*BOTH, ALONE):
        with parallel.in_turn():
            done.append(f"{parallel.rank} of {parallel.world}")
        parallel.wait()
    first, other = ["0 of 2", "wait", "wait"], ["wait", "1 of 2", "wait"]
    assert done == [*first, *other, "0 of 1"]


class Store:
    """Which all processes see."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, key: str, number: int) -> int:
        assert key == "lmstack-failed"
        self.count += number
        return self.count


ERRORS: list[tuple[BaseException, type[BaseException], type[BaseException]]] = [
    (InputError("no"), InputError, SystemExit),
    (RuntimeError("Connection closed by peer [::1]"), EngineError, SystemExit),
    (RuntimeError("Connection reset by it"), EngineError, SystemExit),
    (RuntimeError("out of memory"), RuntimeError, RuntimeError),
    (KeyError("x"), KeyError, KeyError),
]


@pytest.mark.parametrize(("error", "first", "later"), ERRORS)
def test_an_error_of_all_is_said_by_whoever_finds_it_first(
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    first: type[BaseException],
    later: type[BaseException],
) -> None:
    store = Store()
    monkeypatch.setattr(dist.distributed_c10d, "_get_default_store", lambda: store)
    for parallel, wanted in ((BOTH[1], first), (BOTH[0], later)):
        with pytest.raises(wanted) as found, parallel.as_one():
            raise error
        assert type(found.value) is wanted
        assert wanted is not SystemExit or found.value.code == 1
    with pytest.raises(type(error)) as found, ALONE.as_one():
        raise error
    assert found.value is error


def test_ctrl_c_is_said_by_the_first_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist.distributed_c10d, "_get_default_store", Store)
    with pytest.raises(KeyboardInterrupt), BOTH[0].as_one():
        raise KeyboardInterrupt
    with pytest.raises(SystemExit) as found, BOTH[1].as_one():
        raise KeyboardInterrupt
    assert found.value.code == 130
    with BOTH[1].as_one():
        pass


@pytest.mark.parametrize("family", ["llama", "albert", "t5"])
def test_what_is_gathered_by_itself_is_called_once_in_a_pass(family: str) -> None:
    """Blocks; parts of them beside an encoder; none where one block serves several layers."""
    module = tiny.model(family)
    stacks = [each for each in module.modules() if isinstance(each, Transformer)]
    blocks = [block for stack in stacks for block in stack.blocks]
    wanted = {
        "llama": blocks,
        "albert": [],
        "t5": [
            p
            for s in stacks
            for b in s.blocks
            for p in ((b.attention, b.mlp) if s.config.encoder is not None else (b,))
        ],
    }[family]
    assert [*_sharded(module)] == wanted
    assert len(blocks) == {"llama": 2, "albert": 1, "t5": 4}[family]


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_process_has_whole_weights_in_the_end_and_no_hooks_that_deal_them(
    rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tiny.model("llama")
    before, dealt = tiny.weights(module), list[object]()
    whole = [(name, weight + 1) for name, weight in before.items()]
    monkeypatch.setattr(Parallel, "reshard", lambda _, given: dealt.append(given))
    monkeypatch.setattr(
        Parallel, "gathered", lambda _, given: whole if {*given} == {*before} else []
    )
    module.register_state_dict_pre_hook(lambda *_: pytest.fail("shards are back"))
    Parallel(rank, 2).unwrapped(module)
    assert dealt == [module]
    module.state_dict()
    for name, weight in module.named_parameters():
        assert torch.equal(weight, before[name] + (rank == 0))
