"""What an adapter adapts, and by how much: the settings of LoRA, and names matched as PEFT does.

Names are those of the model's family in Hugging Face folders (``q_proj``, ``c_attn``, ``query``),
because that is what recipes and adapters of the field are written in. `LoraConfig.from_peft` and
``to_peft`` are the adapter_config.json of PEFT; a setting there that changes what an adapter does
and is not known here is refused by name. Does not cover tensors (`adapter`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from lmstack.core import (
    Config,
    FormatError,
    InputError,
    UnsupportedError,
    check_range,
    check_whole,
    nearest,
    shown,
)

__all__ = ["ALL_LINEAR", "LoraConfig"]

ALL_LINEAR = "all-linear"
Names = str | tuple[str, ...]

# PEFT's name of each setting that we honour.
_FIELDS = {
    "r": "r",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "target_modules": "targets",
    "exclude_modules": "exclude",
    "layers_to_transform": "layers",
    "use_rslora": "rslora",
    "use_dora": "dora",
    "rank_pattern": "rank_pattern",
    "alpha_pattern": "alpha_pattern",
    "modules_to_save": "modules_to_save",
    "task_type": "task_type",
}
# Those that say nothing about what the adapter computes, or follow from the model.
_SILENT = {
    "peft_type",
    "peft_version",
    "auto_mapping",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "fan_in_fan_out",
    "layers_pattern",
    "runtime_config",
    "megatron_core",
    "qalora_group_size",
    "loftq_config",
    "eva_config",
}
# Starting values that leave the base as it is; others (PiSSA, OLoRA ...) change it too.
_PLAIN_INIT = (True, False, None, "gaussian", "eva", "orthogonal")
_QUANTIFIED = re.compile(r"\)[*+{]|[*+}][*+{]")


@dataclass(frozen=True)
class LoraConfig(Config):
    """``r``: rank; a term is scaled by ``alpha / r``, or ``alpha / sqrt(r)`` with ``rslora``.

    ``targets``: ends of names, or a regular expression for whole names, or ``all-linear`` (all
    but the output layer). ``exclude`` in the same language takes some away; ``layers`` keeps
    only those. ``rank_pattern`` and ``alpha_pattern``: a name's end (or expression) to its own
    value. ``modules_to_save``: modules trained and saved whole, such as a new classifier.
    """

    r: int = 8
    alpha: float = 8
    dropout: float = 0.0
    targets: Names = ALL_LINEAR
    exclude: Names = ()
    layers: tuple[int, ...] | None = None
    rslora: bool = False
    dora: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    modules_to_save: tuple[str, ...] = ()
    task_type: str | None = None

    def __post_init__(self) -> None:
        for name, rank in [("r", self.r), *self.rank_pattern.items()]:
            check_whole(name, rank, 1, 1 << 20)
        for name, alpha in [("alpha", self.alpha), *self.alpha_pattern.items()]:
            check_range(name, alpha, 0, math.inf, high_open=True)
        check_range("dropout", self.dropout, 0, 1, high_open=True)
        for name in ("rslora", "dora"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} is {shown(getattr(self, name))}, not true or false")
        for name in ("targets", "exclude", "modules_to_save"):
            _check_names(name, getattr(self, name), pattern=name != "modules_to_save")
        for pattern in (*self.rank_pattern, *self.alpha_pattern):
            _check_pattern("a pattern of ranks or alphas", pattern)
        if not self.targets:
            raise InputError("targets is empty", hint=f"names, or {ALL_LINEAR}", param="targets")
        if self.layers is not None and not all(isinstance(n, int) and n >= 0 for n in self.layers):
            raise InputError(f"layers is {shown(self.layers)}, not numbers of layers")

    def rank_of(self, name: str) -> int:
        return int(self.rank_pattern.get(_pattern_of(self.rank_pattern, name), self.r))

    def scale_of(self, name: str) -> float:
        alpha = self.alpha_pattern.get(_pattern_of(self.alpha_pattern, name), self.alpha)
        rank = self.rank_of(name)
        return float(alpha) / (math.sqrt(rank) if self.rslora else rank)

    def is_saved(self, name: str) -> bool:
        """Whether module ``name`` is or lies in one of ``modules_to_save``."""
        inside = f".{name}."
        return any(f".{module}." in inside for module in self.modules_to_save)

    def chosen(self, names: Collection[str], outputs: Collection[str] = ()) -> list[str]:
        """Those of ``names`` to adapt, in order; ``outputs`` are what all-linear leaves out.
        `InputError`: a target that matches nothing."""
        if isinstance(self.targets, tuple):
            for target in self.targets:
                if not any(_ends(name, target) for name in names):
                    raise _unmatched(target, names)
        found = [
            name
            for name in names
            if self._is_target(name, outputs)
            and not _matches(name, self.exclude)
            and not self.is_saved(name)
            and (self.layers is None or _layer(name) in self.layers)
        ]
        if not found:
            raise _unmatched(self.targets, names)
        return found

    def without_idle_patterns(self, names: Collection[str]) -> LoraConfig:
        """Only the patterns of ranks and alphas that some of ``names`` has."""
        used = {
            field_name: {
                pattern: value
                for pattern, value in getattr(self, field_name).items()
                if any(_has(pattern, name) for name in names)
            }
            for field_name in ("rank_pattern", "alpha_pattern")
        }
        return self.replace(**used)

    def leads_to(
        self, wanted: Collection[str], names: Collection[str], outputs: Collection[str]
    ) -> bool:
        """Whether `chosen` gives exactly ``wanted``."""
        try:
            return set(self.chosen(names, outputs)) == set(wanted)
        except InputError:
            return False

    def _is_target(self, name: str, outputs: Collection[str]) -> bool:
        if self.targets == ALL_LINEAR:
            return name not in outputs
        return _matches(name, self.targets)

    @classmethod
    def from_peft(cls, values: Mapping[str, Any], source: str) -> LoraConfig:
        """From a parsed adapter_config.json."""
        if values.get("peft_type") != "LORA":
            raise UnsupportedError(
                f"{source}: peft_type {shown(values.get('peft_type'))}", hint="LORA is implemented"
            )
        if values.get("bias", "none") != "none":
            raise UnsupportedError(f"{source}: biases trained with bias {shown(values['bias'])}")
        if values.get("init_lora_weights", True) not in _PLAIN_INIT:
            kind = shown(values["init_lora_weights"])
            raise UnsupportedError(
                f"{source}: init_lora_weights {kind} changes the base model",
                hint="PEFT converts it to plain LoRA: path_initial_model_for_weight_conversion",
            )
        known = {*_FIELDS, *_SILENT, "bias", "init_lora_weights"}
        unknown = sorted(key for key, value in values.items() if value and key not in known)
        if unknown:
            raise UnsupportedError(f"{source}: {unknown[0]} is not implemented")
        given = {ours: _plain(values[key]) for key, ours in _FIELDS.items() if key in values}
        given = {name: value for name, value in given.items() if value is not None}
        if isinstance(given.get("layers"), int):
            given["layers"] = (given["layers"],)
        try:
            return cls.from_mapping(given)
        except (InputError, TypeError, AttributeError) as error:
            raise FormatError(f"{source}: {error}", hint="the adapter is damaged") from error

    def to_peft(self) -> dict[str, Any]:
        """An adapter_config.json that PEFT reads."""
        values = {key: _listed(getattr(self, ours)) for key, ours in _FIELDS.items()}
        empty = {"exclude_modules": None, "modules_to_save": None}
        values |= {key: values[key] or none for key, none in empty.items()}
        return values | {
            "peft_type": "LORA",
            "bias": "none",
            "inference_mode": True,
            "init_lora_weights": True,
            "base_model_name_or_path": None,
        }


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _listed(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def _check_names(field_name: str, names: Any, *, pattern: bool) -> None:
    if isinstance(names, str) and pattern:
        _check_pattern(field_name, names)
    elif not isinstance(names, tuple) or not all(isinstance(n, str) and n for n in names):
        raise InputError(f"{field_name} is {shown(names)}, not a tuple of names", param=field_name)


def _check_pattern(field_name: str, pattern: str) -> None:
    """Adapters come from strangers, so an expression must not be able to run for ever."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"{field_name} is {shown(pattern)}, no regular expression: {error}", param=field_name
        ) from error
    repetitions = len(re.findall(r"[*+{]\??|(?<!\()\?", pattern))
    if len(pattern) > 2000 or repetitions > 4 or _QUANTIFIED.search(pattern):
        raise InputError(
            f"{field_name} is {shown(pattern)}, an expression that could take very long",
            hint="give names, or an expression with few repetitions, none of a group",
            param=field_name,
        )


def _ends(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def _matches(name: str, names: Names) -> bool:
    if isinstance(names, str):
        return re.fullmatch(names, name) is not None
    return any(_ends(name, end) for end in names)


def _pattern_of(patterns: Collection[str], name: str) -> str:
    return next((pattern for pattern in patterns if _has(pattern, name)), name)


def _has(pattern: str, name: str) -> bool:
    return re.match(rf"(.*\.)?({pattern})$", name) is not None


def _layer(name: str) -> int | None:
    """The first number in a name that has something before and after it, as PEFT counts."""
    found = re.match(r".*?\.[^.]*\.(\d+)\.", name) or re.match(r"[^.]*\.(\d+)\.", name)
    return int(found.group(1)) if found else None


def _unmatched(target: Any, names: Collection[str]) -> InputError:
    ends = sorted({name.rpartition(".")[2] for name in names})
    guess = nearest(target, ends) if isinstance(target, str) else None
    return InputError(
        f"the target {shown(target)} matches no linear layer of this model",
        hint=f"did you mean {guess!r}?" if guess else f"its linear layers: {', '.join(ends)}",
        param="targets",
    )
