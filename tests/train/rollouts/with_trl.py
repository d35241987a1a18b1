"""What TRL's own PPO makes of drawn tensors, kept in trl_ppo.json as the oracle of our tests.

TRL 0.11.4 is the last version whose PPOTrainer has its rewards, advantages and losses in functions
that can be called, and needs an older transformers than the tests do. In an environment of its own:

    pip install trl==0.11.4 transformers==4.45.2 rich "setuptools<81" "numpy<2.4" torch==2.13.0
    python tests/train/rollouts/with_trl.py

Everything is in float64.
"""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any

import torch

OUT = Path(__file__).with_name("trl_ppo.json")
VERSION = "0.11.4"
LENGTHS = (5, 1, 7, 3)
SETTINGS = {
    **{"cliprange": 0.2, "cliprange_value": 0.15, "vf_coef": 0.3, "ratio_threshold": 1e9},
    **{"gamma": 0.97, "lam": 0.9, "whiten_rewards": False},
}


def drawn() -> dict[str, torch.Tensor]:
    """Ratios and values that leave their ranges on both sides, for one token in three or so."""
    torch.manual_seed(18)
    shape = (len(LENGTHS), max(LENGTHS))
    found = {name: -3 * torch.rand(shape).double() for name in ("old", "reference")}
    found["logprobs"] = found["old"] + 0.25 * torch.randn(shape).double()
    found["values"] = torch.randn(shape).double()
    found["vpreds"] = found["values"] + 0.2 * torch.randn(shape).double()
    found["scores"] = torch.randn(len(LENGTHS)).double()
    found["mask"] = (torch.arange(shape[1]) < torch.tensor(LENGTHS)[:, None]).double()
    return found


def main() -> None:
    import trl
    from trl.core import masked_whiten
    from trl.trainer.ppo_trainer import PPOTrainer
    from trl.trainer.utils import AdaptiveKLController

    assert trl.__version__ == VERSION
    x = drawn()
    kept: dict[str, Any] = {"trl": VERSION, "lengths": LENGTHS, "settings": SETTINGS}
    kept["given"] = {name: value.tolist() for name, value in x.items()}
    mask = x["mask"]
    for name, penalty in (("k1", "kl"), ("k2", "mse")):
        config = types.SimpleNamespace(**SETTINGS, kl_penalty=penalty)
        control = types.SimpleNamespace(value=0.2)
        trainer = types.SimpleNamespace(config=config, kl_ctl=control)
        trainer._kl_penalty = types.MethodType(PPOTrainer._kl_penalty, trainer)
        rewards, _, kl = PPOTrainer.compute_rewards(
            trainer, x["scores"], x["old"], x["reference"], mask
        )
        kept[name] = {"kl": (kl * mask).tolist(), "rewards": (rewards * mask).tolist()}
    _, advantages, returns = PPOTrainer.compute_advantages(trainer, x["values"], rewards, mask)
    kept["advantages"], kept["returns"] = (advantages * mask).tolist(), (returns * mask).tolist()
    kept["whitened"] = {
        str(shift).lower(): (masked_whiten(x["values"], mask, shift_mean=shift) * mask).tolist()
        for shift in (True, False)
    }
    logprobs, vpreds = (x[name].requires_grad_() for name in ("logprobs", "vpreds"))
    policy, value, stats = PPOTrainer.loss(
        trainer,
        *(x["old"], x["values"], torch.zeros(*mask.shape, 3).double(), vpreds, logprobs, mask),
        *(advantages, returns),
    )
    (policy + value).backward()
    kept["losses"] = {
        "policy": float(policy),
        "value": float(value),
        "policy_clipped": float(stats["policy/clipfrac"]),
        "value_clipped": float(stats["val/clipfrac"]),
        "logprobs_gradient": logprobs.grad.tolist(),
        "vpreds_gradient": vpreds.grad.tolist(),
    }
    control = AdaptiveKLController(0.2, 6.0, 10000)
    kept["coefficients"] = []
    for kl, samples in ((1.0, 256), (5.9, 256), (6.3, 64), (30.0, 512), (7.0, 1)):
        control.update(kl, samples)
        kept["coefficients"].append([kl, samples, float(control.value)])
    lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in kept.items())
    OUT.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
