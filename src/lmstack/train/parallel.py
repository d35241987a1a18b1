"""Several processes as one run: torchrun's environment, FSDP2, sums over all.

One process needs none of it, and everything here is then the identity. Sharding follows the blocks
(`torch.distributed.fsdp.fully_shard`); checkpoints hold whole tensors, so they load on any number.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from lmstack.model import Transformer

__all__ = ["Parallel"]


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
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        return cls(int(os.environ["RANK"]), world)

    @property
    def is_first(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def wrapped(self, module: Transformer) -> Transformer:
        """``module`` sharded over the processes, in place."""
        if self.world == 1:
            return module
        from torch.distributed.fsdp import fully_shard

        for block in module.blocks:
            fully_shard(block)
        fully_shard(module)
        return module

    def summed(self, *values: float) -> list[float]:
        """Each value summed over the processes."""
        if self.world == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(sums)
        return [float(value) for value in sums]

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``tensors`` unsharded, on every process."""
        return {
            name: tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            for name, tensor in tensors.items()
        }

    def dealt(self, tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole ``tensors`` sharded as those of ``like`` with the name up to its last colon."""
        found = {}
        for name, tensor in tensors.items():
            target = like.get(name, like.get(name.rpartition(":")[0]))
            is_split = isinstance(target, DTensor) and tensor.shape == target.shape
            if is_split and not isinstance(tensor, DTensor):
                assert isinstance(target, DTensor)
                tensor = distribute_tensor(tensor, target.device_mesh, target.placements)
            found[name] = tensor
        return found

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            dist.barrier()
