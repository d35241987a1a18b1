"""Optimizers: which parameters decay, and which are Muon's.

AdamW (Loshchilov and Hutter, 2019) is torch's own, fused. Decay is of matrices and tables, as in
transformers' Trainer; norms, biases and other vectors have none. `Muon` is for the matrices inside
blocks; embeddings, output layers, convolutions, norms and biases stay AdamW's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lmstack.core import InputError
from lmstack.model import Transformer
from lmstack.model.layers import Convolution
from lmstack.model.lora.layers import LowRank
from lmstack.train.muon import Muon, fused_rows
from lmstack.train.parallel import ALONE, Parallel
from lmstack.train.precision import dtype_of
from lmstack.train.recipe import Recipe

__all__ = ["Optimizers", "parameter_groups"]


def parameter_groups(module: nn.Module) -> dict[str, list[nn.Parameter]]:
    """What is trained in ``module`` as ``matrices`` of blocks, ``tables`` (other matrices) and
    ``vectors`` (norms and biases, T5's table of biases too, which never decay)."""
    groups: dict[str, list[nn.Parameter]] = {"matrices": [], "tables": [], "vectors": []}
    kernels = {m.weight for m in module.modules() if isinstance(m, Convolution)}
    owners = (m for m in module.modules() if isinstance(m, Transformer))
    biases = {owner.relative_bias.weight for owner in owners if owner.relative_bias is not None}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        is_vector = parameter.dim() < 2 or parameter in biases
        is_inside = "blocks." in name and parameter not in kernels
        kind = "vectors" if is_vector else "matrices" if is_inside else "tables"
        groups[kind].append(parameter)
    return groups


class Optimizers:
    """The optimizers of a run, stepped as one. ``lr`` and ``muon_lr`` of the recipe are the
    highest; `step` is given the share of them."""

    def __init__(self, module: nn.Module, recipe: Recipe, parallel: Parallel = ALONE) -> None:
        groups = parameter_groups(module)
        decay, beta = recipe.weight_decay, (recipe.beta1, recipe.beta2)
        matrices: list[nn.Parameter] = []
        if recipe.optimizer == "muon":
            _check_muon(module)
            matrices = groups.pop("matrices")
        adam = [
            {"params": found, "weight_decay": 0.0 if kind == "vectors" else decay}
            for kind, found in groups.items()
            if found
        ]
        self._all: list[torch.optim.Optimizer] = []
        if adam:
            self._all.append(torch.optim.AdamW(adam, lr=recipe.lr, betas=beta, fused=True))
        if matrices:
            rows = fused_rows(module)
            self._all.append(
                Muon(
                    matrices,
                    recipe.muon_lr,
                    weight_decay=decay,
                    rows=rows,
                    parallel=parallel,
                    dtype=dtype_of("auto", parallel.device),
                )
            )
        if not self._all:
            raise InputError("nothing in the model is trained", hint="lora, or a base of floats")
        self._highest = [group["lr"] for group in self._groups()]
        names = {parameter: name for name, parameter in module.named_parameters()}
        self._named = {
            names[parameter]: (optimizer, parameter)
            for optimizer in self._all
            for group in optimizer.param_groups
            for parameter in group["params"]
        }

    def _groups(self) -> list[dict[str, object]]:
        return [group for optimizer in self._all for group in optimizer.param_groups]

    def step(self, share: float) -> None:
        """One step at ``share`` of the highest learning rates; gradients are dropped after it."""
        for group, highest in zip(self._groups(), self._highest, strict=True):
            group["lr"] = share * float(highest)  # type: ignore[arg-type]
        for optimizer in self._all:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """What is optimized, by name."""
        return {name: parameter for name, (_, parameter) in self._named.items()}

    def state(self) -> dict[str, Tensor]:
        """Everything that the optimizers remember, as ``parameter:what``."""
        found: dict[str, Tensor] = {}
        for name, (optimizer, parameter) in self._named.items():
            for key, value in optimizer.state.get(parameter, {}).items():
                found[f"{name}:{key}"] = torch.as_tensor(value)
        return found

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The reverse of `state`, on parameters of the same names."""
        for optimizer in self._all:
            optimizer.state.clear()
        for key, value in state.items():
            name, _, what = key.rpartition(":")
            optimizer, parameter = self._named[name]
            optimizer.state[parameter][what] = value


def _check_muon(module: nn.Module) -> None:
    if any(isinstance(part, LowRank) for part in module.modules()):
        raise InputError(
            "optimizer is muon, and there is a lora",
            hint="Muon is for whole matrices; factors are trained with optimizer=adamw",
            param="optimizer",
        )
