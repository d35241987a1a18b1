"""Models behind core's protocols, and core's protocols behind HTTP.

Names are looked up when they are used: `LocalModel` and `LocalEmbedder` run weights on this
machine and load torch; `create_app` and `run_server` know no tensors, and load a web framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmstack.serve.embedder import LocalEmbedder
    from lmstack.serve.errors import error_body, error_response
    from lmstack.serve.guard import client_of_key
    from lmstack.serve.headers import API_CSP, PAGE_CSP, security_headers
    from lmstack.serve.http import LOCAL_HOSTS, create_app
    from lmstack.serve.intake import MAX_BODY_BYTES, read_body, read_json
    from lmstack.serve.local import LocalModel
    from lmstack.serve.mapping import Caller
    from lmstack.serve.opening import open_model
    from lmstack.serve.server import run_server
    from lmstack.serve.serving import caller_of
    from lmstack.serve.streams import until_gone

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
    "Caller": "lmstack.serve.mapping",
    "LocalEmbedder": "lmstack.serve.embedder",
    "LocalModel": "lmstack.serve.local",
    "caller_of": "lmstack.serve.serving",
    "client_of_key": "lmstack.serve.guard",
    "open_model": "lmstack.serve.opening",
    "run_server": "lmstack.serve.server",
    "until_gone": "lmstack.serve.streams",
    **dict.fromkeys(("API_CSP", "PAGE_CSP", "security_headers"), "lmstack.serve.headers"),
    **dict.fromkeys(("LOCAL_HOSTS", "create_app"), "lmstack.serve.http"),
    **dict.fromkeys(("MAX_BODY_BYTES", "read_body", "read_json"), "lmstack.serve.intake"),
    **dict.fromkeys(("error_body", "error_response"), "lmstack.serve.errors"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found
