"""What a case of parity is, and how ours and theirs are built from it.

A case is data: a class of transformers, its settings, variants that change some of them, and
traps. `test_parity` runs every case; `write_page` makes the table of docs/families.md of them.
Covered: decoders, encoders, encoder-decoders, with any head.
"""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from torch import Tensor

from lmstack.model import Transformer, TransformerConfig, build_module, load_module
from lmstack.model.families import config_from_json

Tensors = dict[str, Tensor]
# What a trap does to a config and its tensors to show what a mistake would change.
Change = Callable[[TransformerConfig, Tensors], tuple[TransformerConfig, Tensors]]


@dataclass(frozen=True)
class Trap:
    """``change`` makes the mistake; ``variant`` is the one whose weights show it."""

    change: Change
    variant: str = "plain"


@dataclass(frozen=True)
class Case:
    """``variants``: name to changed settings; "plain", without changes, is always one.

    ``lengths``: tokens of the two rows of a batch. ``given_positions``: their forward takes
    position_ids, which left padding needs there. ``stepwise``: variants whose angles depend on
    the length, so that a step without cache is the only truth. ``center``: what weights of norms
    scatter around. ``edit``: a last change to their model, for a trap that plain random weights
    would hardly show. ``not_greedy``: variants that do not write texts.
    ``alone``: padding on the left misleads theirs, which is right for each row by itself.
    ``ends``: texts end in their eos, and the decoder reads as many tokens as the encoder.
    ``computed``: ends of names of constant tables that transformers fills where a file has none.
    """

    family: str
    architecture: str
    settings: Mapping[str, Any]
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    traps: Mapping[str, Trap] = field(default_factory=dict)
    lengths: tuple[int, int] = (13, 8)
    given_positions: bool = True
    stepwise: tuple[str, ...] = ()
    center: float = 1.0
    edit: Callable[[torch.nn.Module], None] | None = None
    not_greedy: tuple[str, ...] = ()
    alone: bool = False
    ends: bool = False
    computed: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return ("plain", *self.variants)

    @property
    def decodes(self) -> bool:
        """Whether it is an encoder and a decoder."""
        encoder = ("EncoderModel", "T5ForTokenClassification")
        return self.config("plain").is_encoder_decoder and not self.architecture.endswith(encoder)

    def theirs(self, variant: str) -> transformers.PreTrainedModel:
        return _as_new(_theirs(self.family, self.architecture, variant, _Held(self)))

    def ours(self, variant: str) -> Transformer:
        return _saved(self.family, self.architecture, variant, _Held(self))[0]

    def drawn(self, variant: str) -> Transformer:
        """Ours with random weights of its own, where theirs is not looked at."""
        return _drawn(self.family, self.architecture, variant, _Held(self))

    def names_saved(self, variant: str) -> frozenset[str]:
        """Names of the tensors in the file that transformers saves."""
        return _saved(self.family, self.architecture, variant, _Held(self))[1]

    def config(self, variant: str) -> transformers.PretrainedConfig:
        """Made once and only read: a model gets a copy."""
        return _config(self.family, self.architecture, variant, _Held(self))


@dataclass(frozen=True, eq=False)
class _Held:
    """A case as an argument that the cache of models does not look into."""

    case: Case

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held)

    def __hash__(self) -> int:
        return 0


def setting(variant: str = "plain", **changes: Any) -> Trap:
    """The trap that fields of the config spring: ``changes`` are the mistake."""
    return Trap(lambda config, tensors: (config.replace(**changes), tensors), variant)


def derived(variant: str, change: Callable[[TransformerConfig], TransformerConfig]) -> Trap:
    """The same, where the mistake depends on the config."""
    return Trap(lambda config, tensors: (change(config), tensors), variant)


def misread(end: str, change: Callable[[Tensor, TransformerConfig], Tensor]) -> Trap:
    """The trap of a layout: tensors whose names end with ``end``, read the wrong way."""

    def apply(config: TransformerConfig, tensors: Tensors) -> tuple[TransformerConfig, Tensors]:
        wrong = {k: change(t, config) if k.endswith(end) else t for k, t in tensors.items()}
        assert any(k.endswith(end) for k in tensors), f"no tensor ends with {end}"
        return config, wrong

    return Trap(apply)


def randomized(model: torch.nn.Module, center: float = 1.0, seed: int = 0) -> torch.nn.Module:
    """Weights far from their initial zeros and ones, so that a forgotten one shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = name.endswith("weight") and parameter.dim() == 1
            parameter.copy_(center + 0.2 * noise if scale else 0.15 * noise)
    return model.eval()


@functools.cache
def _config(family: str, architecture: str, variant: str, held: _Held) -> Any:
    del family
    changes = {} if variant == "plain" else held.case.variants[variant]
    cls = getattr(transformers, architecture).config_class
    return cls(**{**held.case.settings, **changes})


# Whoever asks first: a test that trains may be next.
@functools.cache
@torch.inference_mode(mode=False)
def _theirs(family: str, architecture: str, variant: str, held: _Held) -> Any:
    del family
    config = copy.deepcopy(held.case.config(variant))
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = randomized(getattr(transformers, architecture)(config), held.case.center)
    if held.case.edit is not None:
        with torch.no_grad():
            held.case.edit(model)
    return model


def _as_new(model: transformers.PreTrainedModel) -> transformers.PreTrainedModel:
    """A model of theirs whose dynamic rotary angles are again those of no input: they stay at the
    longest input read, and each test would get those of the ones before it."""
    for module in model.modules():
        if hasattr(module, "original_max_seq_len"):
            for name, angles in list(module.named_buffers(recurse=False)):
                if name.endswith("original_inv_freq"):
                    setattr(module, name.replace("original_", ""), angles.clone())
            for name in [each for each in vars(module) if each.endswith("max_seq_len_cached")]:
                setattr(module, name, module.original_max_seq_len)
    return model


@functools.cache
@torch.inference_mode(mode=False)
def _saved(
    family: str, architecture: str, variant: str, held: _Held
) -> tuple[Transformer, frozenset[str]]:
    """Ours from the folder that theirs saves, and the names there: saving takes longer than most
    of what is done with either."""
    del family, architecture
    with tempfile.TemporaryDirectory() as folder:
        held.case.theirs(variant).save_pretrained(folder)
        return load_module(Path(folder)), tensor_names(Path(folder))


@functools.cache
@torch.inference_mode(mode=False)
def _drawn(family: str, architecture: str, variant: str, held: _Held) -> Transformer:
    del family
    config = held.case.config(variant)
    kept = {"architectures": [architecture], "model_type": config.model_type}
    module = Transformer(config_from_json(config.to_dict() | kept))
    randomized(module, held.case.center)
    return module


def sprung(case: Case, trap: Trap) -> Transformer:
    """Our module with the mistake of ``trap`` made."""
    module = case.ours(trap.variant)
    config, tensors = trap.change(module.config, dict(module.state_dict()))
    with torch.device("meta"):
        needed = set(Transformer(config).state_dict())
    assert needed <= set(tensors), f"the trap needs tensors that are not there: {needed}"
    return build_module(config, {name: tensors[name] for name in needed})


def batch(case: Case, variant: str, padding: str) -> dict[str, Tensor]:
    """Two rows of random ids; ``padding``: "none" (one row), "left" or "right"."""
    config = case.config(variant)
    long, short = case.lengths
    rows = 1 if padding == "none" else 2
    generator = torch.Generator().manual_seed(1)
    # Low ids are special in many families; padding is what the mask says, whatever its id.
    ids = torch.randint(5, config.vocab_size, (rows, long), generator=generator)
    values = {"input_ids": ids}
    if rows == 2:
        places = torch.arange(long)
        real = places >= long - short if padding == "left" else places < short
        mask = torch.stack((torch.ones(long, dtype=torch.long), real.long()))
        pad = getattr(config, "pad_token_id", None) or 0
        values = {"input_ids": torch.where(mask.bool(), ids, pad), "attention_mask": mask}
    if getattr(config, "type_vocab_size", 0) > 1:
        segments = (torch.arange(long) >= long // 2).long()
        values["token_type_ids"] = segments.expand(rows, long)
    if case.ends:
        _end(values, config.eos_token_id)
    if case.decodes:
        shape = (rows, long if case.ends else 9)
        values["decoder_input_ids"] = torch.randint(
            5, config.vocab_size, shape, generator=generator
        )
    if case.ends and rows == 2:
        values["decoder_attention_mask"] = values["attention_mask"]
    return values


def tensor_names(folder: Path) -> frozenset[str]:
    with safe_open(folder / "model.safetensors", "pt") as file:
        return frozenset(file.keys())


def _end(values: dict[str, Tensor], eos: int) -> None:
    """The last real token of each row becomes ``eos``."""
    ids = values["input_ids"]
    mask = values.get("attention_mask", torch.ones_like(ids))
    last = (mask * torch.arange(ids.shape[1])).argmax(-1)
    ids[torch.arange(len(ids)), last] = eos


def alone(values: dict[str, Tensor], row: int) -> dict[str, Tensor]:
    """One row of a batch without its padding."""
    masks = values["attention_mask"], values.get("decoder_attention_mask")
    found = {}
    for name, value in values.items():
        mask = masks[name.startswith("decoder")]
        one = value[row : row + 1]
        found[name] = one if mask is None else one[:, mask[row].bool()]
    return found


def louder(part: str, factor: float) -> Callable[[torch.nn.Module], None]:
    """An ``edit``: weights whose names hold ``part``, times ``factor``."""

    def edit(model: torch.nn.Module) -> None:
        found = [p for name, p in model.named_parameters() if part in name]
        assert found, f"no parameter has {part} in its name"
        for parameter in found:
            parameter.mul_(factor)

    return edit


def positions(mask: Tensor) -> Tensor:
    """What transformers' own generate gives a model for a padded batch."""
    return (mask.cumsum(-1) - 1).clamp(min=0)
