"""Optimizers: which parameters decay, and which are Muon's.

AdamW (Loshchilov and Hutter, 2019) and Muon (Jordan et al., 2024) are torch's own. Muon is for the
matrices inside blocks; embeddings, output layers, norms and biases stay AdamW's.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lmstack.train.recipe import Recipe

__all__ = ["Optimizers", "parameter_groups"]


def parameter_groups(named: Iterable[tuple[str, nn.Parameter]]) -> dict[str, list[nn.Parameter]]:
    """Trained parameters as ``matrices`` of blocks, ``tables`` (other matrices) and ``vectors``
    (norms and biases, which never decay)."""
    groups: dict[str, list[nn.Parameter]] = {"matrices": [], "tables": [], "vectors": []}
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        inside = "blocks." in name
        kind = "vectors" if parameter.dim() < 2 else "matrices" if inside else "tables"
        groups[kind].append(parameter)
    return groups


class Optimizers:
    """The optimizers of a run, stepped as one. ``lr`` and ``muon_lr`` of the recipe are the
    highest; `step` is given the share of them."""

    def __init__(self, module: nn.Module, recipe: Recipe) -> None:
        groups = parameter_groups(module.named_parameters())
        decay, beta = recipe.weight_decay, (recipe.beta1, recipe.beta2)
        matrices = groups.pop("matrices") if recipe.optimizer == "muon" else []
        adam = [
            {"params": found, "weight_decay": 0.0 if kind == "vectors" else decay}
            for kind, found in groups.items()
            if found
        ]
        self._all: list[torch.optim.Optimizer] = []
        if adam:
            self._all.append(torch.optim.AdamW(adam, lr=recipe.lr, betas=beta, fused=True))
        if matrices:
            self._all.append(torch.optim.Muon(matrices, lr=recipe.muon_lr, weight_decay=decay))
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
        for key, value in state.items():
            name, _, what = key.rpartition(":")
            optimizer, parameter = self._named[name]
            optimizer.state[parameter][what] = value
