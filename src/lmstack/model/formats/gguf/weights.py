"""Config and weights of a GGUF file, under our names."""

from __future__ import annotations

from lmstack.core import FormatError
from lmstack.model.config import TransformerConfig
from lmstack.model.formats.assembly import AssemblyPlan, meta_module, planned
from lmstack.model.formats.gguf.architectures import architecture_of
from lmstack.model.formats.gguf.file import GGUFFile
from lmstack.model.formats.gguf.metadata import FACTORS, config_from_metadata

__all__ = ["plan_gguf", "read_gguf_config"]

_MOST_FACTORS = 1 << 12


def read_gguf_config(file: GGUFFile) -> TransformerConfig:
    """The config that the metadata and the names of the tensors imply."""
    factors = {}
    for name in FACTORS:
        if name in file.tensors:
            shape = file.shape(name)
            if len(shape) != 1 or shape[0] > _MOST_FACTORS:
                raise FormatError(f"{file.label}: {name} has shape {shape}")
            factors[name] = tuple(file.read(name).tolist())
    return config_from_metadata(file.metadata, file.names(), file.label, factors)


def plan_gguf(file: GGUFFile) -> AssemblyPlan:
    """What is where in a GGUF file."""
    config = read_gguf_config(file)
    table = architecture_of(file.metadata, file.label).table(config.num_experts)
    return planned(meta_module(config, len(file.names()), file.label), table, file, ignored=FACTORS)
