"""LoRA: a small trained change to a frozen model, added, merged and taken away again.

    add_adapter      fresh terms that change nothing yet, ready to be trained
    load_adapter     an adapter folder as PEFT writes it, for any family
    save_adapter     such a folder, which PEFT loads
    merge_adapter    the change folded into the weights
    unmerge_adapter  the old weights back, bit for bit
    remove_adapter   the model as it was before

One adapter at a time. Covers LoRA, rank-stabilized LoRA and DoRA on linear layers, float or
quantized (QLoRA: Dettmers et al., 2023), and modules that are trained whole. Merged into a
quantized layer, the sum is a float. Refused by name: embeddings with low-rank terms, experts,
trained biases.
Settings are in `config`, names in `slots`, the files in `folder`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from lmstack.core import FormatError, InputError, UnsupportedError, shown
from lmstack.model.layers import Linear
from lmstack.model.lora.config import LoraConfig
from lmstack.model.lora.folder import StoredAdapter, read_adapter, write_adapter
from lmstack.model.lora.layers import LoraLinear, LowRank, initial_factors
from lmstack.model.lora.slots import Names, Slot, names_for, names_of
from lmstack.model.quant.matrix import QuantizedLinear, has_quantized, rows_of
from lmstack.model.transformer import Transformer

__all__ = [
    "Adapter",
    "adapter_of",
    "add_adapter",
    "count_parameters",
    "factors_at",
    "linear_at",
    "load_adapter",
    "merge_adapter",
    "remove_adapter",
    "save_adapter",
    "stored_term",
    "unmerge_adapter",
]

_ATTRIBUTE = "_lora_adapter"


@dataclass
class Adapter:
    """What a module carries while it has an adapter.

    ``linears``: the layers with terms, by path. ``replaced``: the base's own values of the
    parameters that the adapter trains whole. ``thawed``: the parameters of the base that were
    trainable before. ``base``: what its folder calls the base model, "" where it does not say.
    """

    config: LoraConfig
    names: Names
    linears: dict[str, LoraLinear] = field(default_factory=dict)
    replaced: dict[str, nn.Parameter] = field(default_factory=dict)
    thawed: list[nn.Parameter] = field(default_factory=list)
    merged: bool = False
    base: str = ""

    def terms(self) -> list[tuple[Slot, LowRank]]:
        found = (term for linear in self.linears.values() for term in linear.ordered())
        return [(self.names.linears[term.name], term) for term in found]

    def saved_slots(self) -> list[Slot]:
        return [s for s in self.names.parameters.values() if s.key in self.replaced]


def adapter_of(module: Transformer) -> Adapter:
    """The adapter of ``module``; `InputError` where it has none."""
    adapter = getattr(module, _ATTRIBUTE, None)
    if not isinstance(adapter, Adapter):
        raise InputError(
            "this model has no adapter", hint="load_adapter(module, folder) or add_adapter(...)"
        )
    return adapter


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """(trainable, all); one that is used twice counts once."""
    counts = [(p.numel(), p.requires_grad) for p in module.parameters()]
    return sum(n for n, trained in counts if trained), sum(n for n, _ in counts)


def add_adapter(
    module: Transformer, config: LoraConfig, *, model_type: str | None = None
) -> Adapter:
    """Freeze ``module`` and give it fresh terms to train; its outputs do not change yet.

    ``model_type``: the family whose names the targets are and a saved adapter has, where
    several have this config (a Phi-3 is also a LLaMA).
    """
    _check_base(module)
    names = names_of(module, model_type=model_type)
    adapter = Adapter(config, names)
    terms: dict[str, list[LowRank]] = defaultdict(list)
    for name in config.chosen(names.linears, names.outputs):
        slot = names.linears[name]
        linear = linear_at(module, slot)
        rows = rows_of(linear, slot.start, slot.stop).detach()
        factors = initial_factors(config.rank_of(name), len(rows), rows)
        _refuse_scaled(config, linear)
        term = _term(config, name, slot, factors, None)
        if config.dora:
            term.magnitude = nn.Parameter(torch.linalg.norm(rows.to(term.A.dtype), dim=1))
        terms[slot.path].append(term)
    saved = {}
    for slot in names.parameters.values():
        if config.is_saved(slot.name.rpartition(".")[0]):
            saved[slot.key] = _whole(module, slot).detach().clone()
    _check_saved(module, adapter, list(saved))
    for wanted in config.modules_to_save:
        only = LoraConfig(modules_to_save=(wanted,))
        if not any(only.is_saved(n.rpartition(".")[0]) for n in names.parameters):
            raise InputError(
                f"modules_to_save names {shown(wanted)}, which this model does not have",
                param="modules_to_save",
            )
    return _attach(module, adapter, terms, saved, trainable=True)


def load_adapter(module: Transformer, folder: Path | str, *, trainable: bool = False) -> Adapter:
    """Give ``module`` the adapter in ``folder``. ``trainable``: to go on training it.

    Factors are kept in float32 at least, as PEFT does; everything of the base is frozen.
    `FormatError`: it belongs to another model, or is damaged. `UnsupportedError`: it asks for
    what is not implemented. Nothing is changed then.
    """
    _check_base(module)
    stored = read_adapter(folder)
    names = names_for(module, stored.modules(), stored.label)
    adapter = Adapter(stored.config, names, base=stored.base)
    terms: dict[str, list[LowRank]] = defaultdict(list)
    for name in stored.modules():
        spelling = names.spelled(name, names.linears)
        assert spelling is not None
        slot = names.linears[spelling]
        _refuse_scaled(stored.config, linear_at(module, slot))
        terms[slot.path].append(stored_term(module, stored, name, slot))
    saved = {}
    for name, tensor in stored.whole.items():
        spelling = names.spelled(name, names.parameters)
        if spelling is None:
            raise FormatError(
                f"{stored.label} holds {shown(name)}, which this model does not have",
                hint="the adapter belongs to another model",
            )
        slot = names.parameters[spelling]
        saved[slot.key] = _stored_whole(module, stored, name, slot, tensor)
    _check_saved(module, adapter, list(saved))
    return _attach(module, adapter, terms, saved, trainable=trainable)


def save_adapter(module: Transformer, folder: Path | str, *, base: str | None = None) -> None:
    """Write the adapter of ``module`` as PEFT does: adapter_config.json and
    adapter_model.safetensors. Merged or not, trained on or not: its values of now. ``base``: the
    name of the base model; unless given, the one that the adapter was loaded with."""
    adapter = adapter_of(module)
    tensors: dict[str, Tensor] = {}
    for slot, term in adapter.terms():
        row, col = factors_at(adapter.linears[slot.path].base, slot)
        A, B = term.A.detach() / col, term.B.detach() / row
        values = {"lora_A.weight": A, "lora_B.weight": slot.rows_written(B)}
        if term.magnitude is not None:
            values["lora_magnitude_vector"] = slot.rows_written(term.magnitude.detach())
        tensors |= {f"{term.name}.{key}": value for key, value in values.items()}
    for slot in adapter.saved_slots():
        current = module.get_parameter(slot.key)
        tensors[slot.name] = slot.piece.part.layout.write(current.detach(), slot.piece.head_dim)
    transposed = any(slot.is_transposed for slot, _ in adapter.terms())
    named = adapter.base if base is None else base
    extra = {"fan_in_fan_out": transposed, "base_model_name_or_path": named or None}
    write_adapter(folder, _said_exactly(adapter), tensors, extra)


def _said_exactly(adapter: Adapter) -> LoraConfig:
    """The config, with the terms' own names where its patterns do not lead to them: they may
    have been written for a class with a head, which spells names with a prefix."""
    terms = [term for _, term in adapter.terms()]
    names = sorted(term.name for term in terms)
    config = adapter.config.without_idle_patterns(names)
    ranks = {term.name: term.rank for term in terms if config.rank_of(term.name) != term.rank}
    config = config.replace(rank_pattern={**ranks, **config.rank_pattern})
    alphas = {
        term.name: term.scale * (math.sqrt(term.rank) if config.rslora else term.rank)
        for term in terms
        if config.scale_of(term.name) != term.scale
    }
    config = config.replace(alpha_pattern={**alphas, **config.alpha_pattern})
    if terms and not config.leads_to(names, adapter.names.linears, adapter.names.outputs):
        config = config.replace(targets=tuple(names), exclude=(), layers=None)
    return config


@torch.no_grad()
def merge_adapter(module: Transformer, *, keep: bool = True) -> None:
    """Fold the terms into the weights: as fast as the base, and saved like any model.

    The old weights are kept for `unmerge_adapter`. Without ``keep`` they are given up, and with
    them the adapter: the model is then one without an adapter.
    """
    adapter = adapter_of(module)
    if not adapter.merged:
        for path, linear in adapter.linears.items():
            with torch.device("meta"):
                plain = Linear(1, 1, bias=False)
            plain.weight = nn.Parameter(linear.weight, requires_grad=False)
            plain.bias = linear.base.bias
            _place(module, path, plain)
        adapter.merged = True
    if not keep:
        thawed = {id(parameter) for parameter in adapter.thawed}
        for path, linear in adapter.linears.items():
            was_thawed = id(linear.base.weight) in thawed
            module.get_submodule(path).requires_grad_(was_thawed)
        _forget(module, adapter)


def unmerge_adapter(module: Transformer) -> None:
    """Undo `merge_adapter`: the weights of before, bit for bit, because they were kept. What was
    written into the merged weights since is lost."""
    adapter = adapter_of(module)
    if not adapter.merged:
        raise InputError("the adapter is not merged", hint="merge_adapter(module) first")
    for path, linear in adapter.linears.items():
        _place(module, path, linear.to(module.device).train(module.training))
    adapter.merged = False


def remove_adapter(module: Transformer) -> None:
    """The model as it was before its adapter, merged or not, bit for bit."""
    adapter = adapter_of(module)
    for path, linear in adapter.linears.items():
        _place(module, path, linear.base.to(module.device).train(module.training))
    for key, parameter in adapter.replaced.items():
        _put(module, key, parameter)
    _forget(module, adapter)


def _forget(module: Transformer, adapter: Adapter) -> None:
    for parameter in adapter.thawed:
        parameter.requires_grad_(True)
    setattr(module, _ATTRIBUTE, None)


def _check_base(module: Transformer) -> None:
    if isinstance(getattr(module, _ATTRIBUTE, None), Adapter):
        raise InputError(
            "this model has an adapter already",
            hint="remove_adapter(module), or merge_adapter(module, keep=False), first",
        )


def _whole(module: Transformer, slot: Slot) -> nn.Parameter:
    """The parameter that an adapter trains whole. Beside quantized matrices only a classifier
    is what the files hold: norms may be smoothed with what they feed."""
    if has_quantized(module) and not slot.key.startswith("classifier."):
        raise UnsupportedError(
            f"modules_to_save with {slot.name} on a quantized model",
            hint="load the model with weights='float32' or 'bfloat16'",
        )
    return module.get_parameter(slot.key)


def factors_at(linear: Linear, slot: Slot) -> tuple[Tensor, Tensor]:
    """What rows (rows, 1) and columns (in,) of the base's own weight were multiplied by before
    it was quantized (`smoothquant`): the factors of a term on it are, too."""
    if not isinstance(linear, QuantizedLinear):
        one = torch.ones(1, device=linear.weight.device)
        return one, one
    one = torch.ones(1, device=linear.codes.device)
    row, col = linear.row_factors, linear.col_factors
    rows = one if row is None else row[slot.start : slot.stop, None]
    return rows, one if col is None else col


def _refuse_scaled(config: LoraConfig, linear: Linear) -> None:
    if config.dora and isinstance(linear, QuantizedLinear) and linear.col_factors is not None:
        raise UnsupportedError(
            "DoRA on int8 weights whose columns SmoothQuant has scaled",
            hint="use weights='q4', 'nf4', 'bfloat16' or 'float32', or LoRA",
        )


def linear_at(module: Transformer, slot: Slot) -> Linear:
    linear = module.get_submodule(slot.path)
    assert isinstance(linear, Linear)
    return linear


def _term(
    config: LoraConfig,
    name: str,
    slot: Slot,
    factors: tuple[Tensor, Tensor],
    magnitude: Tensor | None,
) -> LowRank:
    """``name``: as the patterns of ``config`` spell it."""
    return LowRank(
        slot.name.removesuffix(".weight"),
        (slot.start, slot.stop),
        factors,
        scale=config.scale_of(name),
        dropout=config.dropout,
        magnitude=magnitude,
    )


def stored_term(module: Transformer, stored: StoredAdapter, name: str, slot: Slot) -> LowRank:
    """That of ``stored`` on the layer that it calls ``name``, as the matrix in ``module`` is
    held."""
    linear = linear_at(module, slot)
    weight = rows_of(linear, 0, 1)  # for its width, dtype and device
    found = stored.factors_of(name, slot.stop - slot.start, weight.shape[1])
    wide = torch.promote_types(torch.float32, weight.dtype)
    held = {kind: tensor.to(weight.device, wide) for kind, tensor in found.items()}
    magnitude = held.get("lora_magnitude_vector")
    row, col = factors_at(linear, slot)
    return _term(
        stored.config,
        name,
        slot,
        (held["lora_A"] * col, slot.rows_read(held["lora_B"]) * row),
        None if magnitude is None else slot.rows_read(magnitude),
    )


def _stored_whole(
    module: Transformer, stored: StoredAdapter, name: str, slot: Slot, tensor: Tensor
) -> Tensor:
    base = _whole(module, slot)
    stored.check(name, tensor, slot.piece.shape)
    return slot.piece.part.layout.read(tensor, slot.piece.head_dim).to(base)


def _check_saved(module: Transformer, adapter: Adapter, keys: list[str]) -> None:
    """A module that is trained whole must be one of ours, whole, and used once."""
    for key in keys:
        parts = [slot for slot in adapter.names.parameters.values() if slot.key == key]
        if len(parts) > 1:
            raise UnsupportedError(
                f"modules_to_save with {parts[0].name}, which is fused with others here",
                hint="train it with low-rank terms",
            )
        if key == "embed.weight" and module.config.tie_embeddings:
            raise UnsupportedError(
                f"modules_to_save with {parts[0].name}, which is also the output layer",
                hint="untie them first: config.replace(tie_embeddings=False)",
            )


def _attach(
    module: Transformer,
    adapter: Adapter,
    terms: Mapping[str, list[LowRank]],
    saved: Mapping[str, Tensor],
    *,
    trainable: bool,
) -> Adapter:
    adapter.thawed = [p for p in module.parameters() if p.requires_grad]
    module.requires_grad_(False)
    for path, found in terms.items():
        base = module.get_submodule(path)
        assert isinstance(base, Linear)
        linear = LoraLinear(base, found).train(module.training)
        linear.terms.requires_grad_(trainable)
        adapter.linears[path] = linear
        _place(module, path, linear)
    for key, value in saved.items():
        adapter.replaced[key] = module.get_parameter(key)
        _put(module, key, nn.Parameter(value, requires_grad=trainable))
    setattr(module, _ATTRIBUTE, adapter)
    return adapter


def _place(module: Transformer, path: str, child: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, child)


def _put(module: Transformer, key: str, parameter: nn.Parameter) -> None:
    path, _, name = key.rpartition(".")
    setattr(module.get_submodule(path), name, parameter)
