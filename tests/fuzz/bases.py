"""Whole model folders to mutate: every family, in every form that a folder may have.

A base is files by name, as bytes. Not covered: what is done to them (`mutations`).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from tests.engine.cpu.quantized_models import quantized
from tests.model.families.all_cases import CASES
from tests.model.families.cases import Case
from tests.model.families.gguf_cases import BERT, WRITTEN

from lmstack.core import UnsupportedError
from lmstack.model import Transformer, TransformerConfig, write_folder
from lmstack.model.families import config_from_json
from lmstack.model.formats.gguf.writing import GGUFKind, write_gguf
from lmstack.model.formats.mapped.file import read_mapped, write_mapped
from lmstack.model.formats.mapped.folder import write_quantized_folder
from lmstack.model.formats.mapped.header import QUANTIZED_FILE
from lmstack.model.quant.matrix import held_weights

__all__ = ["FORMS", "Base", "Files", "bases", "config_of", "packed", "randomized"]

Files = dict[str, bytes]
FORMS = ("plain", "int8", "q4", "gguf")
_GGUF_KINDS: tuple[GGUFKind, ...] = ("f32", "f16", "q8_0", "q4_0")


@dataclass(frozen=True)
class Base:
    """``form``: one of `FORMS`. ``files``: made when they are first asked for."""

    name: str
    form: str
    make: Callable[[], Files]

    @property
    def files(self) -> Mapping[str, bytes]:
        return _files(self)


@functools.cache
def _files(base: Base) -> Files:
    return base.make()


def bases() -> list[Base]:
    """All, in an order that only grows when families are added."""
    return [*_of_families(), *_of_gguf()]


def _of_families() -> Iterator[Base]:
    for case in CASES:
        for variant in case.names:
            for form in FORMS[:3]:
                name = f"{case.architecture}-{variant}-{form}"
                yield Base(name, form, functools.partial(_folder, case, variant, form))


def _of_gguf() -> Iterator[Base]:
    for number, (arch, case, variant) in enumerate((*WRITTEN, ("bert", BERT, "plain"))):
        for kind in (_GGUF_KINDS[number % 4], _GGUF_KINDS[(number + 2) % 4]):
            name = f"{arch}-{case.architecture}-{variant}-{kind}"
            yield Base(name, "gguf", functools.partial(_gguf, case, variant, kind))


def config_of(base: Base) -> TransformerConfig:
    """That of a base which is no GGUF file."""
    if base.form == "plain":
        return config_from_json(json.loads(base.files["config.json"]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / QUANTIZED_FILE
        path.write_bytes(base.files[QUANTIZED_FILE])
        return read_mapped(path, {})[0]


def randomized(config: TransformerConfig) -> Transformer:
    """A module of ``config`` whose every weight matters."""
    generator = torch.Generator().manual_seed(0)
    module = Transformer(config).eval()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = "norm" in name and name.endswith("weight")
            parameter.copy_(1 + 0.2 * noise if scale else 0.15 * noise)
    return module


def _module(case: Case, variant: str) -> tuple[Transformer, dict[str, object]]:
    values = case.config(variant).to_dict() | {"architectures": [case.architecture]}
    return randomized(config_from_json(values)), {
        "architectures": [case.architecture],
        "model_type": values["model_type"],
    }


def _folder(case: Case, variant: str, form: str) -> Files:
    module, more = _module(case, variant)
    if form != "plain":
        return packed(module, form, more)
    with tempfile.TemporaryDirectory() as folder:
        write_folder(module, folder, more)
        return _read(Path(folder))


def packed(module: Transformer, form: str, more: Mapping[str, object] | None = None) -> Files:
    """The folder of ``module`` in a quantized ``form``."""
    # What else a matrix may have takes turns with the plain ones.
    turn = zlib.crc32(repr(module.config).encode()) % 2
    made = quantized(module, ("q4", "nf4")[turn] if form == "q4" else ("int8", "act-order")[turn])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            write_quantized_folder(folder, made.config, held_weights(made), form, more)  # type: ignore[arg-type]
        except UnsupportedError:  # no family writes this config; the packed file holds it itself
            stamp = {"form": form, "parameters": "1"}
            write_mapped(folder / QUANTIZED_FILE, made.config, held_weights(made), stamp)
            (folder / "config.json").write_text(json.dumps({"model_type": "none"}))
        return _read(folder)


def _gguf(case: Case, variant: str, kind: GGUFKind) -> Files:
    module, _ = _module(case, variant)
    if case is BERT:
        module = randomized(dataclasses.replace(module.config, head="none", transform=None))
    with tempfile.TemporaryDirectory() as name:
        write_gguf(module, Path(name) / "model.gguf", kind)
        return _read(Path(name))


def _read(folder: Path) -> Files:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
