"""Several processes as one run: torchrun's environment, FSDP2, sums over all.

One process needs none of it, and everything here is then the identity; torch's sharded tensors
take seconds to import, and are not. Sharding follows the blocks
(`torch.distributed.fsdp.fully_shard`, Zhao et al., 2023); checkpoints hold whole tensors, so they
load on any number. All processes see the same files.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lmstack.core import EngineError, LmstackError
from lmstack.model import Transformer
from lmstack.model.blocks import TransformerBlock

__all__ = ["ALONE", "Parallel"]

_FAILED = "lmstack-failed"
T = TypeVar("T")


@dataclass(frozen=True)
class Parallel:
    """The ``rank``-th of ``world`` processes."""

    rank: int = 0
    world: int = 1

    @classmethod
    def from_environment(cls) -> Parallel:
        """What torchrun says; joins the group of processes."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            return cls()
        if not dist.is_initialized():
            both = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            dist.init_process_group(both)
            # Not after each run: torchrun's store would give the next one old addresses.
            atexit.register(dist.destroy_process_group)
        return cls(int(os.environ["RANK"]), world)

    @property
    def is_first(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    @property
    def device(self) -> str:
        """Where a run's products are computed: FSDP2 moves what it shards to a GPU, where there is
        one; a process by itself stays on the processor."""
        return "cuda" if self.world > 1 and torch.cuda.is_available() else "cpu"

    def wrapped(self, module: Transformer) -> Transformer:
        """``module`` sharded over the processes, in place."""
        if self.world == 1:
            return module
        from torch.distributed.fsdp import fully_shard

        for part in _sharded(module):
            fully_shard(part)
        fully_shard(module)
        return module

    def reshard(self, module: Transformer) -> None:
        """To be called before the shards of ``module`` are changed: a pass without gradients
        leaves whole weights behind, which the next pass would use."""
        for part in self._shards(module):
            part.reshard()

    @contextmanager
    def summoned(self, module: Transformer) -> Iterator[None]:
        """Meanwhile every process has the whole weights of ``module``, to be read."""
        if self.world == 1:
            yield
            return
        for part in self._shards(module):
            part.unshard()
        hooks = [(part, dict(part._state_dict_pre_hooks)) for part in module.modules()]
        for part, _ in hooks:
            part._state_dict_pre_hooks.clear()  # those of FSDP put the shards back
        try:
            yield
        finally:
            for part, before in hooks:
                part._state_dict_pre_hooks.update(before)
            self.reshard(module)

    def _shards(self, module: Transformer) -> Iterator[Any]:
        if self.world > 1:
            from torch.distributed.fsdp import FSDPModule

            yield from (part for part in module.modules() if isinstance(part, FSDPModule))

    def unwrapped(self, module: Transformer) -> None:
        """Whole weights in the place of the shards of ``module``, on the first process, to be
        written; others are left with what they have. Training is over then."""
        if self.world == 1:
            return
        self.reshard(module)
        for name, weight in self.gathered(dict(module.named_parameters())):
            if self.is_first:
                path, _, last = name.rpartition(".")
                whole = nn.Parameter(weight, requires_grad=False)
                module.get_submodule(path).register_parameter(last, whole)
        for part in module.modules():
            part._state_dict_pre_hooks.clear()  # those of FSDP put the shards back

    def summed(self, *values: float) -> list[float]:
        """Each value summed over the processes."""
        if self.world == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(sums)
        return [float(value) for value in sums]

    def told_by_first(self, value: int) -> int:
        """``value`` of the first process."""
        return int(self.summed(value if self.is_first else 0)[0])

    def of_all(self, tensor: Tensor) -> list[Tensor]:
        """That of every process, in their order; sizes may differ. Its own is ``tensor`` itself."""
        if self.world == 1:
            return [tensor]
        moved = (each.to(tensor.device) for each in self.joined([tensor.detach().cpu()]))
        return [tensor if rank == self.rank else each for rank, each in enumerate(moved)]

    def joined(self, own: Sequence[T]) -> list[T]:
        """What every process has, in their order, on all of them."""
        if self.world == 1:
            return list(own)
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, list(own))
        return [each for part in found for each in part]

    def gathered(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """``tensors`` unsharded, one after the other, in the memory of the CPU; empty ones on all
        processes but the first. Every process takes them all."""
        for name, tensor in tensors.items():
            whole = self.whole(tensor.detach())
            yield name, whole.cpu() if self.is_first else whole.new_empty(0)

    def whole(self, tensor: Tensor) -> Tensor:
        """``tensor`` unsharded, on every process."""
        if self.world == 1:
            return tensor
        from torch.distributed.tensor import DTensor

        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

    def dealt(self, tensor: Tensor, like: Tensor) -> Tensor:
        """The whole ``tensor``, which every process has, sharded as ``like`` if it is of its
        shape. Nothing is sent."""
        if self.world == 1:
            return tensor
        from torch.distributed.tensor import DTensor, distribute_tensor

        if isinstance(tensor, DTensor) or not isinstance(like, DTensor):
            return tensor
        if tensor.shape != like.shape:
            return tensor
        return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            dist.barrier()

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The first process does it, and then the others, who find what it left."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()

    @contextmanager
    def as_one(self) -> Iterator[None]:
        """An error of one process ends all of them, and is said once: `SystemExit` for those who
        need not say it."""
        if self.world == 1:
            yield
            return
        store = dist.distributed_c10d._get_default_store()
        try:
            yield
        except LmstackError:
            if store.add(_FAILED, 1) > 1:
                raise SystemExit(1) from None
            raise
        except KeyboardInterrupt:
            if not self.is_first:
                raise SystemExit(130) from None
            raise
        except RuntimeError as error:
            # The others' connections close when a process ends, however it ended.
            if "closed by peer" not in str(error) and "Connection reset" not in str(error):
                raise
            if store.add(_FAILED, 1) > 1:
                raise SystemExit(1) from None
            raise EngineError(
                "another process of this run has ended without a word",
                hint="its memory may not have sufficed; --resume goes on from the last checkpoint",
            ) from error


ALONE = Parallel()


def _sharded(module: Transformer) -> Iterator[nn.Module]:
    """The parts that are gathered by themselves, each called once in a pass."""
    for transformer in module.modules():
        if not isinstance(transformer, Transformer):
            continue
        config = transformer.config
        if config.num_blocks not in (None, config.num_layers):
            continue  # a block that serves several layers stays with the rest
        for block in transformer.blocks:
            assert isinstance(block, TransformerBlock)
            # Keys and values of the encoder's output are computed before the block is called.
            yield from (block.attention, block.mlp) if config.encoder is not None else (block,)
