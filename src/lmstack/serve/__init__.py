"""Models behind core's protocols, and core's protocols behind HTTP.

Names are looked up when they are used: `LocalModel` and `LocalEmbedder` run weights on this
machine and load torch; `create_app` and `run_server` know no tensors, and load a web framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmstack.serve.embedder import LocalEmbedder
    from lmstack.serve.http.app import LOCAL_HOSTS, create_app
    from lmstack.serve.http.body import MAX_BODY_BYTES, read_body, read_json
    from lmstack.serve.http.errors import error_body, error_response
    from lmstack.serve.http.guard import API_CSP, PAGE_CSP, client_of_key, security_headers
    from lmstack.serve.http.mapping import Caller
    from lmstack.serve.http.server import run_server
    from lmstack.serve.http.state import caller_of
    from lmstack.serve.http.streams import until_gone
    from lmstack.serve.local import LocalModel, open_model

__all__ = [
    "API_CSP",
    "LOCAL_HOSTS",
    "MAX_BODY_BYTES",
    "PAGE_CSP",
    "Caller",
    "LocalEmbedder",
    "LocalModel",
    "caller_of",
    "client_of_key",
    "create_app",
    "error_body",
    "error_response",
    "open_model",
    "read_body",
    "read_json",
    "run_server",
    "security_headers",
    "until_gone",
]

_HOMES = {
    "Caller": "lmstack.serve.http.mapping",
    "LocalEmbedder": "lmstack.serve.embedder",
    "LocalModel": "lmstack.serve.local",
    "caller_of": "lmstack.serve.http.state",
    "client_of_key": "lmstack.serve.http.guard",
    "open_model": "lmstack.serve.local",
    "run_server": "lmstack.serve.http.server",
    "until_gone": "lmstack.serve.http.streams",
    **dict.fromkeys(("API_CSP", "PAGE_CSP", "security_headers"), "lmstack.serve.http.guard"),
    **dict.fromkeys(("LOCAL_HOSTS", "create_app"), "lmstack.serve.http.app"),
    **dict.fromkeys(("MAX_BODY_BYTES", "read_body", "read_json"), "lmstack.serve.http.body"),
    **dict.fromkeys(("error_body", "error_response"), "lmstack.serve.http.errors"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found
