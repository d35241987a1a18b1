"""A plan for one model, a number of users and this machine: who is asked for what.

Joins the model's config, the machine's measured rates and the engine's arithmetic, and notes what
a figure alone would hide. `find_model` reads that config, and weights where there are some.
Printing is the command's.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.app.formats import memory, parse_memory
from lmstack.app.inspect import machine as machines
from lmstack.core import FormatError, InputError, LmstackError, NotFoundError, UnsupportedError
from lmstack.engine.memory import free_memory
from lmstack.model.quant.recipes import FILE_FORMS, FORMS, Form

if TYPE_CHECKING:
    from lmstack.app.inspect.capacity import CapacityPlan, Demand, KvForm
    from lmstack.app.inspect.machine import Machine
    from lmstack.app.inspect.rates import MatrixType
    from lmstack.app.inspect.weight_sizes import Weights
    from lmstack.model import TransformerConfig

__all__ = ["DEFAULT_CONTEXT", "DEFAULT_USERS", "Deployment", "plan_deployment"]


DEFAULT_USERS = 1
DEFAULT_CONTEXT = 4096


@dataclass(frozen=True)
class Deployment:
    """``form``: of the weights; ``matrix``: the type in which they are multiplied."""

    model: str
    form: str
    kv: str
    matrix: MatrixType
    demand: Demand
    plan: CapacityPlan
    machine: Machine
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        plan = dataclasses.asdict(self.plan)
        return {
            "model": self.model,
            **dataclasses.asdict(self.demand),
            "weights": self.form,
            "kv": self.kv,
            "bytes": plan["needs"],
            "batch": plan["batch"],
            "decode": plan["decode"],
            "prompt": plan["prompt"],
            "matrix": self.matrix,
            "machine": self.machine.to_json(),
            "notes": list(self.notes),
        }


def plan_deployment(
    reference: str,
    home: Path,
    *,
    users: int | None = None,
    context: int | None = None,
    memory_size: str | None = None,
    form: str | None = None,
    kv: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Deployment:
    """Everything is checked before the machine is measured, if it has not been."""
    from lmstack.app.inspect.capacity import Demand, plan

    available = _available(memory_size)
    model = find_model(reference)
    demand = Demand(
        users or DEFAULT_USERS,
        context or min(DEFAULT_CONTEXT, model.config.max_positions),
        available,
    )
    chosen = form or model.usual_form
    weights, beside = _held(model.weights(chosen), available)
    held = _kv_of(weights, model.config, kv)
    machine = machines.known(home, progress)
    found = plan(model.config, weights, held, demand, machine.rates)
    label = f"{weights.form} as stored" if chosen == FILE_FORM else chosen
    assumed = _assumed(demand, users, context)
    notes = (*assumed, *beside, *_notes(model, found, demand, machine))
    return Deployment(model.name, label, held, weights.matrix, demand, found, machine, notes)


def _held(weights: Weights, available: int) -> tuple[Weights, list[str]]:
    """``weights`` with the codes that are held beside them in ``available`` memory, and what is
    to be said of that."""
    if not weights.beside:
        return weights, []
    size = memory(weights.beside)
    if 2 * weights.beside > available:
        return weights, [
            f"matrices of 4 bits are held once: {size} more, as int8, would leave less than as much"
            " again free; prompts and batches are slower without"
        ]
    both = dataclasses.replace(weights, total=weights.total + weights.beside)
    return both, [
        f"{size} of the weights are matrices of 4 bits once more, as int8, for prompts and batches"
    ]


def _assumed(demand: Demand, users: int | None, context: int | None) -> list[str]:
    """Which figures were not given, and the options that set them."""
    figures = [
        (users, f"--users {demand.users}"),
        (context, f"--context {demand.context}"),
    ]
    assumed = [option for given, option in figures if given is None]
    return [f"planned with {' and '.join(assumed)}, the default"] if assumed else []


def _available(size: str | None) -> int:
    if size is not None:
        try:
            return parse_memory(size)
        except LmstackError as error:
            error.param = "memory"
            raise
    free = free_memory()[0]
    if free is None:
        raise InputError(
            "this system does not say how much memory is free",
            hint="--memory 16GiB",
            param="memory",
        )
    return free


def _kv_of(weights: Weights, config: TransformerConfig, wanted: str | None) -> KvForm:
    from lmstack.app.inspect.capacity import kv_forms

    forms = kv_forms(weights, config)
    found = next((form for form in forms if wanted in (None, form)), None)
    if found is None:
        raise InputError(
            f"keys and values are not held in {wanted} beside weights in {weights.form}",
            hint=f"--kv {forms[-1]}, or other --weights",
            param="kv",
        )
    return found


def _notes(
    model: PlannedModel, plan: CapacityPlan, demand: Demand, machine: Machine
) -> Iterator[str]:
    from lmstack.engine import EngineConfig

    config, needs, engine = model.config, plan.needs, EngineConfig()
    if needs.fits < demand.users:
        longest = (
            f"a context of {needs.context_for_users:,} tokens"
            if needs.context_for_users
            else "no context"
        )
        yield (
            f"all users fit with {memory(needs.memory_for_users)} of memory; in what there is,"
            f" with {longest}"
        )
    window = config.max_positions
    if demand.context > window:
        yield f"the model was made for {window:,} tokens at most"
    windows = [layer.window for layer in config.layers if layer.window is not None]
    if windows and min(windows) < demand.context:
        yield (
            f"{len(windows)} of {config.num_layers} layers read the last {min(windows):,} tokens"
            " only; all of them are kept"
        )
    kept = min(demand.users, needs.fits) * needs.sequence
    if kept > engine.kv_memory_bytes:
        yield (
            f"the engine keeps {memory(engine.kv_memory_bytes)} of keys and values unless"
            f" kv_memory_bytes is set; this takes {memory(kept)}"
        )
    if min(demand.users, needs.fits) > engine.max_sequences:
        yield f"the engine runs {engine.max_sequences} at once unless max_sequences is set"
    if 0 < needs.weights < machine.processor.last_level_cache:
        yield "the weights fit into the processor's cache, which is read faster than memory"


FILE_FORM = "file"
_OTHERS = tuple(form for form in FORMS if form not in FILE_FORMS)
_STORED: dict[str, Form] = {
    "F32": "float32",
    "F16": "bfloat16",  # as many bytes
    "BF16": "bfloat16",
}


@dataclass(frozen=True)
class PlannedModel:
    """``gguf``: the file of its weights; ``tensors``: those in safetensors."""

    name: str
    config: TransformerConfig
    gguf: Path | None = None
    tensors: Sequence[Path] = ()

    @property
    def usual_form(self) -> str:
        """The form in which it is served where nothing else is asked for."""
        from lmstack.registry.weight_cache import most_of_gguf
        from lmstack.serve.forms import form_for

        stored = "floats" if self.gguf is None else most_of_gguf(self.gguf)
        decodes = self.config.head == "lm" and self.config.causal and self.config.encoder is None
        return form_for(stored, self.weights("float32").total, decodes=decodes)

    def weights(self, form: str) -> Weights:
        """Their bytes in ``form``, ``file``: as stored."""
        from lmstack.app.inspect.weight_sizes import rescaled_weights, stored_weights, weights_in
        from lmstack.model import read_gguf
        from lmstack.model.forms import as_form

        if form not in FILE_FORMS:
            return weights_in(self.config, as_form(form))
        if self.gguf is not None:
            with read_gguf(self.gguf) as file:
                return stored_weights(file) if form == FILE_FORM else rescaled_weights(file)
        if not self.tensors or form != FILE_FORM:
            raise InputError(
                f"{self.name} has no weights whose form could be taken",
                hint=f"--weights {', '.join(_OTHERS)}",
                param="weights",
            )
        return weights_in(self.config, _stored_form(self.tensors[0]))


def find_model(reference: str) -> PlannedModel:
    """What ``reference`` names. Nothing is pulled."""
    from lmstack.registry import Store
    from lmstack.registry.refs import PathRef, parse_ref

    parsed, store, path = parse_ref(reference), Store(), Path(reference)
    if path.suffix == ".json":
        name = Path(os.path.abspath(path)).parent.name if path.stem == "config" else path.stem
        return _from_config(path, name)
    if isinstance(parsed, PathRef):
        path = parsed.path
    elif (store.folder / parsed.name).exists() or not path.is_dir():
        folder = store.resolve(reference)
        if folder.gguf is not None:
            return _from_gguf(folder.gguf, folder.name)
        path = folder.path
        return _from_config(path / "config.json", folder.name, sorted(path.glob("*.safetensors")))
    return _from_path(path)


def _from_path(path: Path) -> PlannedModel:
    if not path.exists():
        raise NotFoundError(
            f"{path} does not exist",
            hint="give a model folder, a .gguf file, a config.json or a name of"
            " `lmstack model list`",
        )
    name = path.stem if path.suffix == ".gguf" else path.resolve().name
    if path.is_file():
        if path.suffix != ".gguf":
            raise FormatError(
                f"{path} is neither .gguf nor .json", hint="give one of these, or a model's folder"
            )
        return _from_gguf(path, name)
    files = sorted(path.glob("*.gguf"))
    if (path / "config.json").exists() or len(files) != 1:
        return _from_config(path / "config.json", name, sorted(path.glob("*.safetensors")))
    return _from_gguf(files[0], name)


def _from_config(path: Path, name: str, tensors: Sequence[Path] = ()) -> PlannedModel:
    from lmstack.model.families import config_from_json
    from lmstack.model.formats.hf import read_json

    return PlannedModel(name, config_from_json(read_json(path), str(path)), None, tensors)


def _from_gguf(path: Path, name: str) -> PlannedModel:
    from lmstack.model import read_gguf
    from lmstack.model.formats.gguf.weights import read_gguf_config

    with read_gguf(path) as file:
        return PlannedModel(name, read_gguf_config(file), path)


def _stored_form(path: Path) -> Form:
    """The type of the largest tensor: what most of the weights are stored as."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            parts = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118 - no mapping
            largest = max(parts, key=lambda part: math.prod(part.get_shape()), default=None)
            kind = "F32" if largest is None else str(largest.get_dtype())
    except (OSError, SafetensorError) as error:
        raise FormatError(
            f"{path} is not a safetensors file: {error}", hint="fetch the model again"
        ) from error
    if kind not in _STORED:
        raise UnsupportedError(
            f"{path}: weights are stored as {kind}", hint=f"--weights {', '.join(_OTHERS)}"
        )
    return _STORED[kind]
