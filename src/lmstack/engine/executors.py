"""The executors that there are, and which of them runs a model: the first that can.

A new device: its executor, a line here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Sequence as Seq
from typing import TypeVar

import torch

from lmstack.core import EngineError, InputError, UnsupportedError, shown
from lmstack.engine.config import EngineConfig
from lmstack.engine.cpu.executor import NativeEncoder, NativeExecutor
from lmstack.engine.executor import Encoder, Executor
from lmstack.engine.torch.executor import TorchEncoder, TorchExecutor
from lmstack.model import Transformer
from lmstack.model.quant.matrix import has_quantized

__all__ = ["ENCODERS", "EXECUTORS", "check_device", "open_encoder", "open_executor"]

log = logging.getLogger("lmstack.engine")
K = TypeVar("K")
T = TypeVar("T")

# The fastest first.
EXECUTORS: tuple[type[Executor], ...] = (NativeExecutor, TorchExecutor)
ENCODERS: tuple[type[Encoder], ...] = (NativeEncoder, TorchEncoder)


def open_executor(
    module: Transformer, config: EngineConfig, executors: Seq[type[Executor]] = EXECUTORS
) -> tuple[Executor, int]:
    """The first of ``executors`` that can run ``module`` as ``config`` asks, and the blocks of its
    KV pool. `InputError`: torch has no such device. `UnsupportedError`: none of them can."""
    check_device(config.device)
    model = module.config
    window = model.max_positions + (0 if model.encoder is None else model.encoder.max_positions)

    def opened(kind: type[Executor]) -> tuple[Executor, int]:
        num_blocks = config.pool_blocks(kind.bytes_per_token(module, config), window)
        return kind.open(module, num_blocks, config), num_blocks

    return _first(executors, opened, module)


def open_encoder(module: Transformer, encoders: Seq[type[Encoder]] = ENCODERS) -> Encoder:
    """The first of ``encoders`` that can run ``module``."""
    return _first(encoders, lambda kind: kind(module), module)


def _first(kinds: Seq[type[K]], opened: Callable[[type[K]], T], module: Transformer) -> T:
    problems: list[str] = []
    for kind in kinds:
        try:
            found = opened(kind)
        except (UnsupportedError, EngineError) as error:
            problems.append(error.message)
            continue
        # Floats run by torch as a matter of course; with integers somebody expected more speed.
        if problems and has_quantized(module):
            log.warning("quantized weights run slowly, by %s: %s", kind.__name__, problems[0])
        return found
    raise UnsupportedError(
        f"nothing here runs this model: {'; '.join(problems)}",
        hint="choose another device or other weights",
        param="device",
    )


def check_device(name: str) -> None:
    """`InputError` where torch has no device ``name`` here."""
    try:
        torch.zeros(1, device=name).item()  # which a device without memory cannot say
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise InputError(
            f"torch cannot use the device {shown(name)} here: {reason}",
            hint='use device "cpu", or install a build of torch for that device',
            param="device",
        ) from error
