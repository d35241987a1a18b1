"""Models that are an adapter more than another: in Python, and by name while a server runs.

    POST /v1/load_lora_adapter    {"lora_name": ..., "lora_path": ...}
    POST /v1/unload_lora_adapter  {"lora_name": ...}

The routes are vLLM's. Only the operator may use them, and only where the server was started with a
folder that adapters come from: what is outside it is never opened. A request that has begun ends
with the adapter that it began with, whatever is unloaded meanwhile. Not covered: what an adapter
computes (`lmstack.model.lora.terms`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from lmstack.core import ChatModel, InputError, NotFoundError, shown
from lmstack.serve.http.adapter_bodies import LoadAdapterBody, UnloadAdapterBody
from lmstack.serve.http.body import read_json
from lmstack.serve.http.documented import body_errors, documented
from lmstack.serve.http.errors import HttpError
from lmstack.serve.http.listing import json_of, model_item
from lmstack.serve.http.responses import ModelDeleted, ModelItem
from lmstack.serve.http.serving import Serving, serving_of

__all__ = ["AdapterBase", "AdapterDoor", "check_name", "router"]

router = APIRouter()


class AdapterBase(Protocol):
    """A model with an engine of its own, as `LocalModel` is."""

    def with_adapter(self, folder: Path, name: str, /) -> ChatModel: ...


class AdapterDoor:
    """Adapters of ``base`` by name, in the models of ``serving``. ``wrapped``: the guards that a
    served model stands behind. ``folder``: what they may be loaded from over HTTP; None: nothing.
    `load` may be called from any thread, one adapter at a time."""

    def __init__(
        self,
        serving: Serving,
        base: AdapterBase,
        wrapped: Callable[[ChatModel], ChatModel],
        folder: Path | None = None,
    ) -> None:
        self._serving, self._base, self._wrapped = serving, base, wrapped
        self._folder = None if folder is None else folder.resolve()
        self._names: set[str] = set()
        self.busy = asyncio.Lock()

    def load(self, name: str, folder: Path) -> None:
        """Serve the adapter in ``folder`` as ``name`` from the next request on."""
        check_name(name)
        if name in self._serving.infos():
            raise InputError(
                f"a model {shown(name)} is served already",
                hint="unload it first, or take another name",
                param="lora_name",
            )
        model = self._base.with_adapter(folder, name)
        serving, tokenizer = self._serving, getattr(model, "tokenizer", None)
        # Replaced and not changed: other threads may be looking through them.
        if tokenizer is not None:
            serving.tokenizers = {**serving.tokenizers, name: tokenizer}
        serving.models = {**serving.models, name: self._wrapped(model)}
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
        serving = self._serving
        serving.models = {n: each for n, each in serving.models.items() if n != name}
        serving.tokenizers = {n: each for n, each in serving.tokenizers.items() if n != name}

    def allowed(self, path: str) -> Path:
        """The folder that ``path`` names, symbolic links followed, within the one that is
        allowed. What is outside is not looked at, so no answer tells what there is."""
        if self._folder is None:
            raise HttpError(
                403,
                "adapters_not_allowed",
                "this server loads no adapters while it runs",
                hint="start it with --adapters-from FOLDER",
            )
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


@router.post("/v1/load_lora_adapter", **documented(LoadAdapterBody, ModelItem, None, body_errors))
async def load_lora_adapter(request: Request) -> Response:
    """Serve one more LoRA adapter of the model. For the operator."""
    door = _door(request)
    body = await read_json(request, LoadAdapterBody)
    folder = door.allowed(body.lora_path)
    # Read in a thread, so that streams go on; one at a time, so that two cannot share a name.
    async with door.busy:
        await to_thread.run_sync(door.load, body.lora_name, folder)
    serving = serving_of(request)
    return json_of(model_item(serving, body.lora_name, serving.models[body.lora_name].info))


@router.post(
    "/v1/unload_lora_adapter", **documented(UnloadAdapterBody, ModelDeleted, None, body_errors)
)
async def unload_lora_adapter(request: Request) -> Response:
    """Serve an adapter no more. For the operator."""
    door = _door(request)
    body = await read_json(request, UnloadAdapterBody)
    async with door.busy:
        door.unload(body.lora_name)
    return json_of(ModelDeleted(id=body.lora_name, object="model", deleted=True))


def _door(request: Request) -> AdapterDoor:
    """That of the server, for its operator alone."""
    if not request.state.is_operator:
        raise HttpError(
            403,
            "operator_only",
            "adapters are loaded and unloaded by the operator, and this key is not the operator's",
            hint='give the operator\'s key "owner": true in the file of --keys',
        )
    door: Any = serving_of(request).adapters
    if not isinstance(door, AdapterDoor):
        raise HttpError(
            403,
            "adapters_not_allowed",
            "this server loads no adapters while it runs",
            hint="start it with --adapters-from FOLDER, and a model on this machine",
        )
    return door
