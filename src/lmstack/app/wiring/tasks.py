"""Which class plays which part in tasks: for `lmstack run`, and for what `lmstack up` serves
beside answers. Like `wiring`, imports what it wires when it is called.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.core import ChatModel, InputError, UnsupportedError, close_model, shown
from lmstack.model.quant.recipes import FORMS, Form
from lmstack.release import releases
from lmstack.train.merged import adapter_folder, makes, model_named, writing_adapter

if TYPE_CHECKING:
    from lmstack.engine import EngineConfig
    from lmstack.registry import Store
    from lmstack.registry.releases import Release
    from lmstack.serve import LocalModel
    from lmstack.serve.http.state import AppState
    from lmstack.serve.tasks import LocalClassifier, LocalReranker, LocalTasks

__all__ = ["Adapters", "Also", "load_also", "name_and_form", "open_task", "require", "task_model"]


def task_model(task: str, model: str | None) -> tuple[str, str]:
    """The task's own name, and the model to run it with where none is given."""
    from lmstack.serve.tasks import DEFAULT_MODELS, task_name

    name, _ = task_name(task)
    chosen = model or DEFAULT_MODELS.get(name)
    if chosen is None:
        raise InputError(
            f"lmstack knows no model of its own for {name}",
            hint=f"lmstack run {task} --model NAME",
            param="model",
        )
    return name, chosen


@contextmanager
def open_task(
    task: str, model: str, options: dict[str, Any], weights: Form | None = None
) -> Iterator[Any]:
    """A task with its model loaded, freed at the end."""
    from lmstack.serve.tasks import task as make

    release = releases.released(model)
    if release is not None:
        with _opened(task, model, release, weights) as opened:
            yield make(task, opened, **options)
        return
    if _writes_beside_its_base(task, model):
        with closing(_beside_its_base(model, weights)) as opened:
            yield make(task, opened, **options)
        return
    made = make(task, model_named(model), weights=weights, **options)
    try:
        yield made
    finally:
        made.close()


def _writes_beside_its_base(task: str, model: str) -> bool:
    from lmstack.serve.tasks.names import GENERATING, task_name

    return task_name(task)[0] in GENERATING and adapter_folder(model) is not None


def _beside_its_base(
    name: str, weights: str | None = None, engine: EngineConfig | None = None
) -> LocalModel:
    """The adapter ``name``, beside the base that it names. `UnsupportedError` where it does not
    write, or its base takes none for a request alone."""
    from lmstack.registry.adapters import base_of
    from lmstack.serve import LocalModel

    adapter = writing_adapter(name)
    assert adapter is not None
    base = base_of(adapter)
    if base.kind != "generate":
        raise UnsupportedError(
            f"{name} adapts {base.name}, a model of the kind {base.kind}, which takes no adapter"
            " while it answers",
            hint=f"lmstack model merge {name} --output NAME makes a model of both",
            param="model",
        )
    model = LocalModel.load(base, weights=weights, engine=engine)
    return releases.adapted(model, str(adapter))


@contextmanager
def _opened(task: str, name: str, release: Release, weights: Form | None) -> Iterator[LocalModel]:
    """The release of an alias, which was evaluated as what writes."""
    from lmstack.serve.tasks.names import GENERATING, task_name

    if task_name(task)[0] not in GENERATING:
        raise InputError(
            f"{name} was evaluated as a language model, and {task} asks something else of it",
            hint=f"--model {release.model} asks the model itself",
            param="model",
        )
    releases.check_options(name, release, weights=weights)
    opened = releases.opened(release)
    try:
        yield opened
    finally:
        opened.close()


@dataclasses.dataclass
class Also:
    """What a server offers beside its model and its embedder, under the names it is served as.
    ``writers`` generate text, ``scorers`` do everything else."""

    writers: dict[str, ChatModel] = dataclasses.field(default_factory=dict)
    scorers: dict[str, LocalTasks] = dataclasses.field(default_factory=dict)

    @property
    def rerankers(self) -> dict[str, LocalReranker]:
        found = {name: model.reranker for name, model in self.scorers.items()}
        return {name: model for name, model in found.items() if model is not None}

    @property
    def classifiers(self) -> dict[str, LocalClassifier]:
        found = {name: model.classifier for name, model in self.scorers.items()}
        return {name: model for name, model in found.items() if model is not None}

    def close(self) -> None:
        for writer in self.writers.values():
            close_model(writer)


@dataclasses.dataclass(frozen=True)
class Adapters:
    """``named``: folders by the names under which they are served. ``source``: where the operator
    may load more from while the server runs."""

    named: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    source: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.named) or self.source is not None

    def open(
        self, state: AppState, model: ChatModel, wrapped: Callable[[ChatModel], ChatModel]
    ) -> None:
        """Serve them, each ``wrapped``, beside ``model``, which is on this machine."""
        from lmstack.serve.http.adapters import ServedAdapters
        from lmstack.serve.local import LocalModel

        assert isinstance(model, LocalModel)
        served = ServedAdapters(state, model, wrapped, self.source)
        for name, folder in self.named.items():
            served.load(name, folder)
        state.adapters = served


def require(given: Sequence[str]) -> None:
    """Models to serve beside answers, each NAME or NAME=FORM, are here, before anything loads."""
    if given:
        from lmstack.registry import Store

        store = Store()
        for each in given:
            name, form = name_and_form(each)
            release = releases.released(name)
            if release is None:
                _require(name, store)
            else:
                releases.check_options(name, release, weights=form)


def _require(name: str, store: Store) -> None:
    from lmstack.registry.adapters import base_of

    adapter = adapter_folder(name)
    if adapter is not None and makes(adapter) is None:
        base_of(adapter)
    else:
        store.resolve(model_named(name))


def name_and_form(given: str, option: str = "also") -> tuple[str, Form | None]:
    """``NAME=FORM``, or a name alone, which as a path may have a sign of its own. ``option``: by
    which it was given."""
    name, _, form = given.rpartition("=")
    if not name or os.path.exists(given):
        return given, None
    for known in FORMS:
        if form == known:
            return name, known
    raise InputError(
        f"the weights of {shown(name)} are to be {shown(form)}",
        hint=f"--{option} NAME=FORM, with one of: {', '.join(FORMS)}",
        param=option,
    )


def load_also(given: Sequence[str], engine: EngineConfig | None = None) -> Also:
    """Each model, NAME or NAME=FORM, for what it can do. ``engine``: of those that write."""
    also = Also()
    if given:
        from lmstack.registry import Store
        from lmstack.serve import LocalModel
        from lmstack.serve.tasks import LocalTasks

        store = Store()
        for name, form in map(name_and_form, given):
            release = releases.released(name)
            if release is not None:
                releases.check_options(name, release, weights=form)
                also.writers[name] = releases.opened(release, engine=engine)
                continue
            adapter = adapter_folder(name)
            if adapter is not None and makes(adapter) is None:
                model = _beside_its_base(name, form, engine)
                also.writers[model.info.name] = model
                continue
            folder = store.resolve(model_named(name))
            if folder.kind in ("generate", "seq2seq"):
                also.writers[folder.name] = LocalModel.load(folder, weights=form, engine=engine)
            else:
                also.scorers[folder.name] = LocalTasks.load(folder, weights=form)
    return also
