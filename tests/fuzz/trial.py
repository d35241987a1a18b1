"""One mutated folder: what pull says of it, what loading says, and what the model computes.

Right is: an error of ours, or results. Where pull finds nothing wrong the model loads; what the
native programs give is what the reference ops give with the same roundings; and a mutation that
changes nothing that counts changes no bit. Everything else is a `FindingError`. A crash is seen by
who started the process (`run`).
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from tests.engine.conftest import generate
from tests.engine.cpu.quantized_models import (
    encoded_natively,
    generated_natively,
    rounded_output,
    writes,
)
from tests.fuzz.bases import Base
from tests.fuzz.mutations import Mutant
from torch import Tensor

from lmstack.core import LmstackError, UnsupportedError
from lmstack.engine import Engine, EngineConfig, GrammarVocabulary
from lmstack.model import Transformer, build_module
from lmstack.model.forms import Form, Weight
from lmstack.model.loading import check_model, read_weights

__all__ = ["FindingError", "tried"]

_LENGTHS = (13, 5, 2)
# Rounding the other way now and then moves results by so much of the largest.
_FLIPPED = 0.1
_FORMS: dict[str, tuple[Form, ...]] = {
    "plain": ("float32", "int8", "q4", "bfloat16"),
    "int8": ("int8", "float32"),
    "q4": ("q4", "float32"),
    "gguf": ("float32", "file", "file8", "int8"),
}


class FindingError(Exception):
    """Neither an error of ours nor a right result."""


def tried(base: Base, mutant: Mutant, folder: Path, seed: int) -> str:
    """How it ended: "right", or "refused" and by which error. ``folder``: an empty one."""
    for name, raw in mutant.files.items():
        (folder / name).write_bytes(raw)
    forms = _FORMS[base.form]
    form = forms[0] if seed % 3 else forms[seed // 3 % len(forms)]
    try:
        check_model(folder)
    except LmstackError as error:
        _refused(mutant, error)
        if seed % 4 == 0:
            _never_loads(folder, form)
        return f"refused: {type(error).__name__}"
    try:
        module = _loaded(folder, form)
    except LmstackError as error:
        # Values are only looked at when they are quantized: pull reads none.
        if form == forms[0] and base.form != "gguf":
            raise FindingError(f"pull takes what does not load: {error}") from error
        _refused(mutant, error)
        return f"refused: {type(error).__name__}"
    return _run(base, mutant, module, form, seed)


def _refused(mutant: Mutant, error: LmstackError) -> None:
    if mutant.neutral:
        raise FindingError(f"what changes nothing is refused: {error}") from error
    if not error.message:
        raise FindingError("an error without a message") from error


def _never_loads(folder: Path, form: Form) -> None:
    try:
        _loaded(folder, form)
    except LmstackError:
        return
    raise FindingError("pull refuses what loads")


def _loaded(folder: Path, form: Form) -> Transformer:
    """The module, every tensor in memory of its own: a sanitizer sees what leaves it."""
    config, weights = read_weights(folder, form)
    return build_module(config, {key: _copied(weight) for key, weight in weights.items()})


def _copied(weight: Weight) -> Weight:
    if isinstance(weight, Tensor):
        return weight.clone()
    return dataclasses.replace(
        weight, **{name: tensor.clone() for name, tensor in weight.buffers().items()}
    )


# -- results ------------------------------------------------------------------------------------


def _run(base: Base, mutant: Mutant, module: Transformer, form: Form, seed: int) -> str:
    with torch.inference_mode():
        try:
            if form not in ("int8", "q4", "file", "file8") or not _compares(mutant, module, seed):
                _reference(module)
        except LmstackError as error:
            _refused(mutant, error)
            return f"refused: {type(error).__name__}"
        if mutant.neutral:
            _same_as_before(base, module, form)
        if seed % 8 == 0 and writes(module) and module.encoder is None:
            _served(module)
    return "right"


def _ids(module: Transformer, length: int) -> list[int]:
    vocab = module.config.vocab_size
    return [(5 + 7 * i + length) % vocab for i in range(min(length, module.config.max_positions))]


def _reference(module: Transformer) -> Tensor:
    """Logits, or the last hidden states where there are none."""
    return _outputs(module, _LENGTHS[0])[0]


def _outputs(module: Transformer, length: int, kv: str | None = None) -> tuple[Tensor, Tensor]:
    """The last thing that a model gives, and the hidden states that come before its head; with
    the roundings of native programs and a cache of ``kv``."""
    ids = torch.tensor([_ids(module, length)])
    given = {} if module.encoder is None else {"decoder_input_ids": ids}
    if module.encoder is not None:
        ids = torch.tensor([_ids(module.encoder, length)])
    out = module(ids, **given) if kv is None else rounded_output(module, kv, input_ids=ids, **given)  # type: ignore[arg-type]
    hidden = out.last_hidden_state
    if module.encoder is not None and not writes(module):
        hidden = out.encoder_last_hidden_state
    last = out.pooled if out.logits is None else out.logits
    return (hidden if last is None else last), hidden


def _compares(mutant: Mutant, module: Transformer, seed: int) -> bool:
    """False where the reference ops serve, because the model does what has no kernel."""
    try:
        _compare(mutant, module, seed)
    except UnsupportedError:
        return False
    return True


def _compare(mutant: Mutant, module: Transformer, seed: int) -> None:
    """Native results against the reference with their roundings; one of several lengths at least
    must agree, since a code that is rounded the other way changes all that follows."""
    kv = "int8" if seed % 2 and writes(module) else "bfloat16"
    differences = []
    for length in _LENGTHS:
        last, hidden = _outputs(module, length, kv)
        native = _native(module, length, kv)
        expected = (last if writes(module) else hidden)[0]
        if native.shape != expected.shape:
            raise FindingError(f"native results of shape {native.shape}, not {expected.shape}")
        if mutant.wild or not expected.isfinite().all():
            return
        if not native.isfinite().all():
            raise FindingError("native results are not finite, those of the reference are")
        scale = max(float(expected.abs().max()), 1e-20)
        differences.append(float((native - expected).abs().max()) / scale)
        if differences[-1] < _FLIPPED:
            return
    raise FindingError(f"native results differ from the reference by {differences}")


def _native(module: Transformer, length: int, kv: str) -> Tensor:
    ids = _ids(module, length)
    if writes(module):
        source: Sequence[int] = () if module.encoder is None else _ids(module.encoder, length)
        return generated_natively(module, ids, kv, source=source, length=len(ids))[1]  # type: ignore[arg-type]
    encoder = module if module.encoder is None else module.encoder
    return encoded_natively(encoder, [_ids(encoder, length)])[0]


def _same_as_before(base: Base, changed: Transformer, form: Form) -> None:
    with tempfile.TemporaryDirectory() as name:
        for file, raw in base.files.items():
            (Path(name) / file).write_bytes(raw)
        module = _loaded(Path(name), form)
    if not torch.equal(_reference(changed), _reference(module)):
        raise FindingError("what changes nothing changes results")


def _served(module: Transformer) -> None:
    """Through the engine: every way ends with tokens or an error of ours."""
    vocab = module.config.vocab_size
    if vocab > 1 << 12 or math.prod((module.config.num_layers, module.config.hidden_size)) > 4096:
        return
    tokens = [bytes([i % 256]) for i in range(vocab)]
    engine = Engine(module, GrammarVocabulary(tokens, frozenset(), frozenset()), EngineConfig())
    try:
        outcome = generate(engine, _ids(module, 5), max_tokens=3)
    except LmstackError:
        return
    if not outcome.done:
        raise FindingError("the engine neither answers nor says why")
