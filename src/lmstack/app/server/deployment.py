"""A plan for one model, a number of users and this machine: who is asked for what.

Joins the model's config, the machine's measured rates and the engine's arithmetic, and notes what
a figure alone would hide. Printing is the command's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.app.formats import memory, parse_memory
from lmstack.app.inspect import machine as machines
from lmstack.app.inspect.checks import free_memory
from lmstack.app.server.planned_model import FILE_FORM, PlannedModel, find_model
from lmstack.core import InputError, LmstackError

if TYPE_CHECKING:
    from lmstack.app.inspect.machine import Machine
    from lmstack.engine.planning import Demand, KvForm, Plan
    from lmstack.engine.rates import MatrixType
    from lmstack.engine.weights import Weights

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
    plan: Plan
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
    from lmstack.engine.planning import Demand, plan

    available = _available(memory_size)
    model = find_model(reference)
    demand = Demand(
        users or DEFAULT_USERS,
        context or min(DEFAULT_CONTEXT, model.config.max_positions),
        available,
    )
    chosen = form or model.usual_form
    weights = model.weights(chosen)
    held = _kv_of(weights, kv)
    machine = machines.known(home, progress)
    found = plan(model.config, weights, held, demand, machine.rates)
    label = f"{weights.form} as stored" if chosen == FILE_FORM else chosen
    assumed = _assumed(demand, users, context)
    notes = (*assumed, *_notes(model, found, demand, machine))
    return Deployment(model.name, label, held, weights.matrix, demand, found, machine, notes)


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


def _kv_of(weights: Weights, wanted: str | None) -> KvForm:
    from lmstack.engine.planning import kv_forms

    forms = kv_forms(weights)
    found = next((form for form in forms if wanted in (None, form)), None)
    if found is None:
        raise InputError(
            f"keys and values are not held in {wanted} beside weights in {weights.form}",
            hint=f"--kv {forms[-1]}, or other --weights",
            param="kv",
        )
    return found


def _notes(model: PlannedModel, plan: Plan, demand: Demand, machine: Machine) -> Iterator[str]:
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
