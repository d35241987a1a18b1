"""Bodies of the routes that load and unload adapters, in vLLM's shapes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lmstack.serve.http.fields import Body

__all__ = ["LoadAdapterBody", "UnloadAdapterBody"]

AdapterName = Annotated[str, Field(min_length=1, max_length=256)]


class LoadAdapterBody(Body):
    """``lora_path``: a folder, within the one that the server takes adapters from."""

    lora_name: AdapterName
    lora_path: Annotated[str, Field(min_length=1, max_length=4096)]


class UnloadAdapterBody(Body):
    lora_name: AdapterName
