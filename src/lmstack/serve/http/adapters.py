"""LoRA adapters by name while a server runs, in vLLM's shapes.

    POST /v1/load_lora_adapter    {"lora_name": ..., "lora_path": ...}
    POST /v1/unload_lora_adapter  {"lora_name": ...}

Only the operator may use the routes, and only where the server was started with a folder that
adapters come from: what is outside it is never opened. A request that has begun ends with the
adapter that it began with, whatever is unloaded meanwhile. Not covered: models with an adapter in
Python (`LocalModel.with_adapter`), what an adapter computes (`lmstack.model.lora.terms`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, Protocol

from anyio import to_thread
from fastapi import APIRouter, Request
from pydantic import Field

from lmstack.core import ChatModel, InputError, NotFoundError, shown
from lmstack.serve.http.errors import HttpError, operator_only
from lmstack.serve.http.fields import Body
from lmstack.serve.http.listing import ModelItem, model_item
from lmstack.serve.http.responses import Out
from lmstack.serve.http.routes import body_errors, post
from lmstack.serve.http.state import AppState, state_of

__all__ = ["AdapterBase", "ServedAdapters", "check_name", "router"]

router = APIRouter()
AdapterName = Annotated[str, Field(min_length=1, max_length=256)]


class LoadAdapterBody(Body):
    """``lora_path``: a folder, within the one that the server takes adapters from."""

    lora_name: AdapterName
    lora_path: Annotated[str, Field(min_length=1, max_length=4096)]


class UnloadAdapterBody(Body):
    lora_name: AdapterName


class ModelDeleted(Out):
    id: str
    object: Literal["model"]
    deleted: Literal[True]


class AdapterBase(Protocol):
    """A model with an engine of its own, as `LocalModel` is."""

    def with_adapter(self, folder: Path, name: str, /) -> ChatModel: ...


class ServedAdapters:
    """Adapters of ``base`` by name, in the models of ``state``. ``wrapped``: the guards that a
    served model stands behind. ``folder``: what they may be loaded from over HTTP; None: nothing.
    `load` may be called from any thread, one adapter at a time."""

    def __init__(
        self,
        state: AppState,
        base: AdapterBase,
        wrapped: Callable[[ChatModel], ChatModel],
        folder: Path | None = None,
    ) -> None:
        self._state, self._base, self._wrapped = state, base, wrapped
        self._folder = None if folder is None else folder.resolve()
        self._names: set[str] = set()
        self.busy = asyncio.Lock()

    def load(self, name: str, folder: Path) -> None:
        """Serve the adapter in ``folder`` as ``name`` from the next request on."""
        check_name(name)
        if name in self._state.infos():
            raise InputError(
                f"a model {shown(name)} is served already",
                hint="unload it first, or take another name",
                param="lora_name",
            )
        model = self._base.with_adapter(folder, name)
        tokenizer = getattr(model, "tokenizer", None)
        tokenizers = {} if tokenizer is None else {name: tokenizer}
        self._state.serve({name: self._wrapped(model)}, tokenizers)
        self._names.add(name)

    def unload(self, name: str) -> None:
        """Take no more requests for ``name``; those that were taken are answered."""
        if name not in self._names:
            raise NotFoundError(
                f"no adapter {shown(name)} is loaded",
                hint=f"loaded: {', '.join(sorted(self._names)) or 'none'}",
                param="lora_name",
            )
        self._names.remove(name)
        self._state.serve({}, {}, without=[name])

    def allowed(self, path: str) -> Path:
        """The folder that ``path`` names, symbolic links followed, within the one that is
        allowed. What is outside is not looked at, so no answer tells what there is."""
        if self._folder is None:
            raise _not_allowed("--adapters-from FOLDER")
        try:
            found = (self._folder / path).resolve()
        except (OSError, ValueError, RuntimeError):
            found = Path("/")
        if not found.is_relative_to(self._folder) or found == self._folder:
            raise InputError(
                f"lora_path {shown(path)} is not in the folder that adapters are loaded from",
                hint="give a path within the folder of --adapters-from",
                param="lora_path",
            )
        return found


def check_name(name: str) -> None:
    """`InputError` for a name that could not be typed or shown as it is."""
    if not name.isprintable() or name != name.strip() or len(name) > 256 or not name:
        raise InputError(
            f"{shown(name)} is no name for an adapter",
            hint="letters, digits and signs, without spaces around them",
            param="lora_name",
        )


@post(router, "/v1/load_lora_adapter", LoadAdapterBody, ModelItem, errors=body_errors)
async def load_lora_adapter(request: Request, body: LoadAdapterBody) -> ModelItem:
    """Serve one more LoRA adapter of the model. For the operator."""
    adapters, state = _adapters(request), state_of(request)
    folder = adapters.allowed(body.lora_path)
    # Read in a thread, so that streams go on; one at a time, so that two cannot share a name.
    async with adapters.busy:
        await to_thread.run_sync(adapters.load, body.lora_name, folder)
    return model_item(state, body.lora_name, state.models[body.lora_name].info)


@post(router, "/v1/unload_lora_adapter", UnloadAdapterBody, ModelDeleted, errors=body_errors)
async def unload_lora_adapter(request: Request, body: UnloadAdapterBody) -> ModelDeleted:
    """Serve an adapter no more. For the operator."""
    adapters = _adapters(request)
    async with adapters.busy:
        adapters.unload(body.lora_name)
    return ModelDeleted(id=body.lora_name, object="model", deleted=True)


def _adapters(request: Request) -> ServedAdapters:
    """Those of the server, for its operator alone."""
    operator_only(request, "adapters are loaded and unloaded by the operator")
    found = state_of(request).adapters
    if not isinstance(found, ServedAdapters):
        raise _not_allowed("--adapters-from FOLDER, and a model on this machine")
    return found


def _not_allowed(options: str) -> HttpError:
    return HttpError(
        403,
        "adapters_not_allowed",
        "this server loads no adapters while it runs",
        hint=f"start it with {options}",
    )
