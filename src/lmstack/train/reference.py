"""The reference: what the weights that a run starts from say of its examples, computed once.

An objective that holds the model to what it was compares with numbers that never change: one pass
before the first step gives them, and no second model is held, nor a copy of this one. A fresh
adapter changes nothing yet, so the base under it and the module are one.

    RUN/examples/KEY/reference-NAME/{train,validation}    an example store, numbers as labels

NAME follows from the weights and the precision; the folder appears in one rename, whole. A run that
resumes opens it, and its checkpoints know its digest. Each process computes its share of the
passes, which are the same whatever their number. Does not cover what the numbers are (`Objective`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from lmstack.core.files import store_error
from lmstack.model import ForwardContext, Transformer
from lmstack.train.assembly import Assembled
from lmstack.train.compute import ops_for
from lmstack.train.data.examples import IGNORED, Example, ExampleView
from lmstack.train.data.store import ExampleStore, ExampleWriter
from lmstack.train.loader import Loader
from lmstack.train.parallel import Parallel
from lmstack.train.precision import products_of
from lmstack.train.recipe import Recipe

__all__ = ["with_reference", "without_reference"]

Told = Callable[[int, int], None]


def with_reference(
    recipe: Recipe,
    run: Assembled,
    parallel: Parallel,
    *,
    told: Told = lambda _done, _total: None,
) -> Assembled:
    """``run`` whose examples have their `Example.reference`; as it is, where the objective does not
    refer to the weights of now. Every process takes part. ``told``: tokens done, and all.

    A run resumes beside the same numbers, and so in the precision that they were computed in."""
    if not run.objective.refers:
        return run
    folder = run.prepared.folder / f"reference-{_name(recipe, run.base.module)}"
    if not parallel.told_by_first(folder.is_dir()):
        _compute(recipe, run, folder, parallel, told)
    digest = hashlib.sha256()
    stores = {}
    for part in _loaders(run):
        stores[part] = ExampleStore(folder / part)
        with (folder / part / "values.bin").open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    facts = {"precision": products_of(recipe.precision), "reference": digest.hexdigest()}
    return dataclasses.replace(_given(run, stores), facts=facts)


def without_reference(run: Assembled) -> Assembled:
    """``run`` with zeros in the place of the reference: a plan needs only how many there are."""
    if not run.objective.refers:
        return run
    return _given(
        run, {part: _zeros(loader.all_examples) for part, loader in _loaders(run).items()}
    )


def _loaders(run: Assembled) -> dict[str, Loader]:
    """By the names of their parts of the data."""
    found = {"train": run.train, "validation": run.validation}
    return {part: loader for part, loader in found.items() if loader is not None}


def _given(run: Assembled, references: Mapping[str, Sequence[Example]]) -> Assembled:
    """``run`` with the labels of ``references`` as the reference of its examples."""
    found = {
        part: loader.over(_referred(loader.all_examples, references[part]))
        for part, loader in _loaders(run).items()
    }
    return dataclasses.replace(run, train=found["train"], validation=found.get("validation"))


def _referred(examples: Sequence[Example], references: Sequence[Example]) -> ExampleView:
    def made(index: int) -> Example:
        numbers = np.asarray(references[index].labels, np.float32)
        return dataclasses.replace(examples[index], reference=numbers)

    return ExampleView(len(examples), made)


def _zeros(examples: Sequence[Example]) -> ExampleView:
    def made(index: int) -> Example:
        labels = examples[index].labels
        count = 0 if labels is None else int((labels != IGNORED).sum())
        return Example((), np.zeros(count, np.float32))

    return ExampleView(len(examples), made)


def _name(recipe: Recipe, module: Transformer) -> str:
    """Of all that the numbers follow from beside the examples."""
    digest = hashlib.sha256(json.dumps([products_of(recipe.precision), recipe.weights]).encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _compute(recipe: Recipe, run: Assembled, folder: Path, parallel: Parallel, told: Told) -> None:
    """Write ``folder``, whole or not at all, and forget what was there for other weights."""
    partial = folder.with_name(f".{folder.name}.part")
    try:
        if parallel.is_first:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        parallel.wait()
        passes = {part: loader.passes() for part, loader in _loaders(run).items()}
        _compute_share(recipe, run, passes, partial, parallel, told)
        parallel.wait()
        if parallel.is_first:
            for part, all_passes in passes.items():
                _merge(partial, part, all_passes, parallel.world)
            partial.rename(folder)
            for older in folder.parent.glob("*reference-*"):
                if older != folder:
                    shutil.rmtree(older, ignore_errors=True)
        parallel.wait()
    except OSError as error:
        raise store_error(error, folder, "writing") from error


def _compute_share(
    recipe: Recipe,
    run: Assembled,
    passes: dict[str, list[list[int]]],
    folder: Path,
    parallel: Parallel,
    told: Told,
) -> None:
    """This process's passes, one after the other, in a store of its own for each part."""
    module = run.base.module.eval()
    context = ForwardContext(ops=ops_for(recipe.precision, module))
    total, done = sum(loader.tokens() for loader in _loaders(run).values()), 0
    for part, loader in _loaders(run).items():
        with ExampleWriter(folder / f"{part}-{parallel.rank}") as writer, torch.no_grad():
            for place, indices in enumerate(passes[part]):
                if place % parallel.world == parallel.rank:
                    batch = loader.batch_of(indices).to(module.device)
                    for numbers in run.objective.referred(module, batch, context):
                        found = numbers.float().cpu().numpy()
                        writer.add(Example((), found))
                done += sum(int(loader.lengths[index]) for index in indices)
                told(done, total)


def _merge(folder: Path, part: str, passes: list[list[int]], world: int) -> None:
    """One store in the order of the examples out of those of the processes."""
    stores = [ExampleStore(folder / f"{part}-{rank}") for rank in range(world)]
    places = np.empty((sum(map(len, passes)), 2), np.int64)
    written = [0] * world
    for place, indices in enumerate(passes):
        rank = place % world
        for index in indices:
            places[index] = rank, written[rank]
            written[rank] += 1
    with ExampleWriter(folder / part) as writer:
        for rank, place in places.tolist():
            writer.add(stores[rank][place])
    for rank in range(world):
        shutil.rmtree(folder / f"{part}-{rank}")
